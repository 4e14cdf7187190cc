"""Limits for starting and ending ranks: seconds for their processes, and cores per rank."""

from __future__ import annotations

from readiness.host.runqueue_wait import usable_cores

#: How long a killed process may take to go. One in an uninterruptible sleep never does.
KILL_S = 5.0
#: How long processes may take to come up, on stacks that start an interpreter for each.
PROCESSES_S = 120.0


def share_of_cores(ranks: int) -> int:
    """Return the number of this host's cores for each of `ranks` ranks, at least one."""
    return max(1, usable_cores() // ranks)
