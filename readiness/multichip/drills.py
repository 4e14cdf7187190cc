"""The drills there are: what one rank does, and what the others must then be able to expect. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What befalls one rank, or what it does."""

    NONE = "none"                            # nothing: whoever cries here cries always
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
    """What the stack is asked to look out for: nothing beyond its ways, or that all ranks call alike."""

    NONE = "none"
    DETAIL = "detail"  # TORCH_DISTRIBUTED_DEBUG=DETAIL


@dataclass(frozen=True, slots=True)
class Drill:
    """One fault under one guard."""

    fault: Fault
    guard: Guard = Guard.NONE

    @property
    def name(self) -> str:
        """In words."""
        return self.fault.value if self.guard is Guard.NONE else f"{self.fault.value}, guarded"

    @property
    def harmless(self) -> bool:
        """Whether the group is to come through with right results and no error."""
        return self.fault in (Fault.NONE, Fault.SHORT_CUT, Fault.LOSSY)

    @property
    def of_the_link(self) -> bool:
        """Whether it is a fault of connections that the process can reach: of TCP."""
        return self.fault in (Fault.CUT, Fault.SHORT_CUT, Fault.LOSSY)

    @property
    def loses_a_rank(self) -> bool:
        """Whether the rank that fails takes no further part."""
        return self.fault in (Fault.KILLED, Fault.STOPPED, Fault.ABSENT, Fault.RAISING)

    @property
    def of_the_call(self) -> bool:
        """Whether all ranks are well and one calls otherwise than the rest."""
        return self.fault in (Fault.COLLECTIVE, Fault.SHAPE, Fault.BYTES, Fault.SAME_BYTES)


_MISTAKES = (Fault.COLLECTIVE, Fault.SHAPE, Fault.BYTES, Fault.SAME_BYTES)
#: In the order in which they are held: the one without a fault first, since without it the others say nothing.
DRILLS = (
    *(Drill(fault) for fault in Fault),
    Drill(Fault.ABSENT, Guard.DETAIL),
    *(Drill(fault, Guard.DETAIL) for fault in _MISTAKES),
)
