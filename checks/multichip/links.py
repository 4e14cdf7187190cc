"""Links between chips: how fast each is, whether it holds under load, and whether one chip keeps the others waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Scope, check
from readiness.datamodel import Cost, Yield


@check(
    "multichip.links",
    title="Links and ranks keep pace under load",
    measures={
        "wrong_elements": "1",
        "rank_mismatches": "1",
        "interruptions": "1",
        "collective_speed_kept": "1",
        "slowest_link_share": "1",
        "link_speed_kept": "1",
        "link_gbps": "GB/s",
        "straggler_share": "1",
        "straggler_delay_s": "s",
        "completed": "1",
    },
    cost=Cost.SECONDS,
    typical_s=3.0,
    limit_s=300.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("collective-corrupt", "collective-mismatch", "rank-exit", "hang", "straggler", "link-slow", "link-flap"),
    least={"repeats": 4, "rounds": 1, "block_mib": 0.001, "most_mib": 0.001, "interruption_s": 0.001, "patience_s": 1},
)
def links(
    accelerator: Accelerator,
    *,
    ranks: int = 0,
    repeats: int = 1600,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    rounds: int = 8,
    block_mib: float = 1.0,
    most_mib: float = 128.0,
    interruption_s: float = 0.4,
    budget_s: float = 10.0,
    patience_s: float = 20.0,
) -> Iterator[Yield]:
    """Do links and ranks work as well after a thousand calls as at the first, and are they all alike?

    Pairs exchange blocks, one pair at a time, of `block_mib` and of more, up to `most_mib`, until there and back takes a
    quarter of a millisecond: `link_gbps` is the slowest pair's best, `slowest_link_share` the slowest pair's speed over the
    pairs' upper quartile (three pairs at least, on chips of their own; pairs on one host and pairs on two each for
    themselves), by their best, lower quartile or median, whichever is kindest to it: a busy host disturbs one of them. Each
    rank then sums with one partner after the other, `repeats` times in all, and with all ranks in between: `wrong_elements`
    counts what differs from the known answer, `rank_mismatches` the ranks that hold another sum than the first of their
    team. `collective_speed_kept` is the worst pair's best time in the first quarter over that in the last: 0.5 is half the
    speed; `link_speed_kept` is the same of transfers of those blocks, which are done again after all sums. `interruptions`
    counts calls of 50 times their kind's median and `interruption_s` at least, less the time in which the host did not let
    the ranks run (one or two of them count from 1.5 s on): a link that went and came back. Then every rank works by itself:
    `straggler_share` is the median rank's best time of a matrix product over the slowest's, or that share in the middle one
    of all turns where it is kinder (more turns where a rank looks slow); `straggler_delay_s` what a collective with itself
    takes the slowest longer than the median. `completed` as in `multichip.collectives`, and labels too. `ranks` = 0 is one
    on each chip.
    """
    from readiness.probes.links.measurements import links as measurements
    from readiness.probes.links.rank import rank_main
    from readiness.probes.links.reports import Settings
    from readiness.probes.ranks_common.exact_inputs import real_dtypes
    from readiness.probes.ranks_common.rank_check import rank_check

    settings = Settings(
        repeats=repeats, dtypes=real_dtypes(dtypes), rounds=rounds, block_mib=block_mib, most_mib=most_mib,
        interruption_s=interruption_s, budget_s=budget_s,
    )  # fmt: skip
    yield from rank_check(
        accelerator, rank_main, settings, measurements,
        title="links between", ranks=ranks, patience_s=patience_s, limit_s=250.0,
    )  # fmt: skip
