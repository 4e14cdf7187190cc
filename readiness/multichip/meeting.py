"""Proof that a barrier waits: each rank in turn comes late, and no other may have left before it came.

What each saw is compared on a clock that all ranks share, through shared memory. Ranks on other hosts know that clock only
so well; they come late by more than that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch.distributed as dist

from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import Json, RankContext

#: How late a rank comes: long enough for the others to have left a barrier that does not wait. In doubts about the clock.
LATE_S, LATE_DOUBTS = 0.02, 4


def reports(context: RankContext) -> Iterator[Json]:
    """How often this rank left a barrier that a late rank had not entered, and of how many."""
    early, culprits = 0, []
    doubt_s = 2 * max(context.share(context.doubt_s))  # of two clocks
    for late in range(context.world_size):
        context.share()
        if late == context.rank:
            time.sleep(max(LATE_S, LATE_DOUBTS * doubt_s))
        entered = context.clock()
        with unsupported_as_reason() as refusal, context.step(f"barrier to which rank {late} comes late"):
            dist.barrier()
            context.accelerator.synchronize()
        if refusal.reason:
            return
        left = context.clock()
        if left + doubt_s < max(context.share(entered)):
            early += 1
            culprits.append(late)
    yield {"barriers": context.world_size, "left_early": early, "late_ranks": culprits}
