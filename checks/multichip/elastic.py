"""A job under torchrun of which one worker dies."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Scope, Yield, check


@check(
    "multichip.elastic",
    title="torchrun brings a job back after a worker has died",
    measures={
        "restarted": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the jobs that came back after a worker was killed.",
            why="On a thousand chips one is lost every few hours, nights and holidays included.",
            remedy=(
                "Read the rows: the last error, and how many rounds there were; start jobs anew from outside until it "
                "works."
            ),
            action=Action.GATHER_EVIDENCE,
        ),
        "restart_s": Measure(
            "s", better=Better.LOWER,
            meaning="Longest time from a death to the first right sum on the last rank.",
            why="Every restart costs the whole job this long.",
            remedy="Look at how long workers take to start, to connect and to reach the first sum.",
            action=Action.GATHER_EVIDENCE,
        ),
        "wrong_results": Measure(
            "1", better=Better.LOWER,
            meaning="Wrong sums.",
            title="A job under torchrun adds up exactly",
            why="Every sum is known in advance: a wrong one means a wrong chip, link or address.",
            remedy="Do not train on this: have the chip that is named tested, and compare with multichip.integrity.",
            action=Action.GATHER_EVIDENCE,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where a job did not get as far as the death within start_s seconds.",
            title="A job under torchrun completes",
            why="A job of weeks is looked after by torchrun, or by something built on it.",
            remedy="The reason is torchrun's last error: check what the stack requires of a process that torchrun starts.",
            action=Action.CHECK_CONFIG,
        ),
    },
    cost=Cost.MINUTES,
    typical_s=45.0,
    limit_s=900.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("rank-exit", "hang", "collective-corrupt"),
    least={"tries": 1, "start_s": 1, "limit_s": 1, "timeout_s": 1},
)
def elastic(
    accelerator: Accelerator,
    *,
    ranks: int = 0,
    tries: int = 1,
    start_s: float = 60.0,
    limit_s: float = 60.0,
    timeout_s: float = 15.0,
) -> Iterator[Yield]:
    """Kills a worker of a job that torchrun looks after, and looks whether the job goes on by itself.

    Jobs of weeks rely on it: nobody gets up at night to start them anew. Under torchrun all ranks add up numbers whose
    sums are known; one of them kills itself; torchrun starts them all anew, and they are to come to the end. torchrun
    hands its workers one store for all rounds unless it is configured otherwise, and they may then take addresses of the
    dead for those of the living (torch 2.5 and later); so both ways are tried, `tries` times each. `timeout_s` is the
    timeout of the workers' group. A job that has not ended `limit_s` seconds after the death is ended, and has not come
    back.

    Labels: `store` (`own`: each round had a store of its own, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1; `shared`: torchrun
    did as it does by itself); `ranks`, `chips` and `world` as in `multichip.collectives`.
    """
    from readiness import temp_dir
    from readiness.probes.elastic import parent
    from readiness.probes.ranks_common.rank_check import placed

    placement = yield from placed(accelerator, ranks, here=True)
    with temp_dir() as folder:
        limits = parent.Limits(start_s, limit_s, timeout_s)
        yield from parent.restarts(accelerator, placement, folder, tries=tries, limits=limits)
