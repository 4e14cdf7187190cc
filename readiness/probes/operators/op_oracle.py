"""Operator oracle: decides if a device's result for one sample is right, also on views, and repeatable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import torch

from readiness.probes.operators import comparison as operators_comparison
from readiness.probes.operators import known_defects, layouts, op_semantics, samples
from readiness.probes.operators.layouts import Layout
from readiness.probes.operators.op_call import CPU, CallResult
from readiness.probes.operators.op_trial import OpTrial
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase
from readiness.probes.operators.samples import Sample


class Bounds(Protocol):
    """Protocol of further bounds on a result, besides the comparison of all operators."""

    def exceeded(self, oracle: OpOracle, called: CallResult, reference: CallResult, phase: Phase) -> str | None:
        """Return an error of the outputs (FORWARD) or the gradients (BACKWARD), or None."""


@dataclass(slots=True)
class OpOracle:
    """Compares a device's result for one sample with float64, with the CPU in the same dtype, and with itself.

    The reference, and what the CPU makes of it in the same dtype, are computed when they are first needed. `watched` asks
    that inputs which the operator only reads are as they were afterwards.
    """

    trial: OpTrial
    sample: Sample
    gradients: bool
    layouts: Sequence[Layout] = layouts.VIEWS
    bounds: Bounds | None = None
    watched: bool = False
    _moved: list[CallResult] = field(default_factory=list)
    _moving: Iterator[CallResult] | None = None
    _wide: CallResult | None = None
    _native: CallResult | None = None

    @property
    def _reference(self) -> CallResult:
        """Return the float64 result. Raises FailedError if it cannot be computed."""
        if self._wide is None:
            self._wide = self.trial.on_host(self.sample, self.gradients, samples.widened)
        return self._wide

    def check(self) -> CallResult:
        """Call the operator on the device. Raises FailedError for a refusal or a wrong result."""
        called = self.trial.on_device(self.sample, self.gradients, watched=self.watched)
        # On the CPU the benchmark would be the very result that is judged.
        self._native = None if self.trial.on_cpu else self.trial.benchmark(self.sample, self.gradients)
        self.assert_matches(called, self._native)
        self._assert_inputs_kept(called, self.sample.label)
        return called

    def _assert_inputs_kept(self, called: CallResult, where: str) -> None:
        """Raise FailedError if the last call on the device wrote to what it must only read."""
        if self.watched and self.trial.overwritten:
            phase = Phase.BACKWARD if called.backward else Phase.FORWARD  # without gradients it is tried once more
            raise FailedError(Outcome.WRONG, phase, self.trial.overwritten, where)

    def check_again(self, called: CallResult) -> None:
        """Call it repeatedly on other views of the same values. Raises FailedError for a wrong result.

        What differs from call to call is noted in the trial. Where another layout gives the same bits, that shows more than
        the same call again would; where none does, the same call is made again.
        """
        if self.trial.entry.within(op_semantics.UNSPECIFIED):
            return
        differing = [layout for layout in self.layouts if layouts.layout_differs(layout, self.sample)]
        same_bits = [self._check_layout(called, layout) for layout in differing]
        if not any(same_bits):
            self.repeat(called)

    def _check_layout(self, called: CallResult, layout: Layout) -> bool:
        """Return True if the other layout gives the same bits. Raises FailedError for a wrong result."""
        # A benchmark would be narrower than other kernels for other strides are honest. Whole numbers must have one: of
        # equal values another may be picked.
        native = CallResult(called.outputs, [_whole(out) for out in called.comparable], [], False)
        try:
            other = self.trial.on_device(self.sample, self.gradients, layout, watched=self.watched)
            same = identical(other, called)
            if not same:
                self.assert_matches(other, native)
            self._assert_inputs_kept(other, layout)
            if same:
                return True
        except FailedError as failure:
            if failure.outcome is Outcome.UNJUDGED or not self._cpu_takes(layout):
                return False
            self.repeat(called)  # what is wrong on any layout now and then is not this one's
            raise FailedError(failure.outcome, failure.phase, failure.detail, layout, raised=failure.raised) from failure
        self._compare_repeated(other, self.trial.on_device(self.sample, self.gradients, layout), native, layout)
        return False

    def _cpu_takes(self, layout: Layout) -> bool:
        """True if the layout does not change the meaning of the call, as for views of memory. Asked only after a failure."""

        def convert(tensor: torch.Tensor) -> torch.Tensor:
            return layouts.in_layout(layout, CPU)(samples.widened(tensor))

        try:
            self.assert_matches(self.trial.on_host(self.sample, self.gradients, convert), None, CPU)
            if self.trial.on_cpu and self.trial.reference is None:
                return True
            # Where the reference is ours, only the CPU's own kernel knows what it takes.
        except FailedError:
            return False
        return self.trial.benchmark(self.sample, self.gradients, layout) is not None

    def cpu_agrees(self) -> bool:
        """True if the CPU accepts such a call: if it refuses, no device needs to accept it. Its result is not judged."""
        if known_defects.of_call(self.trial.entry, self.trial.dtype, self.sample.label) is not None:
            return True
        try:
            if self.trial.on_cpu:
                return bool(self._reference)
        except FailedError:
            return False
        return self.trial.benchmark(self.sample, self.gradients) is not None

    def cpu_takes(self) -> bool:
        """True if the CPU accepts such a call in the dtype under test; where it is the device, it has refused."""
        return not self.trial.on_cpu and self.trial.benchmark(self.sample, self.gradients) is not None

    def repeat(self, called: CallResult) -> None:
        """Call it once more and compare. Raises FailedError if the other result is also wrong."""
        if not self.trial.entry.within(op_semantics.UNSPECIFIED):
            again = self.trial.on_device(self.sample, self.gradients)
            self._compare_repeated(called, again, self._native, self.sample.label)

    def _compare_repeated(self, called: CallResult, again: CallResult, native: CallResult | None, where: str) -> None:
        for phase, first, second in (
            (Phase.FORWARD, called.outputs, again.outputs), (Phase.BACKWARD, called.gradients, again.gradients)
        ):  # fmt: skip
            if operators_comparison.identical(first, second):
                continue
            self.assert_matches(again, native)  # memory that nobody wrote to may have looked right once
            differ = "two calls with the same inputs and the same seed differ"
            if self.trial.entry.within(op_semantics.RANDOM):
                raise FailedError(Outcome.WRONG, phase, differ, where)  # it is all that can be asked of them
            self.trial.nondeterministic.append(FailedError(Outcome.NONDETERMINISTIC, phase, differ, where))

    def assert_matches(self, called: CallResult, native: CallResult | None, device: torch.device | None = None) -> None:
        """Raise FailedError for a wrong result. `native` is the CPU's result in the same dtype."""
        device = device or self.trial.accelerator.device
        comparison = operators_comparison.Comparison(self.trial.entry, self.trial.dtype, self.sample, self.trial.strictness)
        same_as_cpu = native is not None and identical(called, native)
        if (
            native is not None
            and same_as_cpu
            and not comparison.metadata(called.outputs, native.outputs, native.outputs, device)
        ):
            return  # bit for bit the CPU's, and so as right as that: no reference need be computed
        reference, where = self._reference, self.sample.label
        wrong = comparison.metadata(called.outputs, reference.outputs, native.outputs if native else None, device)
        wrong = wrong or comparison.values(
            called.comparable, reference.comparable, native.comparable if native else None,
            lambda: (other.comparable for other in self.sensitivity()),
        )  # fmt: skip
        if wrong is None and self.bounds is not None:
            wrong = self.bounds.exceeded(self, called, reference, Phase.FORWARD)
        if wrong:
            raise FailedError(Outcome.WRONG, Phase.FORWARD, wrong, where)
        if not called.backward:
            return
        wrong = comparison.gradients(
            called.gradients, reference.gradients, native.gradients if native else None,
            lambda: (other.gradients for other in self.sensitivity()), reference.comparable,
        )  # fmt: skip
        if wrong is None and self.bounds is not None:
            wrong = self.bounds.exceeded(self, called, reference, Phase.BACKWARD)
        if wrong:
            raise FailedError(Outcome.WRONG, Phase.BACKWARD, wrong, where)

    def sensitivity(self) -> Iterator[CallResult]:
        """Yield reference results with inputs moved by one rounding, each computed once, when it is asked for."""
        if self._moving is None:
            self._moving = self.trial.perturbed(self.sample, self.gradients)
        for number in count():
            if number == len(self._moved):
                further = next(self._moving, None)
                if further is None:
                    return
                self._moved.append(further)
            yield self._moved[number]


def identical(one: CallResult, other: CallResult) -> bool:
    """True if outputs and gradients are equal, element by element."""
    return operators_comparison.identical([*one.outputs, *one.gradients], [*other.outputs, *other.gradients])


def _whole(out: Any) -> torch.Tensor | None:
    rounded = not isinstance(out, torch.Tensor) or out.is_floating_point() or out.is_complex()
    return None if rounded else out.cpu()
