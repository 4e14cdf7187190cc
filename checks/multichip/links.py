"""Links between chips: how fast each is, whether it holds under load, and whether one chip keeps the others waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Scope, Yield, check


@check(
    "multichip.links",
    title="Links and ranks keep pace under load",
    measures={
        "wrong_elements": Measure(
            "1", better=Better.LOWER,
            meaning="Elements of sums that differ from the known answer.",
            title="Repeated collectives give exact sums",
            why=(
                "A sum that is wrong once in a thousand calls is wrong at every step of a training run, and in every "
                "answer of a long one."
            ),
            remedy=(
                "Do not train on this: take the chip that all wrong calls share out of service, or have the link between "
                "the two tested."
            ),
            action=Action.REPLACE,
        ),
        "rank_mismatches": Measure(
            "1", better=Better.LOWER,
            meaning="Ranks that hold another sum than the first of their team.",
            title="All ranks hold the same sums",
            why="Ranks that hold different sums of the same gradients train different models from there on.",
            remedy="Do not train on this: have the chip that is named, and its links, tested.",
            action=Action.REPLACE,
        ),
        "interruptions": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Calls of 50 times their kind's median and `interruption_s` at least, less the time the host kept ranks "
                "waiting (one or two such calls count from 1.5 s on): a link that was lost and came back."
            ),
            title="No link is lost during the run",
            why="A link that is lost and comes back within a minute of light work ends a training run some day.",
            remedy="Read the link's error counters and the kernel's log; reseat or replace cable, module or chip.",
            action=Action.REPLACE,
        ),
        "collective_speed_kept": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Best time of sums in the first quarter over that in the last, of the worst pair: 0.5 is half the speed. "
                "Nothing below 0.6 where the host kept its two ranks waiting for half of that time together."
            ),
            title="Repeated collectives keep their speed",
            why="A collective that slows down within two thousand calls slows every later step of a training run.",
            remedy="Look at temperatures and at the link's retries while it runs; update the library of collectives.",
            action=Action.CONTACT_VENDOR,
        ),
        "slowest_link_share": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Best speed of the slowest pair over the upper quartile of all pairs' best speeds. On a busy host, where "
                "half of all transfers take twice the best: the same by best, lower quartile or median, whichever is "
                "kindest, and only where that is slow."
            ),
            title="All links are about equally fast",
            why="Every collective goes at the pace of its slowest link.",
            remedy=(
                "Have the link between the chips named tested: its width, its speed, its retries. If the machine is built "
                "so, keep groups on the fast side."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "link_speed_kept": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Best time of transfers before all sums over that after them, of the worst pair. Nothing below 0.6 where "
                "the host kept its two ranks waiting for half of that time together."
            ),
            title="Every link keeps its speed",
            why="A link that has lost lanes or trained down after a thousand calls slows every step from then on.",
            remedy=(
                "Look at the link's counters and at temperatures; a link that trained down after an error stays slow "
                "until it is reset."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "link_gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning="Best rate of the slowest pair.",
            why="Pipelines, rings and experts send between two chips at a time.",
            remedy="Have the link between the pair that is named tested: its width, its speed, its retries.",
            action=Action.CONTACT_VENDOR,
        ),
        "straggler_share": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Best time of a matrix product on the median rank over that on the slowest, or that share in the middle "
                "one of all turns where it is kinder. Label `load`: alone, together with all others, or exchanging (each "
                "rank in turn while all sum a large block; nothing where no product fits into the sum)."
            ),
            title="All ranks are about equally fast",
            why="Every step, of training and of decoding, waits for the slowest chip.",
            remedy="Compare clocks, power limits and temperatures of the chip named with its neighbours'.",
            action=Action.GATHER_EVIDENCE,
        ),
        "straggler_delay_s": Measure(
            "s", better=Better.LOWER,
            meaning="What a collective with itself takes the slowest rank longer than the median.",
            title="Every rank enters collectives promptly",
            why="A rank that enters every collective late keeps all the others waiting, and looks no slower than they do.",
            remedy=(
                "Look at what else runs on that rank's host cores, and at its driver; compare with another chip on the "
                "same cores."
            ),
            action=Action.GATHER_EVIDENCE,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where a rank died, hung or raised.",
            title="Repeated collectives complete",
            why="A collective that hangs at its thousandth call hangs a job within its first minute.",
            remedy=(
                "The rows name rank, call and chip: run the vendor's link test between those chips, update the library of "
                "collectives."
            ),
            action=Action.CONTACT_VENDOR,
        ),
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
    """Repeats transfers and sums some thousand times, and compares the last with the first and the ranks with each other.

    Pairs exchange blocks, one pair at a time, of `block_mib` and of more, up to `most_mib`, until there and back takes a
    quarter of a millisecond. Each rank then sums with one partner after the other, `repeats` times in all, and with all
    ranks in between; transfers are done again after all sums. Then every rank works by itself. Three pairs at least, on
    chips of their own, are compared with each other; pairs on one host and pairs on two each for themselves. A busy host
    disturbs one statistic or another: what is kindest to a pair counts, and a rank that looks slow gets more turns.

    Labels: as in `multichip.collectives`.
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
