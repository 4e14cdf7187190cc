"""One sample of one operator: what the device gives for it, held against what it should give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from readiness.accelerators.base import Accelerator
from readiness.catalogue import classes, compare, layouts, samples
from readiness.catalogue.calls import CPU, Called
from readiness.catalogue.layouts import Layout
from readiness.catalogue.op_entry import Entry
from readiness.catalogue.outcomes import FailedError, Outcome, Phase
from readiness.catalogue.samples import Sample
from readiness.numerics import Strictness


class Calls(Protocol):
    """How an operator is called here and there: `judge.Trial`."""

    @property
    def accelerator(self) -> Accelerator: ...
    @property
    def entry(self) -> Entry: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def strictness(self) -> Strictness: ...
    @property
    def offsets(self) -> bool: ...
    def on_device(self, sample: Sample, gradients: bool, layout: Layout = ...) -> Called: ...
    def on_host(
        self, sample: Sample, gradients: bool, convert: samples.Convert, move: samples.Convert | None = None
    ) -> Called: ...
    def benchmark(self, sample: Sample, gradients: bool, layout: Layout = ...) -> Called | None: ...
    def note(self, unsteady: FailedError) -> None: ...


@dataclass(slots=True)
class Judging:
    """The reference, and what the CPU makes of it in the same dtype, are computed when they are first needed."""

    trial: Calls
    sample: Sample
    gradients: bool
    _moved: list[Called] = field(default_factory=list)
    _wide: Called | None = None
    _native: Called | None = None

    @property
    def _on_cpu(self) -> bool:
        return self.trial.accelerator.device.type == "cpu"

    @property
    def _comparison(self) -> compare.Comparison:
        return compare.Comparison(self.trial.entry, self.trial.dtype, self.sample, self.trial.strictness)

    @property
    def _reference(self) -> Called:
        """The float64 one. Raises FailedError where it cannot be computed."""
        if self._wide is None:
            self._wide = self.trial.on_host(self.sample, self.gradients, samples.widened)
        return self._wide

    def judge(self) -> Called:
        """Call it on the device: right? Raises FailedError where not."""
        called = self.trial.on_device(self.sample, self.gradients)
        # On the CPU the benchmark would be the very result that is judged.
        self._native = None if self._on_cpu else self.trial.benchmark(self.sample, self.gradients)
        if self._native is None or not self._is_the_cpus(called, self._native):
            self._hold(called, self._native)
        return called

    def _is_the_cpus(self, called: Called, native: Called) -> bool:
        """Whether it equals the CPU's bit for bit, and so is as right as that: no reference need be computed."""
        if self._comparison.metadata(called.outputs, native.outputs, native.outputs, self.trial.accelerator.device):
            return False
        return identical(called, native)

    def is_the_cpus_to_give(self) -> bool:
        """Whether the CPU gives what is asked of the device: where it refuses, or is wrong itself, nobody need."""
        try:
            if self._on_cpu:
                return bool(self._reference)
            native = self.trial.benchmark(self.sample, self.gradients)
            if native is not None:
                self._hold(native, None, CPU)
        except FailedError:
            return False
        return native is not None

    def judge_again(self, called: Called) -> None:
        """The same values as other views, and so again and again: right, and the same? Raises FailedError where not."""
        if self.trial.entry.within(classes.UNSPECIFIED):
            return
        again = False
        for layout in () if self.trial.entry.within(classes.NO_VIEWS) else layouts.VIEWS:
            if layout is Layout.OFFSET and not self.trial.offsets:
                continue
            if layouts.lies_differently(layout, self.sample):
                again |= self._judge_layout(called, layout)
        if not again:
            self.repeat(called)

    def _judge_layout(self, called: Called, layout: Layout) -> bool:
        """Whether the call came to its end and was as repeatable as it should be. Raises FailedError where not right."""
        # A benchmark would be narrower than other kernels for other strides are honest. Whole numbers must have one: of
        # equal values another may be picked.
        native = Called(called.outputs, [_whole(out) for out in called.comparable], [None] * len(called.gradients), False)
        other: Called | None = None
        try:
            other = self.trial.on_device(self.sample, self.gradients, layout)
            if identical(other, called):
                return True  # which is more than the same call again would show
            self._hold(other, native)
        except FailedError as failure:
            if failure.outcome is Outcome.UNJUDGED or not self._is_allowed(layout):
                return False
            self.repeat(called)  # what is wrong on any layout now and then is not this one's
            raise FailedError(failure.outcome, failure.phase, failure.detail, layout, raised=failure.raised) from failure
        self._repeated(other, self.trial.on_device(self.sample, self.gradients, layout), native, layout)
        return True

    def _is_allowed(self, layout: Layout) -> bool:
        """Whether the CPU gives the same in this layout: views of memory rightly do not. Asked only after a failure."""

        def convert(tensor: torch.Tensor) -> torch.Tensor:
            return layouts.in_layout(layout, CPU)(samples.widened(tensor))

        try:
            self._hold(self.trial.on_host(self.sample, self.gradients, convert), None, CPU)
            if self._on_cpu:
                return True
            native = self.trial.benchmark(self.sample, self.gradients, layout)
            if native is not None:
                self._hold(native, None, CPU)
        except FailedError:
            return False
        return native is not None

    def repeat(self, called: Called) -> None:
        """Call it once more: the same? Where not, it is noted; raises FailedError where what came is wrong besides."""
        if not self.trial.entry.within(classes.UNSPECIFIED):
            self._repeated(called, self.trial.on_device(self.sample, self.gradients), self._native, self.sample.label)

    def _repeated(self, called: Called, again: Called, native: Called | None, where: str) -> None:
        for phase, first, second in (
            (Phase.FORWARD, called.outputs, again.outputs), (Phase.BACKWARD, called.gradients, again.gradients)
        ):  # fmt: skip
            if compare.identical(first, second):
                continue
            self._hold(again, native)  # memory that nobody wrote to may have looked right once
            differ = "two calls with the same inputs and the same seed differ"
            if self.trial.entry.within(classes.RANDOM):
                raise FailedError(Outcome.WRONG, phase, differ, where)
            self.trial.note(FailedError(Outcome.NONDETERMINISTIC, phase, differ, where))

    def _hold(self, called: Called, native: Called | None, device: torch.device | None = None) -> None:
        judge, reference = self._comparison, self._reference
        device = device or self.trial.accelerator.device
        where = self.sample.label
        wrong = judge.metadata(called.outputs, reference.outputs, None if native is None else native.outputs, device)
        wrong = wrong or judge.values(
            called.comparable, reference.comparable, native.comparable if native else None,
            lambda: [other.comparable for other in self._sensitivity()],
        )  # fmt: skip
        if wrong:
            raise FailedError(Outcome.WRONG, Phase.FORWARD, wrong, where)
        if called.backward:
            wrong = judge.gradients(
                called.gradients, reference.gradients, native.gradients if native else None,
                lambda: [other.gradients for other in self._sensitivity()], reference.comparable,
            )  # fmt: skip
            if wrong:
                raise FailedError(Outcome.WRONG, Phase.BACKWARD, wrong, where)

    def _sensitivity(self) -> list[Called]:
        """The reference with inputs moved by a rounding, several times; computed once."""
        if not self._moved:
            generator = self.trial.accelerator.generator("sensitivity", self.trial.entry.name)
            convert = samples.perturbed(compare.roundoff(self.trial.dtype), generator)
            for _ in range(samples.PERTURBATIONS):
                self._moved.append(self.trial.on_host(self.sample, self.gradients, convert, convert))
        return self._moved


def shows(called: Called) -> bool:
    """Whether there is any result to look at."""
    return any(not isinstance(out, torch.Tensor) or out.numel() for out in called.outputs)


def identical(one: Called, other: Called) -> bool:
    """Whether outputs and gradients are equal, element by element."""
    return compare.identical([*one.outputs, *one.gradients], [*other.outputs, *other.gradients])


def _whole(out: Any) -> torch.Tensor | None:
    rounded = not isinstance(out, torch.Tensor) or out.is_floating_point() or out.is_complex()
    return None if rounded else out.cpu()
