"""Forward-mode differentiation: derivatives along a direction of the inputs, computed with the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad

from readiness.probes.operators import comparison, layouts, op_semantics, samples
from readiness.probes.operators.layouts import Layout
from readiness.probes.operators.op_call import CPU, seed_all
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.op_trial import OpTrial
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase, SweepResult, failed
from readiness.probes.operators.samples import Sample

Tangents = list[torch.Tensor | None]


def claims(entry: Entry, dtype: torch.dtype) -> bool:
    """True if PyTorch claims forward mode for the operator, and its result can be compared."""
    loose = entry.within(op_semantics.RANDOM | op_semantics.UNORDERED | op_semantics.UNSPECIFIED)
    return bool(getattr(entry.info, "supports_forward_ad", False)) and entry.claims_backward(dtype) and not loose


def judged(trial: OpTrial, first: Callable[[], Sample], result: SweepResult) -> SweepResult:
    """Return the result of a trial, with that of forward mode on its first sample.

    Where forward failed it is due and lost. Where the reference or the CPU itself cannot, or is wrong, nobody need.
    """
    if not claims(trial.entry, trial.dtype):
        return result
    if not result.outcome.right and result.phase is Phase.FORWARD:
        return replace(result, forward_mode=False)
    try:
        judged = _Directional(trial, first()).right()
    except FailedError as failure:
        return replace(result, forward_mode=False, forward_mode_detail=failure.detail)
    return replace(result, forward_mode=True) if judged else result


@dataclass(slots=True)
class _Directional:
    """Sample differentiated along one direction on the device, on the CPU and in float64."""

    trial: OpTrial
    sample: Sample
    _drawn: dict[int, torch.Tensor] = field(default_factory=dict)

    def right(self) -> bool:
        """Return False if it cannot be judged, or is wrong by a known defect of PyTorch's. Raises FailedError."""
        device = self.trial.accelerator.device
        self.trial.enter(Phase.FORWARD_MODE, self.sample.label)
        try:
            reference = self._wide(samples.widened)
        except Exception:  # noqa: BLE001 - PyTorch itself has no formula for these arguments
            return False
        native = None if device.type == "cpu" else self._native()
        try:
            moved = layouts.in_layout(Layout.CONTIGUOUS, device)
            found = self._call(self.sample.converted(moved, device), None)
            self.trial.accelerator.synchronize()
        except Exception as problem:
            failure = failed(problem, Phase.FORWARD_MODE, "")
            if native is None or failure.outcome is Outcome.UNJUDGED:
                return False
            raise failure from problem
        wrong = self._wrong(found, reference, native)
        if wrong is None:
            return True
        if native is None or not self._wrong(native, reference, None):
            self.trial.excuse(FailedError(Outcome.WRONG, Phase.FORWARD_MODE, wrong, self.sample.label))
        return False

    def _wrong(self, found: Tangents, reference: Tangents, native: Tangents | None) -> str | None:
        judge = comparison.Comparison(self.trial.entry, self.trial.dtype, self.sample, self.trial.strictness)
        if judge.chooses:
            return None
        wrong = judge.gradients(found, reference, native, self._moved, [out for out in reference if out is not None])
        return wrong.replace("gradient", "derivative", 1) if wrong else None

    def _moved(self) -> Iterator[Tangents]:
        generator = self.trial.accelerator.generator("sensitivity", self.trial.entry.name)
        convert = samples.perturbed(comparison.roundoff(self.trial.dtype), generator)
        for _ in range(samples.perturbations(self.sample)):
            yield self._wide(convert)

    def _native(self) -> Tangents | None:
        try:
            return self._call(self.sample.converted(layouts.in_layout(Layout.CONTIGUOUS, CPU), CPU), None)
        except Exception:  # noqa: BLE001 - then the reference alone must do
            return None

    def _wide(self, convert: samples.Convert) -> Tangents:
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return self._call(self.sample.converted(convert, CPU, widen=True), convert)
        finally:
            torch.set_default_dtype(default)

    def _call(self, given: Sample, move: Callable[[torch.Tensor], torch.Tensor] | None) -> Tangents:
        """Return the derivative of each floating output, None if it has none. Directions are moved as inputs are."""
        seed_all(self.trial.accelerator, self.trial.caller.seed)
        wanted = [tensor for tensor in given.tensors() if tensor.requires_grad]
        with forward_ad.dual_level():
            duals: dict[int, torch.Tensor] = {}
            for position, tensor in enumerate(wanted):
                direction = self._direction(position, tensor)
                direction = direction if move is None else move(direction)
                direction = direction.to(tensor.device, tensor.dtype)
                duals[id(tensor)] = forward_ad.make_dual(tensor.detach(), direction)  # type: ignore[no-untyped-call]

            def change(leaf: Any) -> Any:
                if not isinstance(leaf, torch.Tensor):
                    return leaf
                return duals.get(id(leaf), leaf.detach())

            call = given.having(
                samples.map_leaves(change, given.arguments), samples.map_leaves(change, given.keywords)
            )
            outputs = samples.leaves(call.source.output_process_fn_grad(call.call(self.trial.entry.info)))
            return [_tangent(out) for out in outputs if isinstance(out, torch.Tensor) and _differentiable(out)]

    def _direction(self, position: int, tensor: torch.Tensor) -> torch.Tensor:
        """Return standard normal values that the dtype under test can hold, the same on every device."""
        if position not in self._drawn:
            generator = self.trial.accelerator.generator("direction", self.trial.entry.name, position)
            kind = torch.complex64 if tensor.is_complex() else torch.float32
            values = torch.randn(tensor.shape, generator=generator, dtype=kind)
            self._drawn[position] = values if tensor.is_complex() else values.to(self.trial.dtype)
        return self._drawn[position]


def _differentiable(out: torch.Tensor) -> bool:
    return out.is_floating_point() or out.is_complex()


def _tangent(out: torch.Tensor) -> torch.Tensor | None:
    tangent: torch.Tensor | None = forward_ad.unpack_dual(out).tangent  # type: ignore[no-untyped-call]
    # One that PyTorch leaves out is zero, and some devices write the zeros down.
    return torch.zeros_like(out.detach()) if tangent is None else tangent.detach().clone()
