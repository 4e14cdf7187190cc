"""Faults of `multichip.drills`, the expected response of the other ranks, and the reports of ranks. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import Json


class Fault(StrEnum):
    """Fault of one rank."""

    NONE = "none"                            # control run: no fault is injected
    KILLED = "killed"                        # its process dies by SIGKILL within a collective
    STOPPED = "stopped"                      # its process is stopped within a collective
    ABSENT = "absent"                        # it never calls the collective
    RAISING = "raising"                      # it raises, and its process leaves
    COLLECTIVE = "other collective"          # it calls another one than the others
    SHAPE = "other shape"                    # it brings more elements than the others
    BYTES = "other dtype, other bytes"       # it brings as many elements of another size
    SAME_BYTES = "other dtype, same bytes"   # it brings as many elements of the same size
    CUT = "cut link"                         # nothing passes between it and the others any more
    SHORT_CUT = "link cut for a moment"      # the same, for much less than the timeout
    LOSSY = "lossy link"                     # a share of what passes is lost


class Guard(StrEnum):
    """Checks enabled in the stack: none beyond its own, or that all ranks make the same calls."""

    NONE = "none"
    DETAIL = "detail"  # TORCH_DISTRIBUTED_DEBUG=DETAIL


@dataclass(frozen=True, slots=True)
class RankFault:
    """One fault under one guard."""

    fault: Fault
    guard: Guard = Guard.NONE

    @property
    def name(self) -> str:
        """Name of the fault and its guard."""
        return self.fault.value if self.guard is Guard.NONE else f"{self.fault.value}, guarded"

    @property
    def harmless(self) -> bool:
        """True if the group must survive with right results and without an error."""
        return self.fault in (Fault.NONE, Fault.SHORT_CUT, Fault.LOSSY)

    @property
    def affects_links(self) -> bool:
        """True if it is injected into connections of the process: into TCP."""
        return self.fault in (Fault.CUT, Fault.SHORT_CUT, Fault.LOSSY)

    @property
    def loses_a_rank(self) -> bool:
        """True if the faulty rank takes no further part."""
        return self.fault in (Fault.KILLED, Fault.STOPPED, Fault.ABSENT, Fault.RAISING)

    @property
    def is_mismatch(self) -> bool:
        """True if all ranks are healthy and one makes a different call."""
        return self.fault in _MISMATCHES


_MISMATCHES = (Fault.COLLECTIVE, Fault.SHAPE, Fault.BYTES, Fault.SAME_BYTES)
#: In the order in which they are injected: the control run first, since without it the others show nothing.
RANK_FAULTS = (
    *(RankFault(fault) for fault in Fault),
    RankFault(Fault.ABSENT, Guard.DETAIL),
    *(RankFault(fault, Guard.DETAIL) for fault in _MISMATCHES),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: the fault, its rank, the timeout of the process group, and the share that a lossy link drops."""

    rank_fault: RankFault
    culprit: int
    timeout_s: float
    loss: float


@dataclass(frozen=True, slots=True)
class SumsBefore(Report):
    """Report: sums before the fault are done; so many elements were wrong."""

    wrong: int


@dataclass(frozen=True, slots=True)
class FaultInjected(Report):
    """Report: time of the fault, on the clock that all ranks share."""

    at: float


@dataclass(frozen=True, slots=True)
class CallReturned(Report):
    """Report: a collective returned without an error; its wrong elements, and for harmless faults how many returned."""

    wrong: int
    sums: int | None = None
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ErrorRaised(Report):
    """Report: a collective raised; the time on the shared clock, and the error."""

    at: float
    message: str


@dataclass(frozen=True, slots=True)
class LastCall(Report):
    """Report: the rank's last call, from the flight recorder."""

    call: Json | None


@dataclass(frozen=True, slots=True)
class GroupUsable(Report):
    """Report: whether the group still works after a refused call, with the error if it does not."""

    works: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class GroupLeft(Report):
    """Report: the duration of leaving the group, and whether it finished."""

    seconds: float
    left: bool


@dataclass(frozen=True, slots=True)
class Connections(Report):
    """Report: TCP connections of the rank: local port, remote port, retransmissions, round trip in seconds."""

    connections: tuple[tuple[int, int, int, float], ...]
