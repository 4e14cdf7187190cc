"""Outcome of one operator of a workload in one dtype, with the timing of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from readiness.probes.operators.outcomes import Outcome, Phase, Result

#: A gradient takes about so many times the work of its forward.
_BACKWARD = 2.0


@dataclass(frozen=True, slots=True)
class CallTiming:
    """Timing of a replayed record: seconds of a call, its size, and whether that is the model's own size.

    `more_work` (multiplications) and `more_bytes` are what the model's own size has beyond what was replayed.
    """

    seconds: float
    full: bool
    size: str
    backward_seconds: float = 0.0
    more_work: float = 0.0
    more_bytes: float = 0.0

    def extrapolate(self, work_per_s: float, bytes_per_s: float) -> CallTiming:
        """Return the timing at the model's own size: what was measured, plus arithmetic and traffic for what is missing.

        Not in proportion to what was measured: the small call of a fast device is nearly all start.
        """
        more = self.more_work / work_per_s + 2 * self.more_bytes / bytes_per_s
        backward = self.backward_seconds + (_BACKWARD * more if self.backward_seconds else 0.0)
        return replace(self, seconds=self.seconds + more, backward_seconds=backward, more_work=0.0, more_bytes=0.0)


@dataclass(frozen=True, slots=True)
class ReplayResult(Result):
    """Result of one operator of a workload in one dtype, with the timings of its records by number.

    `reached` is False where no time was left before it was tried; `forward` is what became of it when no gradient was asked
    for, where its gradient failed.
    """

    reached: bool = True
    forward: Outcome | None = None
    timings: Mapping[int, CallTiming] = field(default_factory=dict)

    @property
    def without_gradient(self) -> ReplayResult:
        """Result for users that need no gradient."""
        if self.phase is not Phase.BACKWARD or self.forward is None:
            return self
        return replace(self, outcome=self.forward, phase=Phase.FORWARD, detail="", where="")
