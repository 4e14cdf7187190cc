"""Cases of a barrier: each rank in turn arrives late, and no other may leave before it arrives; then dozens in a row.

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
#: Barriers one after the other: a defect that begins after some calls shows in none of the few that wait for a late rank.
IN_A_ROW = 48
#: Of these each so manieth is begun first and waited for afterwards.
ASYNCHRONOUS = 4


@dataclass(frozen=True, slots=True)
class BarrierReport(Report):
    """Report: how often this rank left a barrier before a late rank entered it, of how many, and the late ranks.

    `unsupported` says why there is none.
    """

    barriers: int = 0
    left_early: int = 0
    late_ranks: tuple[int, ...] = ()
    unsupported: str | None = None


def reports(context: RankContext) -> Iterator[BarrierReport]:
    """Yield one report: of the barriers, or why the library has none."""
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
            yield BarrierReport(unsupported=refusal.reason)
            return
        left = context.clock()
        if left + doubt_s < max(context.exchange(entered)):
            early += 1
            late_ranks.append(late)
    for number in range(context.world_size + 1, context.world_size + 1 + IN_A_ROW):
        with context.step(f"barrier number {number}"):
            work = dist.barrier(async_op=True) if number % ASYNCHRONOUS == 0 else dist.barrier()
            if work is not None:
                work.wait()
            context.accelerator.synchronize()
    yield BarrierReport(context.world_size, early, tuple(late_ranks))
