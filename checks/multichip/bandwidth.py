"""Bandwidth between ranks, in every size and group, against a raw transfer in the same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from readiness import Accelerator, Action, Better, Cost, Measure, Scope, Yield, check


@check(
    "multichip.bandwidth",
    title="Collectives are as fast as the links allow",
    measures={
        "algorithm_gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning="Size of an operation over its time, best sample of the slowest group of its size.",
            why="This is the speed that a training script sees for an operation of this size.",
            remedy="Compare with other sizes and with link_gbps; look at the topology and at the library's settings.",
            action=Action.CHECK_CONFIG,
        ),
        "bus_gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning=(
                "The same times the share of the size that passes a link, so that groups of several sizes compare with a "
                "link."
            ),
            why="It shows how much of what a link can carry an operation uses.",
            remedy="Compare with other sizes and with link_gbps; look at the topology and at the library's settings.",
            action=Action.CHECK_CONFIG,
        ),
        "peak_bus_gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning=(
                "Most that all ranks together reach in any size; not measured where time was up before messages were "
                "large enough."
            ),
            why="Gradients, parameters and tokens of every step pass at this rate at best.",
            remedy="Check that transfers go over the chips' own links and not over the host's bus; look at the topology.",
            action=Action.CHECK_CONFIG,
        ),
        "group_bus_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Bus bandwidth of a small group over that of all ranks in the same size.",
            title="Groups of a few chips are about as fast as all",
            why="Matrices and experts are divided over two or four chips: where only all together are fast, that is slow.",
            remedy=(
                "Divide over all chips of the host, or give each group neighbours that have the widest links; look at the "
                "topology."
            ),
            action=Action.CHECK_CONFIG,
        ),
        "latency_us": Measure(
            "us", better=Better.LOWER,
            meaning="Median time of the smallest size.",
            why="Decoding, and every small tensor, waits for it twice in every layer.",
            remedy="Use a library of collectives with a path for small messages, graph capture, or fewer chips to a group.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "link_gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning="Rate of the slowest pair of ranks, one way.",
            why="Pipelines, rings and experts send between two chips at a time.",
            remedy="Have the link between the pair that is named tested: its width, its speed, its retries.",
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_raw": Measure(
            "1", better=Better.HIGHER,
            meaning="Rate of the slowest pair over that of the raw transfer between the same ranks.",
            why="Between any two ranks a library should come near what a plain transfer carries.",
            remedy="Look at what else runs; compare the library's settings (interfaces, threads) with its defaults.",
            action=Action.CHECK_CONFIG,
        ),
        "usual_share_of_raw": Measure(
            "1", better=Better.HIGHER,
            meaning="Rate of the median pair over that of the raw transfer between the same ranks.",
            title="The library comes near what a plain socket carries",
            why="Between ranks of one host a library should come near what a plain socket carries in the same moment.",
            remedy="Look at what else runs; compare the library's settings (interfaces, threads) with its defaults.",
            action=Action.CHECK_CONFIG,
        ),
        "most_of_raw": Measure(
            "1",
            meaning=(
                "Rate of the fastest pair over that of the raw transfer: what is faster than the link has not been sent."
            ),
            why="A transfer that is several times as fast as a plain one between the same ranks has not been made.",
            remedy="Compare the results: the operation returns before the data have arrived.",
            action=Action.GATHER_EVIDENCE,
        ),
        "both_ways_gain": Measure(
            "1", better=Better.HIGHER,
            meaning="Rate of both directions at once over that of one; 2 where they do not share.",
            why="Rings and exchanges of tokens send and receive at once: directions that share a link halve each other.",
            remedy="Look at the link's width and at the library's channels; compare with another pair.",
            action=Action.CHECK_CONFIG,
        ),
        "tail_ratio": Measure(
            "1", better=Better.LOWER,
            meaning="99th percentile of many equal small sums over their median.",
            title="No collective takes far longer than usual",
            why=(
                "A link that repeats one message of a hundred slows a training run several times, and makes one word of a "
                "hundred late; no median shows it."
            ),
            remedy="Read the links' counters of errors and retries; reseat or replace cable, module or chip.",
            action=Action.CONTACT_VENDOR,
        ),
        "longest_ratio": Measure(
            "1", better=Better.LOWER,
            meaning="Longest of many equal small sums over their median.",
            why="One call that takes very long holds up the step of every chip.",
            remedy="Read the links' counters of errors and retries; look at what else runs on the hosts.",
            action=Action.GATHER_EVIDENCE,
        ),
        "jitter": Measure(
            "1", better=Better.LOWER,
            meaning="Interquartile range of many equal small sums over their median.",
            why="Where times scatter, every step waits for the slowest of many calls.",
            remedy="Look at what else runs on the hosts, at power states and at the links' retries.",
            action=Action.GATHER_EVIDENCE,
        ),
        "overlap_ratio": Measure(
            "1", better=Better.LOWER,
            meaning="Time of a sum and products at once over the longer time of each alone.",
            title="Exchanges and computation overlap",
            why=(
                "Training exchanges gradients while it computes; where the two take turns, every exchange is paid for in "
                "full."
            ),
            remedy=(
                "Look at how many units collectives may take (NCCL_MAX_CTAS and the like) and whether copies have engines "
                "of their own."
            ),
            action=Action.CHECK_CONFIG,
        ),
        "wrong_results": Measure(
            "1", better=Better.LOWER,
            meaning="Timed results that are not what they must be.",
            title="Every timed collective gives right results",
            why="Fast but wrong results are useless: every timed result is compared.",
            remedy="Do not use this: have the chip and the links that are named tested.",
            action=Action.REPLACE,
        ),
        "link_faults": Measure(
            "1", better=Better.LOWER,
            meaning="By how much the vendor's counters of errors on links rose since the run began.",
            title="Links count no faults",
            why="A link that counts errors while everything still comes out right is the one that fails next.",
            remedy="Reseat or replace cable, module or chip; clear the counters and watch them.",
            action=Action.REPLACE,
        ),
        "link_retries": Measure(
            "1", better=Better.LOWER,
            meaning="By how much the vendor's counters of repeated transfers on links rose since the run began.",
            title="Links repeat no transfers",
            why="A transfer that is repeated hides a link that fails: results stay right, and some calls take long.",
            remedy="Find the link whose counter moved; reseat or replace cable, module or chip.",
            action=Action.CONTACT_VENDOR,
        ),
        "links_up_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Links that are up on the chip with the fewest over those on the chip with the most.",
            title="All links of every chip are up",
            why="A chip with a link fewer than its neighbours makes every collective as narrow as itself.",
            remedy=(
                "Look at nvidia-smi nvlink --status of the chip named and at the fabric manager's log; reseat the module "
                "or have it replaced."
            ),
            action=Action.REPLACE,
        ),
        "share_of_links": Measure(
            "1", better=Better.HIGHER,
            meaning="peak_bus_gbps over the rated speed of a chip's links.",
            title="Links carry a fair share of their rated speed",
            why=(
                "Links that are all equally slow pass every comparison among themselves: a wrong setting, or transfers "
                "that go another way."
            ),
            remedy=(
                "Look at what the collective library says of its way (NCCL_DEBUG=INFO), at the fabric manager, and at the "
                "IOMMU and access control."
            ),
            action=Action.CHECK_CONFIG,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where a rank died, hung or raised; a row says which and where.",
            title="Every timed collective completes",
            why="A collective that hangs or raises ends the job on every chip.",
            remedy="The rows name rank, operation and chip: run the vendor's link test, update the library of collectives.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=6.0,
    limit_s=300.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("counter", "link-slow"),
    least={"samples": 1, "block_mib": 0.001, "most_mib": 0.001, "tail_calls": 1, "patience_s": 1},
)  # fmt: skip
def bandwidth(
    accelerator: Accelerator,
    *,
    ranks: int = 0,
    bytes: Sequence[int] = (8, 65536, 2097152),  # noqa: A002 - what nccl-tests call it
    samples: int = 4,
    block_mib: float = 1.0,
    most_mib: float = 128.0,
    tail_calls: int = 200,
    budget_s: float = 10.0,
    patience_s: float = 30.0,
) -> Iterator[Yield]:
    """Times collectives of several sizes and groups, transfers between every pair of ranks, and many equal small sums.

    Sizes (`bytes`) are as nccl-tests count them. Larger ones follow those asked for, up to `most_mib`, while a sum takes
    less than 5 ms and `budget_s` lasts. Every pair of ranks sends a block there and back, then both ways at once, and
    beside it the same block the raw way: over a socket where the device is host memory, else as a copy within the device
    (label `raw`); blocks grow likewise. The tail of small sums is reported with and without the time for which the host kept
    a rank waiting. Every timed result is compared.

    Labels: as in `multichip.collectives`, and `raw`.
    """
    from readiness.probes.bandwidth.measurements import measurements
    from readiness.probes.bandwidth.rank import rank_main
    from readiness.probes.bandwidth.reports import Settings
    from readiness.probes.ranks_common.rank_check import rank_check

    settings = Settings(
        bytes=tuple(bytes), samples=samples, block_mib=block_mib, most_mib=most_mib, tail_calls=tail_calls,
        budget_s=budget_s,
    )  # fmt: skip
    yield from rank_check(
        accelerator, rank_main, settings, partial(measurements, stack=accelerator.stack),
        title="bandwidth between", ranks=ranks, patience_s=patience_s, limit_s=250.0,
    )  # fmt: skip
