"""Try one call of an operator on a device: is it there, is it right, is its gradient, and is it the same again?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from readiness import numerics
from readiness.accelerators.base import Accelerator
from readiness.catalogue import classes, compare, fallback, layouts, profiled, samples
from readiness.catalogue.compare import Comparison
from readiness.catalogue.layouts import Layout
from readiness.catalogue.samples import Sample
from readiness.numerics import USUAL, Strictness
from readiness.numerics.unsupported import describe
from readiness.workload import contraction
from readiness.workload.document import Phase
from readiness.workload.operators import POINTWISE, Operator
from readiness.workload.outcome import FailedError, Outcome, raised

CPU = torch.device("cpu")
#: So many of its own roundings, and of what its inputs' roundings move it by, an honest element may be off: steps in
#: between round too. Where a row hangs together, what its elements are moved by is a random walk: six deviations.
_ALONE, _IN_ROWS = (4.0, 4.0), (2.0, 6.0)
#: What they sum inside may cost an element more than its own rounding.
_SUM_INSIDE = ("norm_backward", "softmax_backward_data", "norm", "embedding_dense_backward")
Enter = Callable[[Phase, str], None]
Convert = samples.Convert


@dataclass(frozen=True, slots=True)
class Called:
    """What one call gave: its outputs, and the gradients of the inputs that want one (empty where none was asked for)."""

    outputs: list[Any]
    gradients: list[torch.Tensor | None]
    backward: bool


@dataclass(slots=True)
class Trial:
    """One operator in one dtype on one device. `enter` is told each phase, and what is special, before it begins.

    `forward_s` and `backward_s` are what the last call on the device took; `unsteady` notes calls that differed from the
    same ones before: the outcome, unless something worse is found.
    """

    accelerator: Accelerator
    operator: Operator
    dtype: torch.dtype
    enter: Enter
    strictness: Strictness = USUAL
    fallbacks: list[tuple[Phase, str, str]] = field(default_factory=list)
    unsteady: list[FailedError] = field(default_factory=list)
    forward_s: float = 0.0
    backward_s: float = 0.0

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the host: then it has no benchmark but float64."""
        return self.accelerator.device.type == "cpu"

    def on_device(self, sample: Sample, gradients: bool, layout: Layout = Layout.CONTIGUOUS, special: str = "") -> Called:
        """Call it there and wait for it. Raises FailedError where the device refuses."""
        phase, words = Phase.FORWARD, layout.value or special
        start = turn = 0.0

        def enter(entered: Phase) -> None:
            nonlocal phase, start, turn
            self.accelerator.synchronize()  # what forward left to be told is not the gradient's
            turn = time.perf_counter()
            start = start or turn
            phase = entered
            self.enter(entered, words)

        device = self.accelerator.device
        try:
            given = sample.converted(_mover(layout, device), device)
            with fallback.watched(lambda said: self.fallbacks.append((phase, words, said))):
                called = self._call(given, gradients, enter)
                self.accelerator.synchronize()
        except Exception as problem:
            self.drain()
            raise raised(problem, phase, words) from problem
        end = time.perf_counter()
        self.forward_s, self.backward_s = (turn - start, end - turn) if called.backward else (end - turn, 0.0)
        return called

    def on_host_by_profiler(self, sample: Sample) -> str | None:
        """What the profiler says of a call that was the host's work, where there is one for this device."""
        device = self.accelerator.device
        with contextlib.suppress(Exception):  # it was judged without
            return profiled.seen_on_host(
                self.accelerator, lambda: sample.converted(_mover(Layout.CONTIGUOUS, device), device),
                lambda given: self._call(given, False, lambda _: None).outputs,
            )  # fmt: skip
        return None

    def drain(self) -> None:
        """What errors are still to come are this call's and must not be laid at the next one's door."""
        for _ in range(16):
            with contextlib.suppress(Exception):
                self.accelerator.synchronize()
                return

    def on_host(self, sample: Sample, gradients: bool, convert: Convert, function: Callable[..., Any] | None = None,
                cotangent: Convert | None = None) -> Called:  # fmt: skip
        """Call it on the CPU in float64. Raises FailedError where that cannot be done."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # what integers divide to, and what factories make
        reference = function or contraction.REFERENCES.get(self.operator.base)
        try:
            return self._call(sample.converted(convert, CPU, widen=True), gradients, lambda _: None, reference, cotangent)
        except Exception as problem:
            detail = f"the float64 reference could not be computed: {describe(problem)}"
            raise FailedError(Outcome.UNJUDGED, Phase.FORWARD, detail) from problem
        finally:
            torch.set_default_dtype(default)

    def benchmark(self, sample: Sample, gradients: bool, layout: Layout = Layout.CONTIGUOUS) -> Called | None:
        """Call it on the CPU in its own dtype; None where the CPU refuses."""
        try:
            return self._call(sample.converted(_mover(layout, CPU), CPU), gradients, lambda _: None)
        except Exception:  # noqa: BLE001 - then the reference alone must do
            return None

    def _call(self, given: Sample, gradients: bool, enter: Callable[[Phase], None],
              function: Callable[..., Any] | None = None, change: Convert | None = None) -> Called:  # fmt: skip
        enter(Phase.FORWARD)
        if given.on_cpu:
            torch.default_generator.manual_seed(self.accelerator.seed)  # a device that is lost must not spoil this
        else:
            torch.manual_seed(self.accelerator.seed)
        outputs = list(samples.leaves(given.call(function or self.operator)))
        inputs = [tensor for tensor in given.tensors() if tensor.requires_grad]
        roots = [out for out in outputs if isinstance(out, torch.Tensor) and out.requires_grad]
        if not (gradients and inputs and roots):
            return Called([_plain(out) for out in outputs], [], False)
        generator = self.accelerator.generator("cotangent", self.operator.name)
        cotangents = [_cotangent(root, generator) for root in roots]
        if change is not None:
            cotangents = [change(cotangent) for cotangent in cotangents]
        enter(Phase.BACKWARD)
        found = torch.autograd.grad(roots, inputs, cotangents, allow_unused=True)
        return Called([_plain(out) for out in outputs], list(found), True)

    def judge(
        self, sample: Sample, *, gradients: bool, special: str = "", views: bool = False, offsets: bool = True
    ) -> Called:
        """Right, right again, and right on other views of the same values? Raises FailedError where not."""
        judging = _Judging(self, sample, gradients and not self.operator.unspecified, special)
        called = self.on_device(sample, judging.gradients, special=special)
        native = None if self.on_cpu else self.benchmark(sample, judging.gradients)
        judging.hold(called, native, special)
        if self.operator.unspecified:
            return called
        again = self.on_device(sample, judging.gradients, special=special)
        for phase, one, other in (
            (Phase.FORWARD, called.outputs, again.outputs), (Phase.BACKWARD, called.gradients, again.gradients)
        ):  # fmt: skip
            if not compare.identical(one, other):
                judging.hold(again, native, special)  # memory that nobody wrote to may have looked right once
                differ = "two calls with the same inputs differ"
                self.unsteady.append(FailedError(Outcome.NONDETERMINISTIC, phase, differ, special))
        if views:
            self._views(judging, sample, called, offsets)
        return called

    def hold_outputs(self, sample: Sample, outputs: list[Any], special: str) -> None:
        """Outputs on the host that a device gave for these inputs. Raises FailedError where they are not right."""
        _Judging(self, sample, False, special).hold(Called(outputs, [], False), None, special, CPU)

    def _views(self, judging: _Judging, sample: Sample, called: Called, offsets: bool) -> None:
        for layout in layouts.VIEWS:
            if not layouts.lies_differently(layout, sample) or layout in self.operator.spared:
                continue
            if layout is Layout.OFFSET and not offsets:
                continue
            try:
                other = self.on_device(sample, judging.gradients, layout)
                if not compare.identical([*other.outputs, *other.gradients], [*called.outputs, *called.gradients]):
                    judging.hold(other, None, layout.value)
            except FailedError:
                if self._cpu_takes(sample, judging, layout):
                    raise

    def _cpu_takes(self, sample: Sample, judging: _Judging, layout: Layout) -> bool:
        """Whether the CPU gives the same in this layout: what describes memory rightly does not. Asked after a failure."""

        def convert(tensor: torch.Tensor) -> torch.Tensor:
            return layouts.in_layout(layout, CPU)(samples.widened(tensor))

        try:
            judging.hold(self.on_host(sample, judging.gradients, convert), None, layout.value, CPU)
        except FailedError:
            return False
        # Where the reference is ours, only the CPU's own kernel knows what it takes.
        ours = self.operator.base in contraction.REFERENCES
        return not ours or self.benchmark(sample, judging.gradients, layout) is not None


class _Judging:
    """One sample: what a device gives for it, held against what it should give."""

    def __init__(self, trial: Trial, sample: Sample, gradients: bool, special: str) -> None:
        self.trial, self.sample, self.gradients, self.special = trial, sample, gradients, special
        self._comparison = Comparison(trial.operator.entry, trial.dtype, sample, trial.strictness)
        self._wide: Called | None = None
        self._moved: list[Called] = []

    @property
    def reference(self) -> Called:
        """The float64 one, computed where it is needed."""
        if self._wide is None:
            self._wide = self.trial.on_host(self.sample, self.gradients, samples.widened)
        return self._wide

    def hold(self, called: Called, native: Called | None, special: str, device: torch.device | None = None) -> None:
        """Raises FailedError where it is not what it should be."""
        device = device or self.trial.accelerator.device
        judge = self._comparison
        if native is not None and self._are_alike(called, native, device):
            return  # bit for bit what the CPU gives
        reference = self.reference
        wrong = judge.metadata(called.outputs, reference.outputs, None if native is None else native.outputs, device)
        wrong = wrong or judge.values(
            called.outputs, reference.outputs, native.outputs if native else None,
            lambda: [other.outputs for other in self._sensitivity()],
        )  # fmt: skip
        wrong = wrong or self._beyond_bound(called.outputs, reference.outputs, Phase.FORWARD)
        wrong = wrong or self._beyond_rounding(called.outputs, reference.outputs)
        if wrong:
            raise FailedError(Outcome.WRONG, Phase.FORWARD, wrong, special)
        if called.backward:
            wrong = judge.gradients(
                called.gradients, reference.gradients, native.gradients if native else None,
                lambda: [other.gradients for other in self._sensitivity()], reference.outputs,
            ) or self._beyond_bound(called.gradients, reference.gradients, Phase.BACKWARD)  # fmt: skip
            if wrong:
                raise FailedError(Outcome.WRONG, Phase.BACKWARD, wrong, special)

    def _are_alike(self, called: Called, native: Called, device: torch.device) -> bool:
        if self._comparison.metadata(called.outputs, native.outputs, native.outputs, device):
            return False
        return compare.identical([*called.outputs, *called.gradients], [*native.outputs, *native.gradients])

    def _beyond_bound(self, have: Sequence[Any], want: Sequence[Any], phase: Phase) -> str | None:
        """Of sums of products: what rounding cannot have done."""
        if not self.trial.operator.contraction:
            return None
        great = self.trial.on_host(
            contraction.magnitudes(self.sample), self.gradients, samples.widened, cotangent=torch.abs
        )  # fmt: skip
        sizes = great.outputs if phase is Phase.FORWARD else great.gradients
        count = contraction.terms(self.sample)
        for out, reference, size in zip(have, want, sizes, strict=True):
            if all(isinstance(item, torch.Tensor) and item.is_floating_point() for item in (out, reference, size)):
                wrong = contraction.excess(
                    out, reference, size, count, self.trial.operator, self.trial.strictness.sums
                )
                if wrong:
                    return wrong
        return None

    def _beyond_rounding(self, have: Sequence[Any], want: Sequence[Any]) -> str | None:
        """An element that is off by more than some roundings of it and of its inputs, in units of its own or its row's."""
        operator = self.trial.operator
        loose = operator.unspecified or operator.entry.within(classes.RANDOM) or operator.base.endswith(_SUM_INSIDE)
        if loose or operator.exact or operator.contraction or operator.on_lists:
            return None
        alone = operator.base in POINTWISE
        moved = [other.outputs for other in self._sensitivity()]
        for position, (out, reference) in enumerate(zip(have, want, strict=True)):
            if not (isinstance(out, torch.Tensor) and out.is_floating_point() and reference.is_floating_point()):
                continue
            shift = torch.stack([(other[position] - reference).abs() for other in moved]).nan_to_num(0.0, 0.0, 0.0)
            by_row = not alone and reference.ndim > 0  # by chance a single one stands still
            shift = shift.square().mean(0).mean(-1, keepdim=True).sqrt() if by_row else shift.amax(0)
            unit = max(compare.roundoff(self.trial.dtype), compare.roundoff(out.dtype))
            size = torch.where(torch.isfinite(reference), reference.abs(), 0.0)
            own, through = _ALONE if alone else _IN_ROWS
            libm = classes.LIBM if self.trial.dtype is torch.float32 and operator.base in classes.ELEMENTARY else 1.0
            leave = libm * self.trial.strictness.roundoffs * (own * unit * size + through * shift)
            ratio = numerics.bound_ratio(out, reference, leave)
            if ratio > 1:
                return f"an element is off {ratio:.3g} times what its own roundings and its inputs' may do"
        return None

    def _sensitivity(self) -> list[Called]:
        """The reference with inputs moved by a rounding, several times; computed once."""
        if not self._moved:
            generator = self.trial.accelerator.generator("sensitivity", self.trial.operator.name)
            convert = samples.perturbed(compare.roundoff(self.trial.dtype), generator)
            run = partial(self.trial.on_host, self.sample, self.gradients, convert, cotangent=convert)
            self._moved = [run() for _ in range(samples.PERTURBATIONS)]
        return self._moved


def _mover(layout: Layout, device: torch.device) -> Convert:
    """To the device as it lies on the host, strides and all; or in another layout."""
    return _moved_as_it_lies(device) if layout is Layout.CONTIGUOUS else layouts.in_layout(layout, device)


def _moved_as_it_lies(device: torch.device) -> Convert:
    def convert(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_contiguous():
            return tensor.clone().to(device)
        room = tensor.untyped_storage().nbytes() // tensor.itemsize
        base = torch.as_strided(tensor, (room,), (1,), 0).clone().to(device)
        return base.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    return convert


def _plain(out: Any) -> Any:
    return out.detach() if isinstance(out, torch.Tensor) else out


def _cotangent(root: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal values in the dtype and on the device of `root`; such as every floating dtype can hold."""
    # What a narrow device rounds, the wide reference must start from as well.
    values = torch.randn(root.shape, generator=generator, dtype=torch.float32).to(torch.bfloat16)
    return values.to(root.dtype).to(root.device)
