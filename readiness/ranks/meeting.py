"""Proof that a barrier waits: each rank in turn comes late, and no other may have left before it came.

All ranks are on this machine, whose monotonic clock is the same for all of them; what each saw is compared through shared
memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch.distributed as dist

from readiness.ranks.comparing import refusing
from readiness.ranks.values import Json, RankContext

#: How late a rank comes: long enough for the others to have left a barrier that does not wait.
LATE_S = 0.02


def reports(context: RankContext) -> Iterator[Json]:
    """How often this rank left a barrier that a late rank had not entered, and of how many."""
    early, culprits = 0, []
    for late in range(context.world_size):
        context.share()
        if late == context.rank:
            time.sleep(LATE_S)
        entered = time.monotonic()
        with refusing() as refusal, context.step(f"barrier to which rank {late} comes late"):
            dist.barrier()
            context.accelerator.synchronize()
        if refusal.reason:
            return
        left = time.monotonic()
        if left < max(context.share(entered)):
            early += 1
            culprits.append(late)
    yield {"barriers": context.world_size, "left_early": early, "late_ranks": culprits}
