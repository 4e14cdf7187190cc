"""Trial of one operator of PyTorch's database in one dtype: samples, variants, and the kernels that ran."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics import USUAL, Strictness
from readiness.numerics.unsupported import describe
from readiness.probes.operators import (
    chosen_values,
    difference_quotients,
    edge_shapes,
    forward_mode,
    kernel_provenance,
    layouts,
    multithreaded_ops,
    op_semantics,
    relations,
    sample_variants,
    seeded_selection,
)
from readiness.probes.operators.kernel_provenance import Provenance, Recorder
from readiness.probes.operators.layouts import Layout
from readiness.probes.operators.op_call import CallResult
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.op_oracle import OpOracle
from readiness.probes.operators.op_trial import Enter, OpTrial
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase, SweepResult
from readiness.probes.operators.samples import Sample, SampleCache

#: So many further samples are tried where results are empty.
_SPARE = 4

#: Whose kernels ran, by operator and whether backward too: the same in every dtype, so each process asks once.
Provenances = dict[tuple[str, bool], tuple[Provenance, str]]
#: What is wrong about an operator's reference gradient: the same in every dtype, so each process asks once.
Refuted = dict[str, list[FailedError]]


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """Options of all trials of a sweep: number of samples, limits, and forward mode."""

    samples: int = 1
    strictness: Strictness = USUAL
    forward_mode: bool = False


class OpInfoTrials:
    """Tries operators on one device in this process; `enter` is called as in `OpTrial`."""

    def __init__(self, accelerator: Accelerator, enter: Enter, options: TrialOptions) -> None:
        self._accelerator, self._enter, self._options = accelerator, enter, options
        self._provenances: Provenances = {}
        self._sample_cache = SampleCache()
        self._refuted: Refuted = {}
        self._rotation = seeded_selection.of(accelerator)

    def run(
        self, entry: Entry, dtype: torch.dtype, *, full_variants: bool, gradients: bool = True, offsets: bool = True
    ) -> SweepResult:
        """Try an operator in one dtype, with `full_variants` (what no dtype changes) and inputs at `offsets`."""
        options = self._options
        common = OpTrial(
            self._accelerator, entry, dtype, self._enter, options.strictness, rotation=self._rotation
        )
        trial = OpInfoTrial(common, self._sample_cache, self._provenances, self._refuted, offsets)
        result = trial.run(options.samples, full_variants=full_variants, gradients=gradients)
        if options.forward_mode and gradients and result.outcome is not Outcome.UNJUDGED:
            result = forward_mode.judged(common, lambda: trial.drawn(True)[0], result)
        return _with_findings(common, result)


@dataclass(slots=True)
class OpInfoTrial:
    """Trial of one operator of the database in one dtype."""

    trial: OpTrial
    sample_cache: SampleCache = field(default_factory=SampleCache)
    provenances: Provenances = field(default_factory=dict)
    refuted: Refuted = field(default_factory=dict)
    offsets: bool = True

    @property
    def _entry(self) -> Entry:
        return self.trial.entry

    def drawn(self, gradients: bool) -> list[Sample]:
        """Return the database's samples, the same at every call."""
        return self.sample_cache.draw(self._entry, self.trial.dtype, seed=self.trial.caller.seed, gradients=gradients)

    def run(self, count: int, *, full_variants: bool = True, gradients: bool = True) -> SweepResult:
        """Try up to `count` samples with a comparable result; the first failure is the outcome.

        The first of them, which is the largest, is tried in other layouts too. Without `gradients` forward alone is tried.
        """
        gradients &= self._entry.claims_backward(self.trial.dtype)
        try:
            drawn = self.drawn(gradients)
        except Exception as problem:  # noqa: BLE001 - the database's own code; the CPU made no input, no device was asked
            return SweepResult(Outcome.UNJUDGED, Phase.FORWARD, f"no sample: {describe(problem)}", gradients)
        backward = False
        try:
            differentiate = gradients and not self._entry.within(op_semantics.UNSPECIFIED)
            for called in self._checked(drawn, count, differentiate):
                backward |= called.backward
            if full_variants:
                self._check_variants(drawn, differentiate)
                self._check_threads(differentiate)
            for broken in relations.broken(self.trial, drawn, differentiate, everything=full_variants):
                self.trial.excuse(broken)
            if self.trial.dtype.is_floating_point and relations.judges(self.trial):
                for broken in chosen_values.broken(self.trial, drawn, differentiate):
                    self.trial.excuse(broken)
            if differentiate and relations.judges(self.trial):
                self._check_reference(drawn)
            self.trial.accelerator.synchronize()
        except FailedError as failure:
            self.trial.flush_async_errors()
            worse = self._forward_failure(drawn, count, full_variants) if failure.phase is Phase.BACKWARD else None
            worst = worse or failure
            if worst.outcome is Outcome.UNJUDGED and self.trial.nondeterministic:
                worst = self.trial.nondeterministic[0]
            return _failed(worst, gradients)
        if self.trial.nondeterministic:
            return _failed(self.trial.nondeterministic[0], gradients)
        if self.trial.fallbacks:
            phase, where, warning = self.trial.fallbacks[0]
            return SweepResult(Outcome.FALLBACK, phase, warning, backward, where)
        return self._clean(drawn[0], backward)

    def _forward_failure(self, drawn: Sequence[Sample], count: int, full_variants: bool) -> FailedError | None:
        """Return a failure without gradients: an operator with a wrong gradient may still serve."""
        try:
            for _ in self._checked(drawn, count, False):
                pass
            if full_variants:
                self._check_variants(drawn, False)
            self.trial.accelerator.synchronize()
        except FailedError as failure:
            self.trial.flush_async_errors()
            return failure
        return None

    def _oracle(self, sample: Sample, gradients: bool, *, watched: bool = False) -> OpOracle:
        views = [layout for layout in layouts.VIEWS if self.offsets or layout is not Layout.OFFSET]
        views = [] if self._entry.within(op_semantics.NO_VIEWS) else views
        return OpOracle(self.trial, sample, gradients, views, watched=watched)

    def _checked(self, drawn: Sequence[Sample], count: int, gradients: bool) -> Iterator[CallResult]:
        """Yield the results of the samples, all right. Raises FailedError."""
        shown = 0
        for sample in drawn[: count + _SPARE]:
            oracle = self._oracle(sample, gradients, watched=not shown)
            try:
                called = oracle.check()
            except FailedError as failure:
                if failure.outcome is Outcome.MISSING and shown and not oracle.cpu_takes():
                    continue  # PyTorch itself refuses such arguments in this dtype
                self.trial.excuse(failure)
                if failure.outcome is not Outcome.MISSING:
                    shown += 1
                    continue
                oracle = self._oracle(sample, False)  # its gradient is refused; what it computes must be right all the same
                called = oracle.check()
            yield called
            if _shows(called) and not shown:
                oracle.check_again(called)
            elif self._entry.within(op_semantics.RANDOM):
                oracle.repeat(called)
            shown += _shows(called)
            if shown == count:
                break

    def _check_variants(self, drawn: Sequence[Sample], gradients: bool) -> None:
        """Check variants of the calls. Raises FailedError."""
        torch.default_generator.manual_seed(self.trial.caller.seed)
        sizes = edge_shapes.of(self._entry.name, self.trial.dtype, self.trial.rotation, gradients=gradients)
        for sample in (*sample_variants.further(self._entry, self.trial.dtype, drawn, drawn[0]), *sizes):
            oracle = self._oracle(sample, gradients)
            try:
                with _deterministic() if sample.deterministic else contextlib.nullcontext():
                    oracle.check()
            except FailedError as failure:
                if failure.outcome is Outcome.UNJUDGED or not oracle.cpu_agrees():
                    continue
                self.trial.excuse(failure)

    def _check_threads(self, gradients: bool) -> None:
        """Check the call on all threads of the host, some times, if the seed chose this operator. Raises FailedError."""
        if self._entry.name not in self.trial.rotation.threaded or not multithreaded_ops.available():
            return
        for sample in multithreaded_ops.of(self._entry.name, self.trial.dtype, gradients=gradients):
            oracle = OpOracle(self.trial, sample, gradients, [])
            try:
                called = oracle.check()
                for _ in range(multithreaded_ops.REPETITIONS):
                    oracle.repeat(called)
            except FailedError as failure:
                self.trial.excuse(failure)

    def _check_reference(self, drawn: Sequence[Sample]) -> None:
        """Hold the reference's gradients against difference quotients. Raises FailedError where the CPU is tried."""
        if self._entry.name not in self.refuted:
            self.refuted[self._entry.name] = list(difference_quotients.refuted(self.trial, drawn))
        for failure in self.refuted[self._entry.name]:
            if self.trial.on_cpu:
                self.trial.excuse(failure)  # what it gave was held to be right for agreeing with that
            else:
                self.trial.doubt(failure)

    def _clean(self, sample: Sample, backward: bool) -> SweepResult:
        """Return the result of a right and repeatable operator, with the provenance of its kernels."""
        known = self.provenances
        if (self._entry.name, backward) not in known:
            known[self._entry.name, backward] = self._provenance(sample, backward)
        applies_to, name = known[self._entry.name, backward]
        match applies_to:
            case Provenance.NATIVE:
                return SweepResult(Outcome.NATIVE, Phase.FORWARD, name, backward)
            case Provenance.FALLBACK:
                return SweepResult(Outcome.FALLBACK, Phase.FORWARD, name, backward)
            case _:
                return SweepResult(Outcome.DECOMPOSED, Phase.FORWARD, "", backward)

    def _provenance(self, sample: Sample, backward: bool) -> tuple[Provenance, str]:
        # A call of its own: with a listener PyTorch chooses other formulas for some gradients, which round otherwise.
        device = self.trial.accelerator.device
        recorder = Recorder()
        forward: tuple[str, ...] = ()

        def enter(phase: Phase) -> None:
            nonlocal forward
            if phase is Phase.BACKWARD:
                forward = recorder.recorded

        with contextlib.suppress(Exception):  # it was judged without; what was recorded until then is what there is
            given = sample.converted(layouts.in_layout(Layout.CONTIGUOUS, device), device)
            # Of gradients only a fallback is to be told: few devices have one, and few operators are worth another call.
            with_gradient = backward and self._entry.core and kernel_provenance.falls_back(device.type)
            with warnings.catch_warnings(action="ignore"), recorder:
                self.trial.caller.call(given, with_gradient, enter)
        if (hosted := self.trial.host_work_reason(sample)) is not None:
            return Provenance.FALLBACK, hosted
        aten_name = self._entry.info.aten_name
        applies_to, name = kernel_provenance.of_call(device.type, aten_name, forward or recorder.recorded, recorder.recorded)
        if applies_to is Provenance.FALLBACK:
            return applies_to, f"{name} has no kernel for this device and runs its fallback"
        return applies_to, name


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Enable PyTorch's deterministic mode; operators without a deterministic kernel run their usual one."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def _shows(called: CallResult) -> bool:
    """True if there is any result to look at."""
    return any(not isinstance(out, torch.Tensor) or out.numel() for out in called.outputs)


def _failed(failure: FailedError, backward: bool) -> SweepResult:
    return SweepResult(failure.outcome, failure.phase, failure.detail, backward, failure.where, failure.raised)


def _with_findings(trial: OpTrial, result: SweepResult) -> SweepResult:
    """Add the known defects that the trial showed and what is wrong about the reference, each once."""
    texts = [f"{_circumstance(failure)}: {known}" for known, failure in trial.known]
    texts += [f"{_circumstance(failure)}: the reference itself is wrong: {failure}" for failure in trial.doubts]
    gradient = next((str(failure) for failure in trial.doubts if failure.phase is Phase.BACKWARD), "")
    return replace(
        result, known="; ".join(dict.fromkeys(texts)), unjudged_backward=gradient,
        backward=result.backward and (not gradient or not result.outcome.right),
    )  # fmt: skip


def _circumstance(failure: FailedError) -> str:
    return ", ".join(filter(None, (failure.phase, failure.where)))


def unjudged(entry: Entry, dtype: torch.dtype, reason: str) -> SweepResult:
    """Return the result of an entry that is not tried."""
    return SweepResult(Outcome.UNJUDGED, Phase.FORWARD, reason, entry.claims_backward(dtype))
