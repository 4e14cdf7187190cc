"""Drills: one rank fails on purpose, and the stack must let the others know."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Note, Scope, Yield, check


@check(
    "multichip.drills",
    title="A rank that fails is noticed, and the others can stop",
    measures={
        "noticed": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Share of the other ranks that the stack lets know of the fault, by an error or by ending them, in time."
            ),
            why="A rank that fails must not leave the others waiting: they hold the chips of the whole job.",
            remedy=(
                "Set the stack's own timeout and its handling of asynchronous errors; update the library of collectives; "
                "until then, watch every rank from outside."
            ),
            action=Action.CHECK_CONFIG,
        ),
        "noticed_after_s": Measure(
            "s", better=Better.LOWER,
            meaning="Seconds until the last of them knows.",
            why="Until the last rank knows, all chips of the job wait.",
            remedy="Shorten the stack's own timeout; watch every rank from outside.",
            action=Action.CHECK_CONFIG,
        ),
        "named_culprit": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where exactly the right rank is named, by the stack or by our own monitor (label by).",
            title="The failed rank is named from outside",
            why="To restart the job, one must know which chip to leave out.",
            remedy="Read the rows: they show what each rank was doing.",
            action=Action.GATHER_EVIDENCE,
        ),
        "others_stopped": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the other ranks whose processes ended.",
            title="Other ranks can be stopped after a failure",
            why=(
                "Chips are given back when the processes that hold them can end: an abort that hangs needs a person, or a "
                "reboot."
            ),
            remedy="Update the library of collectives and the driver; end ranks from outside, by their process group.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "left_group": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the ranks that tried to leave their group and came out of it.",
            title="Other ranks can leave their group after a failure",
            why=(
                "A script that leaves its group in a `finally` hangs there when the library waits for a rank that will "
                "not come."
            ),
            remedy="Do not call destroy_process_group() after an error: end the process.",
            action=Action.CHECK_CONFIG,
        ),
        "silent": Measure(
            "1", better=Better.LOWER,
            meaning="Ranks that took wrong results without an error.",
            why="Ranks that sum unrelated tensors continue with garbage.",
            remedy="Train a first step under TORCH_DISTRIBUTED_DEBUG=DETAIL.",
            action=Action.CHECK_CONFIG,
        ),
        "usable_after": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the group still works after a refused call.",
            why="A mistake that was refused should cost an exception, not the job.",
            remedy="Make a new group after a refused call.",
            action=Action.CHECK_CONFIG,
        ),
        "survived": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where nothing was to be lost, and nothing was.",
            why="A disturbance that loses nothing must cost nothing but time.",
            remedy="Look at the retries and the timeout of the transport; update the library of collectives.",
            action=Action.CHECK_CONFIG,
        ),
        "retransmissions": Measure(
            "1",
            meaning="Segments that TCP sent again meanwhile.",
            why="It shows that the fault reached the ranks' connections.",
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where ranks failed by themselves.",
            title="Every failure drill could be held",
            why="A rank that fails while nothing was done to it will fail in a job.",
            remedy="The rows name rank and operation: run the vendor's link test, update the library of collectives.",
            action=Action.CONTACT_VENDOR,
        ),
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
    """Lets one rank fail on purpose, and looks whether the stack notices, names it, and lets the others stop.

    A rank that dies, stops or calls something else must not leave the others waiting for ever: a thousand chips that
    hang silently cost more than the failure. Each drill has ranks of its own, whose group is given `timeout_s`; one
    rank, drawn from the seed (never the first, which some libraries have report for all), fails in it: killed or stopped
    within a collective, absent, raising, calling another collective, with another shape or dtype, cut off, cut off for a
    quarter of the timeout, or behind a link that loses a share of `loss` (over TCP alone). A rank has noticed in time if
    it knows before nothing has moved for `patience_s` beyond the timeout. Watchdogs that write files before they end a
    process (PyTorch's for NCCL takes a minute over it) are set to write none.

    Labels: `drill`; `by` (`stack`: to the others; `watchdog`: ours, which needs nothing of the stack); `guard` (`detail`
    where TORCH_DISTRIBUTED_DEBUG=DETAIL has all calls compared); `ranks`, `chips` and `world` as in
    `multichip.collectives`.
    """
    from readiness.probes.rank_faults.parent import inject_all
    from readiness.probes.ranks_common.rank_check import placed

    placement = yield from placed(accelerator, ranks)
    yield Note(f"drills on {placement.scope}")
    yield from inject_all(
        accelerator, placement, timeout_s=timeout_s, loss=loss, patience_s=patience_s, start_s=start_s
    )
