"""Outcome of an operator in one dtype, exactly one of nine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from readiness.numerics.unsupported import describe, is_unsupported
from readiness.probes.operators.layouts import Layout


class Phase(StrEnum):
    """Phase in which the outcome arose."""

    FORWARD = "forward"
    BACKWARD = "backward"
    FORWARD_MODE = "forward mode"


class Outcome(StrEnum):
    """Outcome of one operator in one dtype."""

    NATIVE = "native"
    DECOMPOSED = "decomposed"
    FALLBACK = "CPU fallback"
    MISSING = "missing"
    WRONG = "wrong"
    NONDETERMINISTIC = "nondeterministic"
    CRASHED = "crash"
    HANG = "hang"
    UNJUDGED = "cannot be judged"

    @property
    def right(self) -> bool:
        """True if the results are right."""
        return self in (Outcome.NATIVE, Outcome.DECOMPOSED, Outcome.FALLBACK, Outcome.NONDETERMINISTIC)

    @property
    def visible_failure(self) -> bool:
        """True if the failure is visible to the caller: an exception, or the death of its process."""
        return self in (Outcome.MISSING, Outcome.CRASHED)

    @property
    def clean(self) -> bool:
        """True if there is nothing to report."""
        return self in (Outcome.NATIVE, Outcome.DECOMPOSED)


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one operator in one dtype.

    `backward` says whether a gradient was judged, or was due when forward failed; `where` how the inputs lay or what else
    was special about the call, in words. `raised` marks a missing operator that is there and raises something else than
    that it is not: nobody can use it either. `refused_offset` says how it refused or crashed where its inputs began at an
    offset, where all else about it is as reported here: it is no part of the outcome.
    """

    outcome: Outcome
    phase: Phase = Phase.FORWARD
    detail: str = ""
    backward: bool = False
    where: str = ""
    raised: bool = False
    refused_offset: str = ""

    @property
    def visible_failure_at_offset(self) -> bool:
        """True if it refuses, or ends its process, at a rare address: nothing is hidden."""
        return self.outcome.visible_failure and self.where == Layout.OFFSET

    @property
    def explained(self) -> str:
        """Detail, with the circumstances that show it."""
        return f"{self.where}: {self.detail}" if self.where else self.detail


@dataclass(frozen=True, slots=True)
class SweepResult(Result):
    """Result of one operator of the database in one dtype.

    `forward_mode` says whether derivatives along a direction are right too, None where nobody asked or they cannot be
    judged: like `refused_offset` it is no part of the outcome. `known` tells of known defects of PyTorch's own that it
    showed where PyTorch's own kernels compute: they are no part of the outcome either. `unjudged_backward` says why its
    gradient could not be judged although it has one: the reference's own is wrong.
    """

    forward_mode: bool | None = None
    forward_mode_detail: str = ""
    known: str = ""
    unjudged_backward: str = ""


class FailedError(Exception):
    """The operator has failed; carries the outcome."""

    def __init__(self, outcome: Outcome, phase: Phase, detail: str, where: str = "", *, raised: bool = False) -> None:
        super().__init__(detail)
        self.outcome, self.phase, self.detail, self.where, self.raised = outcome, phase, detail, where, raised


class NotClaimedError(Exception):
    """The device declares that it does not support this, and does not need to."""


def failed(problem: Exception, phase: Phase, where: str) -> FailedError:
    """Return the failure that an exception of the device means for the operator."""
    if isinstance(problem, NotClaimedError):
        return FailedError(Outcome.UNJUDGED, phase, str(problem), where)
    return FailedError(Outcome.MISSING, phase, describe(problem), where, raised=not is_unsupported(problem))
