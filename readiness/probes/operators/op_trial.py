"""Trial of one operator in one dtype: on the device, on the CPU in the same dtype, and on the CPU in float64.

The database's operators (`opinfo_trial`) and the calls recorded of a model (`readiness.probes.model_operators.trial`) are
tried by it alike; `op_oracle` says whether what the device gave is right.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics import USUAL, Strictness
from readiness.numerics.unsupported import describe
from readiness.probes.operators import comparison, cpu_fallback, known_defects, layouts, profiler_traffic, samples
from readiness.probes.operators.known_defects import KnownDefect
from readiness.probes.operators.layouts import Layout
from readiness.probes.operators.op_call import CPU, CallResult, OpCaller
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase, failed
from readiness.probes.operators.samples import Convert, Sample
from readiness.probes.operators.seeded_selection import USUAL as USUAL_ROTATION
from readiness.probes.operators.seeded_selection import Rotation

#: So many errors of one operator may still be on their way.
_PENDING_ERRORS = 16

Enter = Callable[[Phase, str], None]


@dataclass(slots=True)
class OpTrial:
    """Trial of one operator in one dtype on one device.

    `enter` is called with each phase, and with what is special about the call, before it begins. `place` converts inputs
    for a layout and a device; `reference` is called in float64 in place of the operator; `rotation` is what the seed chose
    for this run. `fallbacks` collects warnings that something ran on the host, `nondeterministic` calls that differed from
    the same ones before: the outcome, unless something worse is found. `known` collects defects of PyTorch's own that it
    showed, `doubts` what its float64 reference gets wrong and nobody knew. `overwritten` says which argument the last
    watched call on the device wrote to though it must only read it; `forward_s` and `backward_s` are what the last one took.
    """

    accelerator: Accelerator
    entry: Entry
    dtype: torch.dtype
    enter: Enter
    strictness: Strictness = USUAL
    place: Callable[[Layout, torch.device], Convert] = layouts.in_layout
    reference: Callable[..., Any] | None = None
    rotation: Rotation = USUAL_ROTATION
    fallbacks: list[tuple[Phase, str, str]] = field(default_factory=list)
    nondeterministic: list[FailedError] = field(default_factory=list)
    known: list[tuple[KnownDefect, FailedError]] = field(default_factory=list)
    doubts: list[FailedError] = field(default_factory=list)
    overwritten: str = ""
    forward_s: float = 0.0
    backward_s: float = 0.0
    caller: OpCaller = field(init=False)

    def __post_init__(self) -> None:
        """Set the seed, which is the same in every process that tries this operator in this dtype in this run."""
        seed = self.accelerator.generator("operators", self.entry.name, self.dtype).initial_seed()
        self.caller = OpCaller(self.accelerator, self.entry, self.dtype, seed)

    @property
    def on_cpu(self) -> bool:
        """True if the device is the host; then only float64 is a reference."""
        return self.accelerator.device.type == "cpu"

    def on_device(
        self, sample: Sample, gradients: bool, layout: Layout = Layout.CONTIGUOUS, *, watched: bool = False
    ) -> CallResult:
        """Move the inputs, call the operator, and synchronise. Raises FailedError for the device's errors.

        A `watched` call is followed by a look at its inputs.
        """
        phase, where = Phase.FORWARD, layout.value or sample.label
        start = turn = 0.0

        def enter(entered: Phase) -> None:
            nonlocal phase, start, turn
            self.accelerator.synchronize()  # an error that forward left behind is not the gradient's
            turn = time.perf_counter()
            start = start or turn
            phase = entered
            self.enter(entered, where)

        device = self.accelerator.device
        try:
            given = sample.converted(self.place(layout, device), device)
            warned = cpu_fallback.watched(lambda warning: self.fallbacks.append((phase, where, warning)))
            with warned, _threads(sample.threads):
                called = self.caller.call(given, gradients, enter)
                self.accelerator.synchronize()
            changed = _changed(sample, given) if watched else []
        except Exception as problem:
            self.flush_async_errors()
            raise failed(problem, phase, where) from problem
        end = time.perf_counter()
        self.forward_s, self.backward_s = (turn - start, end - turn) if called.backward else (end - turn, 0.0)
        if watched:
            self.overwritten = self._overwritten(sample, gradients, layout, changed) if changed else ""
        return called.detached()

    def _overwritten(self, sample: Sample, gradients: bool, layout: Layout, changed: list[int]) -> str:
        """Return in words which of the changed inputs nobody was to write to; empty if there is none, or nobody knows.

        Operators that write to an argument do so on the CPU as well: in the dtype under test, or in float64 if the CPU is
        what is tried.
        """
        place = self.place(layout, CPU)

        def widened(tensor: torch.Tensor) -> torch.Tensor:
            return place(samples.widened(tensor))

        host = sample.converted(widened if self.on_cpu else place, CPU, widen=self.on_cpu)
        try:
            self.caller.call(host, gradients, _unannounced)
        except Exception:  # noqa: BLE001 - then nobody knows what may be written to
            return ""
        written = set(_changed(sample, host))
        found = [number for number in changed if number not in written]
        if not found:
            return ""
        names = ", ".join(str(number) for number in found)
        return f"it writes to what it must only read: tensor {names} of {len(sample.tensors())} among its inputs"

    def on_host(
        self, sample: Sample, gradients: bool, convert: Convert, move: Convert | None = None
    ) -> CallResult:
        """Call the operator on the CPU with converted inputs. Raises FailedError if that fails."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # what integers divide to, and what factories make
        try:
            given = sample.converted(convert, CPU, widen=True)
            return self.caller.call(given, gradients, _unannounced, move, self.reference).detached()
        except Exception as problem:
            detail = f"the float64 reference could not be computed: {describe(problem)}"
            raise FailedError(Outcome.UNJUDGED, Phase.FORWARD, detail) from problem
        finally:
            torch.set_default_dtype(default)

    def benchmark(self, sample: Sample, gradients: bool, layout: Layout = Layout.CONTIGUOUS) -> CallResult | None:
        """Call it on the CPU in its own dtype; None where the CPU refuses, or is known to be wrong."""
        if known_defects.of_call(self.entry, self.dtype, layout.value or sample.label) is not None:
            return None
        try:
            return self.caller.call(sample.converted(self.place(layout, CPU), CPU), gradients, _unannounced).detached()
        except Exception:  # noqa: BLE001 - then the reference alone must do
            return None

    def perturbed(self, sample: Sample, gradients: bool) -> Iterator[CallResult]:
        """Yield reference results with inputs and cotangents moved by one rounding of the dtype under test."""
        generator = self.accelerator.generator("sensitivity", self.entry.name)
        convert = samples.perturbed(comparison.roundoff(self.dtype), generator)
        for _ in range(samples.perturbations(sample)):
            yield self.on_host(sample, gradients, convert, convert)

    def excuse(self, failure: FailedError) -> None:
        """Record a failure that is a known defect of PyTorch's kernels here. Raises any other."""
        known = known_defects.excusing(self.accelerator, self.entry, self.dtype, failure)
        if known is None:
            raise failure
        self.known.append((known, failure))

    def doubt(self, failure: FailedError) -> None:
        """Record what the float64 reference gets wrong: a known defect of PyTorch's, or one that nobody knew."""
        known = known_defects.excusing(self.accelerator, self.entry, self.dtype, failure)
        if known is None:
            self.doubts.append(failure)
        else:
            self.known.append((known, failure))

    def host_work_reason(self, sample: Sample) -> str | None:
        """Return why a forward call was computed on the host, according to the profiler; None if unknown."""
        place = self.place(Layout.CONTIGUOUS, self.accelerator.device)
        with contextlib.suppress(Exception):  # it was judged without
            return profiler_traffic.host_work_reason(
                self.accelerator, lambda: sample.converted(place, self.accelerator.device),
                lambda given: self.caller.call(given, False, _unannounced).outputs,
            )  # fmt: skip
        return None

    def flush_async_errors(self) -> None:
        """Wait for late errors of this operator, so that none is attributed to the next one."""
        for _ in range(_PENDING_ERRORS):
            with contextlib.suppress(Exception):  # the operator has failed already
                self.accelerator.synchronize()
                return


def _changed(sample: Sample, given: Sample) -> list[int]:
    """Return the numbers, from 1, of the tensors of a call that are no longer what was given."""
    return [
        number
        for number, (before, after) in enumerate(zip(sample.tensors(), given.tensors(), strict=True), 1)
        if before is not after and not _keeps(before.detach(), after.detach())
    ]


def _keeps(before: torch.Tensor, after: torch.Tensor) -> bool:
    """True if the values are the same; what was widened for float64 is compared as it was given."""
    return before.shape == after.shape and comparison.identical([before], [after.to(before.dtype)])


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let the host's kernels use so many threads; one is what they have anyway, and what references are computed on."""
    if count == 1:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def _unannounced(phase: Phase) -> None:
    """Ignore a phase: those on the host are not announced."""
