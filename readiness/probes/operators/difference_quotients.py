"""Difference quotients: gradients of the float64 reference held against its own results nearby.

The reference's gradient comes from the formula that the device uses too: a mistake in it agrees with itself. What the
function really does when its inputs move says whether it is one. Where it has a kink, jumps or cannot be computed
nearby, nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from readiness.probes.operators import chosen_values, op_semantics, relations, samples
from readiness.probes.operators.known_defects import DIFFERENCES
from readiness.probes.operators.op_call import CPU
from readiness.probes.operators.op_trial import OpTrial
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase
from readiness.probes.operators.samples import Sample

#: Steps of the arguments, as shares of their size: errors of the larger one are four and sixteen times the other's.
_STEP, _RATIO = 2.0**-15, 4.0
#: Arguments smaller than this move as if they were so large.
_LEAST_SIZE = 2.0**-8
#: A gradient is wrong that is farther off than this share of itself, where both steps agree to a tenth of that.
_WRONG, _AGREE = 1e-3, 1e-4
#: So much may the bend of a smooth function differ from what the smaller step says of it.
_CURVED = 0.25
#: So far from each other steps to both sides may be where there is no kink.
_KINK = 0.05
_WIDE = (torch.float64, torch.complex128)
#: What rounding leaves of a difference, in roundings of the results.
_NOISE = 64 * 2.0**-53


@dataclass(frozen=True, slots=True)
class _Quotients:
    """Difference quotients, and what rounding may have made of them."""

    value: torch.Tensor
    noise: torch.Tensor
    sure: torch.Tensor

    def refutes(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return where the gradient is certainly wrong."""
        size = torch.maximum(self.value.abs(), gradient.abs())
        return self.sure & gradient.isfinite() & ((gradient - self.value).abs() > _WRONG * size + self.noise)


def refuted(trial: OpTrial, drawn: Sequence[Sample]) -> Iterator[FailedError]:
    """Yield each disagreement of the reference's gradient with its difference quotient."""
    if trial.entry.within(op_semantics.NO_QUOTIENTS):
        return
    if relations.elementwise(trial):
        for _, sample in chosen_values.samples(trial, drawn, True):
            yield from _by_element(trial, sample)
    yield from _along(trial, drawn[0])


def _by_element(trial: OpTrial, sample: Sample) -> Iterator[FailedError]:
    """Compare gradients element by element: each result depends on one element of each input alone."""
    inputs = [position for position, tensor in enumerate(sample.tensors()) if tensor.requires_grad]
    found = _Reference(trial, sample)
    if found.gradients is None or len(found.weighed) != 1:
        return
    # A tail may be what is left of one and nearly -1, times an argument: its rounding is that of these.
    terms = 1.0 + sum(tensor.detach().double().abs() for tensor in sample.tensors() if not tensor.is_complex())
    for number, position in enumerate(inputs):
        gradient = found.gradients[number]
        if gradient is None or gradient.shape != found.weighed[0].shape:
            continue
        values = sample.tensors()[position].detach().double()
        steps = _STEP * values.abs().clamp_min(_LEAST_SIZE)
        quotients = _quotients(lambda share, at=position, by=steps: found.moved({at: share * by}), steps, terms)
        if quotients is None:
            continue
        wrong = quotients.refutes(gradient)
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0])
            given = ", ".join(f"{float(tensor.detach()[place]):.9g}" for tensor in sample.tensors())
            yield _failure(float(gradient[place]), float(quotients.value[place]), f"at {given} ")
            return


def _along(trial: OpTrial, sample: Sample) -> Iterator[FailedError]:
    """Compare the derivative along a random direction of all inputs."""
    found = _Reference(trial, sample)
    if found.gradients is None:
        return
    generator = trial.accelerator.generator("difference quotients", trial.entry.name)
    inputs = [position for position, tensor in enumerate(sample.tensors()) if tensor.requires_grad]
    steps: dict[int, torch.Tensor] = {}
    along = torch.zeros((), dtype=torch.float64)
    size = 0.0
    for position, gradient in zip(inputs, found.gradients, strict=True):
        tensor = samples.widened(sample.tensors()[position].detach())
        signs = torch.randint(0, 2, tensor.shape, generator=generator).to(torch.float64) * 2 - 1
        steps[position] = tensor.abs().clamp_min(_LEAST_SIZE) * signs * _STEP
        if gradient is not None:
            terms = (gradient.conj() * steps[position]).real / _STEP
            along, size = along + terms.sum(), size + float(terms.square().sum())
    if not math.isfinite(size):
        return
    one = torch.full((), _STEP, dtype=torch.float64)
    quotients = _quotients(lambda share: _summed(found.moved({at: share * by for at, by in steps.items()})), one)
    if quotients is None:
        return
    spread = _WRONG * size**0.5  # what cancels in the sum
    if bool(quotients.refutes(along)) and abs(float(along - quotients.value)) > spread:
        yield _failure(float(along), float(quotients.value), "along a random direction ")


def _summed(parts: list[torch.Tensor] | None) -> tuple[torch.Tensor, torch.Tensor] | None:
    if parts is None:
        return None
    return sum((part.sum() for part in parts), torch.zeros(())), sum((part.abs().sum() for part in parts), torch.zeros(()))


def _quotients(moved: Any, step: torch.Tensor, terms: torch.Tensor | float = 0.0) -> _Quotients | None:
    """Return quotients by steps of two sizes to both sides; None where the function cannot be computed there.

    `terms` is the size of what may cancel in the results.
    """
    found = []
    for share in (0.0, 1.0, -1.0, 1 / _RATIO, -1 / _RATIO):
        parts = moved(share)
        if parts is None:
            return None
        found.append(parts if isinstance(parts, tuple) else (parts[0], parts[0].abs()))
    (middle, size), (far, _), (far_back, _), (near, _), (near_back, _) = found
    wide = (far - far_back) / (2 * step)
    narrow = (near - near_back) / (2 * step / _RATIO)
    value = narrow + (narrow - wide) / (_RATIO**2 - 1)
    noise = _NOISE * (size + terms) * _RATIO / step
    forward, backward = (near - middle) * _RATIO / step, (middle - near_back) * _RATIO / step
    sure = (wide - narrow).abs() <= _AGREE * narrow.abs() + noise
    bend, wide_bend = forward - backward, (far - middle) / step - (middle - far_back) / step
    sure &= bend.abs() <= _KINK * narrow.abs() + noise
    # A curve bends four times as much over four times the step; many small jumps look smooth, and do not.
    sure &= (wide_bend - _RATIO * bend).abs() <= _CURVED * wide_bend.abs() + _WRONG * narrow.abs() + noise
    return _Quotients(value, noise, sure & value.isfinite() & (noise < _AGREE * narrow.abs() + 1e-6 * size))


class _Reference:
    """The float64 reference of one call: its gradients, and its results at moved inputs, weighed by the cotangents."""

    def __init__(self, trial: OpTrial, sample: Sample) -> None:
        self._trial, self._sample = trial, sample
        self._wrapped = _wrapped(trial)
        self.gradients: list[torch.Tensor | None] | None = None
        self._cotangents: list[tuple[int, torch.Tensor]] = []
        self.weighed: list[torch.Tensor] = []
        given, results = self._call({}, gradients=True)
        if given is None:
            return
        roots = [(place, out) for place, out in enumerate(results) if isinstance(out, torch.Tensor) and out.requires_grad]
        inputs = [tensor for tensor in given.tensors() if tensor.requires_grad]
        if not roots or not inputs or any(root.dtype not in _WIDE for _, root in roots):
            return  # what is rounded to less is a staircase
        try:
            self._cotangents = [
                (place, trial.caller.cotangent(number, root)) for number, (place, root) in enumerate(roots)
            ]
            found = torch.autograd.grad(
                [root for _, root in roots], inputs, [cotangent for _, cotangent in self._cotangents], allow_unused=True
            )
        except Exception:  # noqa: BLE001 - of what has no gradient in float64 nothing can be said
            return
        self.weighed = self._weigh(results)
        self.gradients = list(found)

    def moved(self, steps: dict[int, torch.Tensor]) -> list[torch.Tensor] | None:
        """Return the weighed results where the tensors at these positions are moved; None if it cannot be computed."""
        given, results = self._call(steps, gradients=False)
        return None if given is None else self._weigh(results)

    def _weigh(self, results: list[Any]) -> list[torch.Tensor]:
        return [(results[place].detach() * cotangent.conj()).real for place, cotangent in self._cotangents]

    def _call(self, steps: dict[int, torch.Tensor], *, gradients: bool) -> tuple[Sample | None, list[Any]]:
        positions = {id(tensor): steps.get(place) for place, tensor in enumerate(self._sample.tensors())}
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            given = self._sample.converted(samples.widened, CPU, widen=True)
            with torch.no_grad():
                for tensor, original in zip(given.tensors(), self._sample.tensors(), strict=True):
                    if (step := positions[id(original)]) is not None:
                        tensor.add_(step)
            torch.default_generator.manual_seed(self._trial.caller.seed)
            with torch.set_grad_enabled(gradients):
                result = given.call(self._wrapped)
            plain = given.through is None
            comparable = samples.leaves(given.source.output_process_fn_grad(result) if plain else result)
            return given, list(comparable)
        except Exception:  # noqa: BLE001 - then nothing can be said
            return None, []
        finally:
            torch.set_default_dtype(default)


def _wrapped(trial: OpTrial) -> Any:
    """Return the operator as the database differentiates it, which makes its input what it must be (symmetric, say)."""
    info = trial.entry.info
    wrapper = getattr(info, "gradcheck_wrapper", None)
    return info if wrapper is None else lambda *arguments, **keywords: wrapper(info, *arguments, **keywords)


def _failure(found: float, due: float, where: str) -> FailedError:
    detail = f"{where}the gradient in float64 is {found:.6g}, and the function changes by {due:.6g}"
    return FailedError(Outcome.WRONG, Phase.BACKWARD, detail, DIFFERENCES)
