"""Try one operator in one dtype on one device: the outcome, in which phase and layout, and what was seen."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.catalogue import classes, compare, fallback, layouts, samples
from readiness.catalogue.calls import Called, Caller, Phase
from readiness.catalogue.database import Entry
from readiness.catalogue.layouts import Layout
from readiness.catalogue.samples import Sample

CPU = torch.device("cpu")

#: So often the reference is moved by a rounding where that matters: a single time a result may stand still by chance.
_PERTURBATIONS = 4
#: So many further samples are tried where results are empty.
_SPARE = 4

#: So many errors of one operator may be waiting to be told.
_PENDING = 16

#: What PyTorch and vendors' plug-ins say when a kernel is not there.
_MISSING = re.compile(
    r"not implemented for|not (currently )?implemented|could not run '|not (currently )?supported|unsupported"
    r"|does not support|no kernel|not available for|unimplemented",
    re.IGNORECASE,
)


class Outcome(StrEnum):
    """What became of one operator in one dtype; exactly one of these."""

    SUPPORTED = "supported"
    FALLBACK = "CPU fallback"
    MISSING = "missing"
    WRONG = "wrong"
    NONDETERMINISTIC = "nondeterministic"
    CRASHED = "crashed"
    HANG = "hang"
    ERROR = "error"
    UNJUDGED = "cannot be judged"


@dataclass(frozen=True, slots=True)
class Result:
    """One operator in one dtype.

    `backward` says whether a gradient was judged, or was due when forward failed; `layout` how the inputs lay.
    """

    outcome: Outcome
    phase: Phase
    detail: str
    backward: bool
    layout: Layout = Layout.CONTIGUOUS

    @property
    def explained(self) -> str:
        """The detail, with the layout that it needs."""
        return f"{self.layout}: {self.detail}" if self.layout else self.detail


class _FailedError(Exception):
    def __init__(self, outcome: Outcome, phase: Phase, detail: str, layout: Layout = Layout.CONTIGUOUS) -> None:
        super().__init__(detail)
        self.outcome, self.phase, self.detail, self.layout = outcome, phase, detail, layout


Enter = Callable[[Phase, Layout], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """One operator in one dtype, about to be tried. `enter` is told each phase, and in which layout, before it begins."""

    accelerator: Accelerator
    entry: Entry
    dtype: torch.dtype
    enter: Enter
    _fallbacks: list[tuple[Phase, Layout, str]] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """The same in every process that tries this operator in this dtype in this run."""
        return self.accelerator.generator("operators", self.entry.name, self.dtype).initial_seed()

    def judge(self, count: int) -> Result:
        """Try `count` samples that have a result to look at, or as many as there are; the first failure is the outcome.

        The first of them, which is the largest, is tried in other layouts too.
        """
        gradients = self.entry.claims_backward(self.dtype)
        try:
            drawn = samples.draw(self.entry, self.dtype, seed=self.seed, gradients=gradients)
        except Exception as problem:  # noqa: BLE001 - the database's own code; the CPU made no input, no device was asked
            return Result(Outcome.UNJUDGED, Phase.FORWARD, f"no sample: {_told(problem)}", gradients)
        judged_backward = False
        telling = 0
        try:
            for sample in drawn[: count + _SPARE]:
                judging = _Judging(self, sample, gradients and not self.entry.within(classes.UNSPECIFIED))
                called = judging.judge()
                judged_backward |= called.backward
                tells = any(not isinstance(out, torch.Tensor) or out.numel() for out in called.outputs)
                if tells and not telling:
                    judging.judge_layouts(called)
                telling += tells
                if telling == count:
                    break
            self.accelerator.synchronize()
        except _FailedError as failure:
            self._drain()
            return Result(failure.outcome, failure.phase, failure.detail, gradients, failure.layout)
        if self._fallbacks:
            phase, layout, said = self._fallbacks[0]
            return Result(Outcome.FALLBACK, phase, said, judged_backward, layout)
        return Result(Outcome.SUPPORTED, Phase.FORWARD, "", judged_backward)

    def _drain(self) -> None:
        """What errors are still to come are this operator's and must not be laid at the next one's door."""
        for _ in range(_PENDING):
            with contextlib.suppress(Exception):  # the operator has failed already
                self.accelerator.synchronize()
                return

    def on_device(self, sample: Sample, gradients: bool, layout: Layout = Layout.CONTIGUOUS) -> Called:
        """Move the inputs there, call it, and wait for it: an error that comes late is still this call's."""
        phase = Phase.FORWARD

        def enter(entered: Phase) -> None:
            nonlocal phase
            if entered is Phase.BACKWARD:
                self.accelerator.synchronize()  # what forward left to be told is not the gradient's
            phase = entered
            self.enter(entered, layout)

        device = self.accelerator.device
        try:
            given = sample.converted(layouts.in_layout(layout, device), device)
            with fallback.watched(lambda said: self._fallbacks.append((phase, layout, said))):
                called = self.caller.call(given, gradients, enter)
                self.accelerator.synchronize()
        except Exception as problem:
            raise _FailedError(_outcome(problem), phase, _told(problem), layout) from problem
        return called

    def on_host(
        self, sample: Sample, gradients: bool, convert: samples.Convert, move: samples.Convert | None = None
    ) -> Called:
        """Call it on the CPU in float64, with inputs so converted. Raises _FailedError where it cannot be."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # what integers divide to, and what factories make
        try:
            return self.caller.call(sample.converted(convert, CPU, widen=True), gradients, _silent, move)
        except Exception as problem:
            detail = f"the float64 reference could not be computed: {_told(problem)}"
            raise _FailedError(Outcome.UNJUDGED, Phase.FORWARD, detail) from problem
        finally:
            torch.set_default_dtype(default)

    def benchmark(self, sample: Sample, gradients: bool, layout: Layout = Layout.CONTIGUOUS) -> Called | None:
        """Call it on the CPU in its own dtype; None where the CPU refuses."""
        try:
            return self.caller.call(sample.converted(layouts.in_layout(layout, CPU), CPU), gradients, _silent)
        except Exception:  # noqa: BLE001 - then the reference alone must do
            return None

    @property
    def caller(self) -> Caller:
        """How it is called, on whichever device."""
        return Caller(self.accelerator, self.entry, self.dtype, self.seed)


class _Judging:
    """One sample: what the device gives for it, held against what it should give."""

    def __init__(self, trial: Trial, sample: Sample, gradients: bool) -> None:
        self._trial, self._sample, self._gradients = trial, sample, gradients
        self._on_cpu = trial.accelerator.device.type == "cpu"
        self._comparison = compare.Comparison(trial.entry, trial.dtype, sample)
        self._moved: list[Called] = []
        self._wide: Called | None = None

    @property
    def _reference(self) -> Called:
        """The float64 one, computed where it is needed. Raises _FailedError where it cannot be."""
        if self._wide is None:
            self._wide = self._trial.on_host(self._sample, self._gradients, samples.widened)
        return self._wide

    def judge(self) -> Called:
        """Right, and the same again? Raises _FailedError where not."""
        trial = self._trial
        called = trial.on_device(self._sample, self._gradients)
        # On the CPU the benchmark would be the very result that is judged.
        native = None if self._on_cpu else trial.benchmark(self._sample, self._gradients)
        if native is None or not self._is_the_cpus(called, native):
            self._hold(called, native)
        if not trial.entry.within(classes.UNSPECIFIED):
            self._repeat(called, native)
        return called

    def _is_the_cpus(self, called: Called, native: Called) -> bool:
        """Whether it equals the CPU's bit for bit, and so is as right as that: no reference need be computed."""
        device = self._trial.accelerator.device
        if self._comparison.metadata(called.outputs, native.outputs, native.outputs, device):
            return False
        return compare.identical([*called.outputs, *called.gradients], [*native.outputs, *native.gradients])

    def judge_layouts(self, called: Called) -> None:
        """The same values as other views, held against the same reference. Raises _FailedError where not right."""
        if self._trial.entry.within(classes.UNSPECIFIED):
            return
        # A benchmark would be narrower than other kernels for other strides are honest. Whole numbers must have one: of
        # equal values another may be picked.
        native = Called(called.outputs, [_whole(out) for out in called.comparable], [None] * len(called.gradients), False)
        for layout in layouts.VIEWS:
            if not layouts.lies_differently(layout, self._sample):
                continue
            try:
                other = self._trial.on_device(self._sample, self._gradients, layout)
                if not compare.identical([*other.outputs, *other.gradients], [*called.outputs, *called.gradients]):
                    self._hold(other, native)
            except _FailedError as failure:
                if self._is_allowed(layout):
                    raise _FailedError(failure.outcome, failure.phase, failure.detail, layout) from failure

    def _is_allowed(self, layout: Layout) -> bool:
        """Whether the CPU gives the same in this layout: views of memory rightly do not. Asked only after a failure."""

        def convert(tensor: torch.Tensor) -> torch.Tensor:
            return layouts.in_layout(layout, CPU)(samples.widened(tensor))

        try:
            self._hold(self._trial.on_host(self._sample, self._gradients, convert), None, CPU)
            if self._on_cpu:
                return True
            native = self._trial.benchmark(self._sample, self._gradients, layout)
            if native is not None:
                self._hold(native, None, CPU)
        except _FailedError:
            return False
        return native is not None

    def _repeat(self, called: Called, native: Called | None) -> None:
        again = self._trial.on_device(self._sample, self._gradients)
        for phase, first, second in (
            (Phase.FORWARD, called.outputs, again.outputs), (Phase.BACKWARD, called.gradients, again.gradients)
        ):  # fmt: skip
            if compare.identical(first, second):
                continue
            self._hold(again, native)  # memory that nobody wrote to may have looked right once
            outcome = Outcome.WRONG if self._trial.entry.within(classes.RANDOM) else Outcome.NONDETERMINISTIC
            raise _FailedError(outcome, phase, "two calls with the same inputs and the same seed differ")

    def _hold(self, called: Called, native: Called | None, device: torch.device | None = None) -> None:
        judge, reference = self._comparison, self._reference
        device = device or self._trial.accelerator.device
        wrong = judge.metadata(called.outputs, reference.outputs, None if native is None else native.outputs, device)
        wrong = wrong or judge.values(
            called.comparable, reference.comparable, native.comparable if native else None,
            lambda: [other.comparable for other in self._sensitivity()],
        )  # fmt: skip
        if wrong:
            raise _FailedError(Outcome.WRONG, Phase.FORWARD, wrong)
        if called.backward:
            wrong = judge.gradients(
                called.gradients, reference.gradients, native.gradients if native else None,
                lambda: [other.gradients for other in self._sensitivity()], reference.comparable,
            )  # fmt: skip
            if wrong:
                raise _FailedError(Outcome.WRONG, Phase.BACKWARD, wrong)

    def _sensitivity(self) -> list[Called]:
        """The reference with inputs moved by a rounding, several times; computed once."""
        if not self._moved:
            generator = self._trial.accelerator.generator("sensitivity", self._trial.entry.name)
            convert = samples.perturbed(compare.roundoff(self._trial.dtype), generator)
            for _ in range(_PERTURBATIONS):
                self._moved.append(self._trial.on_host(self._sample, self._gradients, convert, convert))
        return self._moved


def _whole(out: Any) -> torch.Tensor | None:
    rounded = not isinstance(out, torch.Tensor) or out.is_floating_point() or out.is_complex()
    return None if rounded else out.cpu()


def _silent(phase: Phase) -> None:
    """What happens on the host is not told."""


def unjudged(entry: Entry, dtype: torch.dtype, reason: str) -> Result:
    """The result of an entry that is not tried."""
    return Result(Outcome.UNJUDGED, Phase.FORWARD, reason, entry.claims_backward(dtype))


def _outcome(problem: Exception) -> Outcome:
    missing = isinstance(problem, NotImplementedError) or _MISSING.search(str(problem)) is not None
    return Outcome.MISSING if missing else Outcome.ERROR


def _told(problem: BaseException) -> str:
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text[:300]}"
