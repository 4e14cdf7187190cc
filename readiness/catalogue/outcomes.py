"""What becomes of an operator: exactly one of nine things in each dtype."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from readiness.catalogue.layouts import Layout
from readiness.numerics.unsupported import describe, is_unsupported


class Phase(StrEnum):
    """Where the outcome arose."""

    FORWARD = "forward"
    BACKWARD = "backward"
    FORWARD_MODE = "forward mode"


class Outcome(StrEnum):
    """What became of one operator in one dtype; exactly one of these."""

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
        """Whether it gave what it should have given."""
        return self in (Outcome.NATIVE, Outcome.DECOMPOSED, Outcome.FALLBACK, Outcome.NONDETERMINISTIC)

    @property
    def loud(self) -> bool:
        """Whether whoever calls it is told: it raises, or ends its process."""
        return self in (Outcome.MISSING, Outcome.CRASHED)

    @property
    def sound(self) -> bool:
        """Whether there is nothing to tell of it."""
        return self in (Outcome.NATIVE, Outcome.DECOMPOSED)


@dataclass(frozen=True, slots=True)
class Result:
    """One operator in one dtype.

    `backward` says whether a gradient was judged, or was due when forward failed; `layout` how the inputs lay or what
    else was special about the call, in words. `raised` marks a missing operator that is there and raises something else
    than that it is not: nobody can use it either. `forward_mode` says whether derivatives along a direction are right
    too, None where nobody asked or they cannot be judged; `refused_offset` how it refused or crashed where its inputs began
    at an offset, in words, where all else about it is as told here: neither is a part of the outcome.
    """

    outcome: Outcome
    phase: Phase
    detail: str
    backward: bool
    layout: str = ""
    raised: bool = False
    forward_mode: bool | None = None
    forward_mode_detail: str = ""
    refused_offset: str = ""

    @property
    def loud_at_an_offset(self) -> bool:
        """Whether it refuses, or ends its process, at an address that few programs ever have: nothing is hidden."""
        return self.outcome.loud and self.layout == Layout.OFFSET

    @property
    def explained(self) -> str:
        """The detail, with the layout that it needs."""
        return f"{self.layout}: {self.detail}" if self.layout else self.detail


class FailedError(Exception):
    """An operator has shown what is wrong with it."""

    def __init__(
        self, outcome: Outcome, phase: Phase, detail: str, layout: str = "", *, raised: bool = False
    ) -> None:
        super().__init__(detail)
        self.outcome, self.phase, self.detail, self.layout, self.raised = outcome, phase, detail, layout, raised

    def result(self, backward: bool) -> Result:
        """As the operator's result."""
        return Result(self.outcome, self.phase, self.detail, backward, self.layout, self.raised)


class NotClaimedError(Exception):
    """The device says itself that it does not offer what was asked for, and need not."""


def failed(problem: Exception, phase: Phase, layout: str) -> FailedError:
    """What an exception of a device's says of the operator that was called."""
    if isinstance(problem, NotClaimedError):
        return FailedError(Outcome.UNJUDGED, phase, str(problem), layout)
    return FailedError(Outcome.MISSING, phase, describe(problem), layout, raised=not is_unsupported(problem))
