"""Try one operator in one dtype on one device: the outcome, in which phase, and what was seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.catalogue import classes, compare, samples
from readiness.catalogue.database import Entry
from readiness.catalogue.samples import Sample

CPU = torch.device("cpu")

#: So often the reference is moved by a rounding where that matters: a single time a result may stand still by chance.
_PERTURBATIONS = 4
#: So many further samples are tried where results are empty.
_SPARE = 4

#: What PyTorch and vendors' plug-ins say when a kernel is not there.
_MISSING = re.compile(
    r"not implemented for|not (currently )?implemented|could not run '|not (currently )?supported|unsupported"
    r"|does not support|no kernel|not available for|unimplemented",
    re.IGNORECASE,
)


class Outcome(StrEnum):
    """What became of one operator in one dtype; exactly one of these."""

    SUPPORTED = "supported"
    MISSING = "missing"
    WRONG = "wrong"
    NONDETERMINISTIC = "nondeterministic"
    CRASHED = "crashed"
    HANG = "hang"
    ERROR = "error"
    UNJUDGED = "cannot be judged"


class Phase(StrEnum):
    """Where the outcome arose."""

    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Result:
    """One operator in one dtype. `backward` says whether a gradient was judged, or was due when forward failed."""

    outcome: Outcome
    phase: Phase
    detail: str
    backward: bool


class _FailedError(Exception):
    def __init__(self, outcome: Outcome, phase: Phase, detail: str) -> None:
        super().__init__(detail)
        self.outcome, self.phase, self.detail = outcome, phase, detail


@dataclass(frozen=True, slots=True)
class _Run:
    """What one call gave: all outputs, those that the database says are comparable, and gradients by input (or None)."""

    outputs: list[Any]
    comparable: list[Any]
    gradients: list[torch.Tensor | None]
    backward: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """One operator in one dtype, about to be tried. `enter` is told each phase before it begins."""

    accelerator: Accelerator
    entry: Entry
    dtype: torch.dtype
    enter: Callable[[Phase], None]

    @property
    def seed(self) -> int:
        """The same in every process that tries this operator in this dtype in this run."""
        return self.accelerator.generator("operators", self.entry.name, self.dtype).initial_seed()

    def judge(self, count: int) -> Result:
        """Try `count` samples that have a result to look at, or as many as there are; the first failure is the outcome."""
        gradients = self.entry.claims_backward(self.dtype)
        try:
            drawn = samples.draw(self.entry, self.dtype, seed=self.seed, gradients=gradients)
        except Exception as problem:  # noqa: BLE001 - the database's own code; the CPU made no input, no device was asked
            return Result(Outcome.UNJUDGED, Phase.FORWARD, f"no sample: {_told(problem)}", gradients)
        judged_backward = False
        telling = 0
        try:
            for sample in drawn[: count + _SPARE]:
                run = self._judge_sample(sample, gradients)
                judged_backward |= run.backward
                telling += any(not isinstance(out, torch.Tensor) or out.numel() for out in run.outputs)
                if telling == count:
                    break
        except _FailedError as failure:
            return Result(failure.outcome, failure.phase, failure.detail, gradients)
        return Result(Outcome.SUPPORTED, Phase.FORWARD, "", judged_backward)

    def _judge_sample(self, sample: Sample, gradients: bool) -> _Run:
        device = self.accelerator.device
        if self.entry.within(classes.UNSPECIFIED):
            gradients = False
        given = sample.converted(lambda tensor: tensor.clone().to(device), device)
        run = self._on_device(given, gradients)
        if not self.entry.within(classes.UNSPECIFIED):
            self._repeat(given, run, gradients)
        reference = self._reference(sample, samples.widened, gradients)
        native = None if device.type == "cpu" else self._benchmark(sample, gradients)
        # On the CPU the benchmark would be the very result that is judged.
        judge = compare.Comparison(self.entry, self.dtype, sample)
        wrong = judge.metadata(run.outputs, reference.outputs, None if native is None else native.outputs, device)
        if wrong:
            raise _FailedError(Outcome.WRONG, Phase.FORWARD, wrong)
        moved: list[_Run] = []

        def sensitivity() -> list[_Run]:
            if not moved:
                generator = self.accelerator.generator("sensitivity", self.entry.name)
                roundoff = compare.roundoff(self.dtype)
                convert = samples.perturbed(roundoff, generator)
                moved.extend(self._reference(sample, convert, gradients, convert) for _ in range(_PERTURBATIONS))
            return moved

        wrong = judge.values(
            run.comparable, reference.comparable, native.comparable if native else None,
            lambda: [other.comparable for other in sensitivity()],
        )  # fmt: skip
        if wrong:
            raise _FailedError(Outcome.WRONG, Phase.FORWARD, wrong)
        if run.backward:
            wrong = judge.gradients(
                run.gradients, reference.gradients, native.gradients if native else None,
                lambda: [other.gradients for other in sensitivity()], reference.comparable,
            )  # fmt: skip
            if wrong:
                raise _FailedError(Outcome.WRONG, Phase.BACKWARD, wrong)
        return run

    def _on_device(self, given: Sample, gradients: bool) -> _Run:
        phase = Phase.FORWARD

        def enter(entered: Phase) -> None:
            nonlocal phase
            phase = entered
            self.enter(entered)

        try:
            run = self._run(given, gradients, enter)
            self.accelerator.synchronize()
        except Exception as problem:
            missing = isinstance(problem, NotImplementedError) or _MISSING.search(str(problem)) is not None
            raise _FailedError(Outcome.MISSING if missing else Outcome.ERROR, phase, _told(problem)) from problem
        return run

    def _repeat(self, given: Sample, run: _Run, gradients: bool) -> None:
        again = self._on_device(given, gradients)
        outcome = Outcome.WRONG if self.entry.within(classes.RANDOM) else Outcome.NONDETERMINISTIC
        for phase, first, second in (
            (Phase.FORWARD, run.outputs, again.outputs), (Phase.BACKWARD, run.gradients, again.gradients)
        ):  # fmt: skip
            if not compare.identical(first, second):
                raise _FailedError(outcome, phase, "two calls with the same inputs and the same seed differ")

    def _reference(
        self, sample: Sample, convert: samples.Convert, gradients: bool, move: samples.Convert | None = None
    ) -> _Run:
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # what integers divide to, and what factories make
        try:
            return self._run(sample.converted(convert, CPU, widen=True), gradients, _silent, move)
        except Exception as problem:
            raise _FailedError(
                Outcome.UNJUDGED, Phase.FORWARD, f"the float64 reference could not be computed: {_told(problem)}"
            ) from problem
        finally:
            torch.set_default_dtype(default)

    def _benchmark(self, sample: Sample, gradients: bool) -> _Run | None:
        try:
            return self._run(sample.converted(torch.clone, CPU), gradients, _silent)
        except Exception:  # noqa: BLE001 - then the reference alone must do
            return None

    def _run(
        self, given: Sample, gradients: bool, enter: Callable[[Phase], None], move: samples.Convert | None = None
    ) -> _Run:
        """Forward, and backward from a cotangent that is the same on every device, or is moved from there."""
        enter(Phase.FORWARD)
        torch.manual_seed(self.seed)
        result = given.call(self.entry.info)
        outputs = list(samples.leaves(result))
        comparable = list(samples.leaves(given.source.output_process_fn_grad(result)))
        inputs = [tensor for tensor in given.tensors() if tensor.requires_grad]
        roots = [out for out in comparable if isinstance(out, torch.Tensor) and out.requires_grad]
        if not (gradients and inputs and roots):
            return _Run(outputs, comparable, [], False)
        generator = self.accelerator.generator("cotangent", self.entry.name)
        cotangents = [_cotangent(root, self.dtype, generator) for root in roots]
        if move is not None:
            cotangents = [move(cotangent) for cotangent in cotangents]
        enter(Phase.BACKWARD)
        found = torch.autograd.grad(roots, inputs, cotangents, allow_unused=True)
        return _Run(outputs, comparable, list(found), True)


def _cotangent(root: torch.Tensor, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Standard normal values that `dtype` can hold, in the dtype and on the device of `root`."""
    # Rounded to the narrow dtype first, so that the wide reference starts from the very same values.
    if root.is_complex():
        values = torch.randn(root.shape, generator=generator, dtype=torch.complex64)
    else:
        values = torch.randn(root.shape, generator=generator, dtype=torch.float32).to(
            dtype if dtype.is_floating_point else torch.float32
        )
    return values.to(root.dtype).to(root.device)


def _silent(phase: Phase) -> None:
    """What happens on the host is not told."""


def unjudged(entry: Entry, dtype: torch.dtype, reason: str) -> Result:
    """The result of an entry that is not tried."""
    return Result(Outcome.UNJUDGED, Phase.FORWARD, reason, entry.claims_backward(dtype))


def _told(problem: BaseException) -> str:
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text[:300]}"
