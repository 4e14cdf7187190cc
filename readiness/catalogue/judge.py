"""Try one operator in one dtype on one device: the outcome, in which phase and circumstances, and what was seen."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from readiness.accelerators.base import Accelerator
from readiness.catalogue import cases, classes, fallback, forward_mode, layouts, profiled, provenance, samples, shapes
from readiness.catalogue.calls import CPU, Called, Caller
from readiness.catalogue.judging import Judging, shows
from readiness.catalogue.layouts import Layout
from readiness.catalogue.op_entry import Entry
from readiness.catalogue.outcomes import FailedError, Outcome, Phase, Result, failed
from readiness.catalogue.provenance import Provenance, Recorder
from readiness.catalogue.samples import Drawer, Sample
from readiness.numerics import USUAL, Strictness
from readiness.numerics.unsupported import describe

#: So many further samples are tried where results are empty.
_SPARE = 4
#: So many errors of one operator may be waiting to be told.
_PENDING = 16

Enter = Callable[[Phase, str], None]
#: Whose kernels ran, by operator and whether backward too: the same in every dtype, so each process asks once.
Provenances = dict[tuple[str, bool], tuple[Provenance, str]]


@dataclass(frozen=True, slots=True)
class Manner:
    """How all operators of a sweep are tried: so many samples of each, held to these limits, with forward mode too."""

    samples: int = 1
    strictness: Strictness = USUAL
    forward_mode: bool = False


class Trials:
    """Tries operators on one device in this process; `enter` is told as in `Trial`."""

    def __init__(self, accelerator: Accelerator, enter: Enter, manner: Manner) -> None:
        self._accelerator, self._enter, self._manner = accelerator, enter, manner
        self._provenances: Provenances = {}
        self._drawer = Drawer()

    def judge(
        self, entry: Entry, dtype: torch.dtype, *, thorough: bool, gradients: bool = True, offsets: bool = True
    ) -> Result:
        """Try one operator in one dtype; `thorough`: whatever is the same in all dtypes too. Without `offsets` at none."""
        trial = Trial(
            self._accelerator, entry, dtype, self._enter, self._drawer, self._provenances, self._manner.strictness, offsets
        )
        result = trial.judge(self._manner.samples, thorough=thorough, gradients=gradients)
        if self._manner.forward_mode and gradients and result.outcome is not Outcome.UNJUDGED:
            return forward_mode.judged(trial, result)
        return result


@dataclass(frozen=True, slots=True)
class Trial:
    """One operator in one dtype, about to be tried. `enter` is told each phase, and how inputs lie, before it begins."""

    accelerator: Accelerator
    entry: Entry
    dtype: torch.dtype
    enter: Enter
    drawer: Drawer = field(default_factory=Drawer)
    provenances: Provenances = field(default_factory=dict)
    strictness: Strictness = USUAL
    offsets: bool = True
    _fallbacks: list[tuple[Phase, str, str]] = field(default_factory=list)
    _callers: list[Caller] = field(default_factory=list)
    _unsteady: list[FailedError] = field(default_factory=list)

    def note(self, unsteady: FailedError) -> None:
        """That it differs from call to call: its outcome, unless something worse is found."""
        self._unsteady.append(unsteady)

    @property
    def seed(self) -> int:
        """The same in every process that tries this operator in this dtype in this run."""
        return self.accelerator.generator("operators", self.entry.name, self.dtype).initial_seed()

    @property
    def caller(self) -> Caller:
        """How it is called, on whichever device."""
        if not self._callers:
            self._callers.append(Caller(self.accelerator, self.entry, self.dtype, self.seed))
        return self._callers[0]

    def drawn(self, gradients: bool) -> list[Sample]:
        """The database's samples for it, the same at every call."""
        return self.drawer.draw(self.entry, self.dtype, seed=self.seed, gradients=gradients)

    def judge(self, count: int, *, thorough: bool = True, gradients: bool = True) -> Result:
        """Try `count` samples that have a result to look at, or as many as there are; the first failure is the outcome.

        The first of them, which is the largest, is tried in other layouts too. Without `gradients` forward alone is tried.
        """
        gradients &= self.entry.claims_backward(self.dtype)
        try:
            drawn = self.drawn(gradients)
        except Exception as problem:  # noqa: BLE001 - the database's own code; the CPU made no input, no device was asked
            return Result(Outcome.UNJUDGED, Phase.FORWARD, f"no sample: {describe(problem)}", gradients)
        judged_backward = False
        try:
            differentiate = gradients and not self.entry.within(classes.UNSPECIFIED)
            for judged in self._judged(drawn, count, differentiate):
                judged_backward |= judged.backward
            if thorough:
                self._judge_further(drawn, differentiate)
            self.accelerator.synchronize()
        except FailedError as failure:
            self._drain()
            worse = self._forward_failure(drawn, count, thorough) if failure.phase is Phase.BACKWARD else None
            worst = worse or failure
            if worst.outcome is Outcome.UNJUDGED and self._unsteady:
                worst = self._unsteady[0]
            return worst.result(gradients)
        if self._unsteady:
            return self._unsteady[0].result(gradients)
        if self._fallbacks:
            phase, layout, said = self._fallbacks[0]
            return Result(Outcome.FALLBACK, phase, said, judged_backward, layout)
        return self._sound(drawn[0], judged_backward)

    def _forward_failure(self, drawn: Sequence[Sample], count: int, thorough: bool) -> FailedError | None:
        """What else is wrong where no gradient is asked for: an operator whose gradient has failed may still serve."""
        try:
            for _ in self._judged(drawn, count, False):
                pass
            if thorough:
                self._judge_further(drawn, False)
            self.accelerator.synchronize()
        except FailedError as failure:
            self._drain()
            return failure
        return None

    def _judged(self, drawn: Sequence[Sample], count: int, gradients: bool) -> Iterator[Called]:
        """What each sample gave, which was right. Raises FailedError."""
        telling = 0
        for sample in drawn[: count + _SPARE]:
            judging = Judging(self, sample, gradients)
            called = judging.judge()
            yield called
            if shows(called) and not telling:
                judging.judge_again(called)
            elif self.entry.within(classes.RANDOM):
                judging.repeat(called)
            telling += shows(called)
            if telling == count:
                break

    def _judge_further(self, drawn: Sequence[Sample], gradients: bool) -> None:
        """The same operator in other circumstances. Raises FailedError."""
        torch.default_generator.manual_seed(self.seed)
        sizes = shapes.of(self.entry.name, self.dtype, gradients=gradients)
        for sample in (*cases.further(self.entry, self.dtype, drawn, drawn[0]), *sizes):
            judging = Judging(self, sample, gradients)
            try:
                judging.judge()
            except FailedError as failure:
                if failure.outcome is Outcome.UNJUDGED or not judging.is_the_cpus_to_give():
                    continue
                raise

    def _sound(self, sample: Sample, backward: bool) -> Result:
        """Right and repeatable: whose kernels did it?"""
        known = self.provenances
        if (self.entry.name, backward) not in known:
            known[self.entry.name, backward] = self._provenance(sample, backward)
        whose, name = known[self.entry.name, backward]
        match whose:
            case Provenance.NATIVE:
                return Result(Outcome.NATIVE, Phase.FORWARD, name, backward)
            case Provenance.FALLBACK:
                return Result(Outcome.FALLBACK, Phase.FORWARD, name, backward)
            case _:
                return Result(Outcome.DECOMPOSED, Phase.FORWARD, "", backward)

    def _provenance(self, sample: Sample, backward: bool) -> tuple[Provenance, str]:
        # A call of its own: with a listener PyTorch chooses other formulas for some gradients, which round otherwise.
        device = self.accelerator.device
        recorder = Recorder()
        forward: tuple[str, ...] = ()

        def enter(phase: Phase) -> None:
            nonlocal forward
            if phase is Phase.BACKWARD:
                forward = recorder.seen

        hosted: str | None = None
        with contextlib.suppress(Exception):  # it was judged without; what was heard until then is what there is
            given = sample.converted(layouts.in_layout(Layout.CONTIGUOUS, device), device)
            # Of gradients only a fallback is to be told: few devices have one, and few operators are worth another call.
            asked = backward and self.entry.core and provenance.falls_back(device.type)
            with warnings.catch_warnings(action="ignore"), recorder:
                self.caller.call(given, asked, enter)
            hosted = profiled.seen_on_host(
                self.accelerator, lambda: given, lambda given: self.caller.call(given, False, _silent).outputs
            )
        if hosted is not None:
            return Provenance.FALLBACK, hosted
        whose, name = provenance.of_call(device.type, self.entry.info.aten_name, forward or recorder.seen, recorder.seen)
        if whose is Provenance.FALLBACK:
            return whose, f"{name} has no kernel of this device's and runs by its fallback"
        return whose, name

    def _drain(self) -> None:
        """What errors are still to come are this operator's and must not be laid at the next one's door."""
        for _ in range(_PENDING):
            with contextlib.suppress(Exception):  # the operator has failed already
                self.accelerator.synchronize()
                return

    def on_device(self, sample: Sample, gradients: bool, layout: Layout = Layout.CONTIGUOUS) -> Called:
        """Move the inputs there, call it, and wait for it: an error that comes late is still this call's."""
        phase = Phase.FORWARD
        where = str(layout) or sample.label

        def enter(entered: Phase) -> None:
            nonlocal phase
            if entered is Phase.BACKWARD:
                self.accelerator.synchronize()  # what forward left to be told is not the gradient's
            phase = entered
            self.enter(entered, where)

        device = self.accelerator.device
        try:
            given = sample.converted(layouts.in_layout(layout, device), device)
            with fallback.watched(lambda said: self._fallbacks.append((phase, where, said))):
                called = self.caller.call(given, gradients, enter)
                self.accelerator.synchronize()
        except Exception as problem:
            raise failed(problem, phase, where) from problem
        return called

    def on_host(
        self, sample: Sample, gradients: bool, convert: samples.Convert, move: samples.Convert | None = None
    ) -> Called:
        """Call it on the CPU in float64, with inputs so converted. Raises FailedError where it cannot be."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # what integers divide to, and what factories make
        try:
            return self.caller.call(sample.converted(convert, CPU, widen=True), gradients, _silent, move)
        except Exception as problem:
            detail = f"the float64 reference could not be computed: {describe(problem)}"
            raise FailedError(Outcome.UNJUDGED, Phase.FORWARD, detail) from problem
        finally:
            torch.set_default_dtype(default)

    def benchmark(self, sample: Sample, gradients: bool, layout: Layout = Layout.CONTIGUOUS) -> Called | None:
        """Call it on the CPU in its own dtype; None where the CPU refuses."""
        try:
            return self.caller.call(sample.converted(layouts.in_layout(layout, CPU), CPU), gradients, _silent)
        except Exception:  # noqa: BLE001 - then the reference alone must do
            return None


def _silent(phase: Phase) -> None:
    """What happens on the host is not told."""


def unjudged(entry: Entry, dtype: torch.dtype, reason: str) -> Result:
    """The result of an entry that is not tried."""
    return Result(Outcome.UNJUDGED, Phase.FORWARD, reason, entry.claims_backward(dtype))
