"""Cases of a barrier: each rank in turn arrives late, and no other may leave before it arrives.

Moments are compared on a clock that all ranks share, through shared memory. Ranks on other hosts know that clock less
exactly; they come late by more than that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch.distributed as dist

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.unsupported import unsupported_as_reason

#: How late a rank comes: long enough for the others to have left a barrier that does not wait, and in clock errors.
LATE_S, LATE_DOUBTS = 0.02, 4


@dataclass(frozen=True, slots=True)
class BarrierReport(Report):
    """How often this rank left a barrier before a late rank had entered it, of how many, and which ranks were late."""

    barriers: int
    left_early: int
    late_ranks: tuple[int, ...]


def reports(context: RankContext) -> Iterator[BarrierReport]:
    """One report, unless the library has no barrier."""
    early, late_ranks = 0, []
    doubt_s = 2 * max(context.exchange(context.doubt_s))  # of two clocks
    for late in range(context.world_size):
        context.exchange()
        if late == context.rank:
            time.sleep(max(LATE_S, LATE_DOUBTS * doubt_s))
        entered = context.clock()
        with unsupported_as_reason() as refusal, context.step(f"barrier with rank {late} late"):
            dist.barrier()
            context.accelerator.synchronize()
        if refusal.reason:
            return
        left = context.clock()
        if left + doubt_s < max(context.exchange(entered)):
            early += 1
            late_ranks.append(late)
    yield BarrierReport(context.world_size, early, tuple(late_ranks))
