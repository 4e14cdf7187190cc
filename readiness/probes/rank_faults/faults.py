"""Faults of `multichip.drills`, what the others must then be able to expect, and what ranks report. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import Json


class Fault(StrEnum):
    """Fault of one rank: what it does, or what happens to it."""

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
    """Checks that the stack is asked for: none beyond its own, or that all ranks make the same calls."""

    NONE = "none"
    DETAIL = "detail"  # TORCH_DISTRIBUTED_DEBUG=DETAIL


@dataclass(frozen=True, slots=True)
class RankFault:
    """One fault under one guard."""

    fault: Fault
    guard: Guard = Guard.NONE

    @property
    def name(self) -> str:
        """The fault and its guard, as text."""
        return self.fault.value if self.guard is Guard.NONE else f"{self.fault.value}, guarded"

    @property
    def harmless(self) -> bool:
        """True if the group must come through with right results and no error."""
        return self.fault in (Fault.NONE, Fault.SHORT_CUT, Fault.LOSSY)

    @property
    def affects_links(self) -> bool:
        """True if it is injected into connections that the process can reach: into TCP."""
        return self.fault in (Fault.CUT, Fault.SHORT_CUT, Fault.LOSSY)

    @property
    def loses_a_rank(self) -> bool:
        """True if the faulty rank takes no further part."""
        return self.fault in (Fault.KILLED, Fault.STOPPED, Fault.ABSENT, Fault.RAISING)

    @property
    def is_mismatch(self) -> bool:
        """True if all ranks are well and one makes another call than the rest."""
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
    """The fault, the rank that has it, the timeout of the process group, and the share that a lossy link loses."""

    rank_fault: RankFault
    culprit: int
    timeout_s: float
    loss: float


@dataclass(frozen=True, slots=True)
class Healthy(Report):
    """Sums before the fault are done; so many elements were wrong."""

    wrong: int


@dataclass(frozen=True, slots=True)
class FaultInjected(Report):
    """The time of the fault, on the clock that all ranks share."""

    at: float


@dataclass(frozen=True, slots=True)
class Returned(Report):
    """A collective came back without an error, with so many wrong elements; of harmless faults also how many did."""

    wrong: int
    sums: int | None = None
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Noticed(Report):
    """A collective raised: the time, on the clock that all ranks share, and the error."""

    at: float
    message: str


@dataclass(frozen=True, slots=True)
class LastCall(Report):
    """The rank's last call, as the flight recorder has it."""

    call: Json | None


@dataclass(frozen=True, slots=True)
class Usable(Report):
    """Whether the group still works after a call that was refused, with the error where it does not."""

    works: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Left(Report):
    """How long leaving the group took, and whether it came to its end."""

    seconds: float
    left: bool


@dataclass(frozen=True, slots=True)
class Connections(Report):
    """TCP connections of the rank: local port, remote port, retransmissions, round trip in seconds."""

    connections: tuple[tuple[int, int, int, float], ...]
