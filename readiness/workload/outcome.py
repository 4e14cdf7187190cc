"""What becomes of an operator: exactly one of nine things."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from readiness.workload.document import Phase

#: What PyTorch and vendors' plug-ins say when a kernel is not there.
_ABSENT = re.compile(
    r"not implemented for|not (currently )?implemented|could not run '|not (currently )?supported|unsupported"
    r"|does not support|no kernel|not available for|unimplemented",
    re.IGNORECASE,
)


class Outcome(StrEnum):
    """What became of one operator in one dtype."""

    NATIVE = "native"
    DECOMPOSED = "decomposed"
    FALLBACK = "CPU fallback"
    MISSING = "missing"
    WRONG = "wrong"
    NONDETERMINISTIC = "nondeterministic"
    CRASH = "crash"
    HANG = "hang"
    UNJUDGED = "cannot be judged"

    @property
    def works(self) -> bool:
        """Whether a model gets what it should from it, however slowly."""
        return self in (Outcome.NATIVE, Outcome.DECOMPOSED, Outcome.FALLBACK, Outcome.NONDETERMINISTIC)


@dataclass(frozen=True, slots=True)
class Played:
    """One record as it was played: how long a call took, how large it was, and whether that is the model's own size."""

    seconds: float
    full: bool
    size: str
    backward_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """One operator in one dtype. `phase` is where it failed; `special` what was special about the call, in words.

    `forward` is what became of it when no gradient was asked for, where something is to be told of its gradient.
    """

    outcome: Outcome
    phase: Phase = Phase.FORWARD
    detail: str = ""
    special: str = ""
    backward: bool = False
    reached: bool = True
    forward: Outcome | None = None
    played: Mapping[int, Played] = field(default_factory=dict)

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
    absent = isinstance(problem, NotImplementedError) or _ABSENT.search(str(problem)) is not None
    detail = told(problem) if absent else f"it raises {told(problem)}"
    return FailedError(Outcome.MISSING, phase, detail, special)


def told(problem: BaseException) -> str:
    """An exception in one line."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
