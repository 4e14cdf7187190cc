"""What becomes of an operator: exactly one of nine things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from readiness.catalogue.layouts import Layout
from readiness.catalogue.outcomes import Outcome
from readiness.numerics.unsupported import describe, is_unsupported
from readiness.workload.document import Phase

#: A gradient takes about so many times the work of its forward.
_BACKWARD = 2.0

__all__ = ["FailedError", "Outcome", "Played", "Result", "raised"]


@dataclass(frozen=True, slots=True)
class Played:
    """One record as it was played: how long a call took, how large it was, and whether that is the model's own size.

    `more_work` (multiplications) and `more_bytes` are what the model's own size has beyond what was played.
    """

    seconds: float
    full: bool
    size: str
    backward_seconds: float = 0.0
    more_work: float = 0.0
    more_bytes: float = 0.0

    def at_pace(self, work_per_s: float, bytes_per_s: float) -> Played:
        """As at the model's own size: what was measured, and for what that has beyond it arithmetic and traffic.

        Not in proportion to what was measured: the small call of a fast device is nearly all start.
        """
        more = self.more_work / work_per_s + 2 * self.more_bytes / bytes_per_s
        backward = self.backward_seconds + (_BACKWARD * more if self.backward_seconds else 0.0)
        return replace(self, seconds=self.seconds + more, backward_seconds=backward, more_work=0.0, more_bytes=0.0)


@dataclass(frozen=True, slots=True)
class Result:
    """One operator in one dtype. `phase` is where it failed; `special` what was special about the call, in words.

    `forward` is what became of it when no gradient was asked for, where something is to be told of its gradient;
    `refused_offset` how it refused or crashed where its inputs began at an offset, in words, where all else is as told here.
    """

    outcome: Outcome
    phase: Phase = Phase.FORWARD
    detail: str = ""
    special: str = ""
    backward: bool = False
    reached: bool = True
    forward: Outcome | None = None
    played: Mapping[int, Played] = field(default_factory=dict)
    refused_offset: str = ""

    @property
    def loud_at_an_offset(self) -> bool:
        """Whether it refuses, or ends its process, at an address that the model never has: nothing is hidden."""
        return self.outcome.loud and self.special == Layout.OFFSET

    @property
    def served(self) -> Result:
        """What it is to those who need no gradient."""
        if self.phase is not Phase.BACKWARD or self.forward is None:
            return self
        return replace(self, outcome=self.forward, phase=Phase.FORWARD, detail="", special="")

    @property
    def explained(self) -> str:
        """The detail, with what it needs to show."""
        return f"{self.special}: {self.detail}" if self.special else self.detail


class FailedError(Exception):
    """An operator has shown what is wrong with it."""

    def __init__(self, outcome: Outcome, phase: Phase, detail: str, special: str = "") -> None:
        super().__init__(detail)
        self.outcome, self.phase, self.detail, self.special = outcome, phase, detail, special


def raised(problem: Exception, phase: Phase, special: str) -> FailedError:
    """What an exception of the device's says of the operator: it is not there, or there and of no use."""
    detail = describe(problem) if is_unsupported(problem) else f"it raises {describe(problem)}"
    return FailedError(Outcome.MISSING, phase, detail, special)
