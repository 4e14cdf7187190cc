"""Drills: one rank fails on purpose, and the stack must let the others know."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Scope, check
from readiness.datamodel import Cost, Note, Yield


@check(
    "multichip.drills",
    title="A rank that fails is noticed, and the others can stop",
    measures={
        "noticed": "1",
        "noticed_after_s": "s",
        "named_culprit": "1",
        "others_stopped": "1",
        "left_group": "1",
        "silent": "1",
        "usable_after": "1",
        "survived": "1",
        "retransmissions": "1",
        "completed": "1",
    },
    cost=Cost.MINUTES,
    typical_s=25.0,
    limit_s=900.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("rank-exit", "hang", "collective-mismatch", "timeout-ignored"),
    least={"timeout_s": 0.5, "patience_s": 1, "start_s": 1},
    most={"loss": 0.5},
)
def drills(
    accelerator: Accelerator,
    *,
    ranks: int = 0,
    timeout_s: float = 2.0,
    patience_s: float = 6.0,
    loss: float = 0.01,
    start_s: float = 30.0,
) -> Iterator[Yield]:
    """When one rank fails, does the stack notice, say who it was, and let the others stop?

    A rank that dies, stops or calls something else must not leave the others waiting for ever: a thousand chips that
    hang silently cost more than the failure. Each drill has ranks of its own, whose group is given `timeout_s`;
    one rank, drawn from the seed (never the first, which some libraries have report for all), fails in it: killed or
    stopped within a collective, absent, raising, calling another collective, with another shape or dtype, cut off, cut
    off for a quarter of the timeout, or behind a link that loses a share of `loss` (over TCP alone). `guard` is `detail`
    where TORCH_DISTRIBUTED_DEBUG=DETAIL has all calls compared.

    `noticed` is the share of the other ranks that the stack lets know, by an error or by ending them, before nothing has
    moved for `patience_s` beyond the timeout; `noticed_after_s` is when the last of them knows. Watchdogs that write files
    before they end a process (PyTorch's for NCCL takes a minute over it) are set to write none. `named_culprit` is 1 where
    exactly the right rank is named: by the `stack` to the others, or by our `watchdog`, which needs nothing of the stack.
    `others_stopped` is the share whose processes ended, `left_group` of those that could try the share that came out of
    leaving the group as well; `silent` counts ranks that took wrong results without an error; `usable_after` is 1 where the
    group still works after a refused call; `survived` where nothing was to be lost, and nothing was; `retransmissions`
    counts segments that TCP sent again meanwhile. `completed` is 0 where ranks failed by themselves. Labels `ranks`, `chips`
    and `world` as in `multichip.collectives`.
    """
    from readiness.probes.rank_faults.parent import inject_all
    from readiness.probes.ranks_common.rank_check import placed

    placement = yield from placed(accelerator, ranks)
    yield Note(f"drills on {placement.scope}")
    yield from inject_all(
        accelerator, placement, timeout_s=timeout_s, loss=loss, patience_s=patience_s, start_s=start_s
    )
