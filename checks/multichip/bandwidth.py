"""How fast ranks exchange, in every size and group, against a raw transfer in the same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Scope, check
from readiness.datamodel import Cost, Yield


@check(
    "multichip.bandwidth",
    title="Collectives are as fast as the links allow",
    measures={
        "algorithm_gbps": "GB/s", "bus_gbps": "GB/s", "peak_bus_gbps": "GB/s", "group_bus_share": "1", "latency_us": "us",
        "link_gbps": "GB/s", "share_of_raw": "1", "usual_share_of_raw": "1", "most_of_raw": "1", "both_ways_gain": "1",
        "tail_ratio": "1", "longest_ratio": "1", "jitter": "1", "overlap_ratio": "1", "wrong_results": "1",
        "link_faults": "1", "link_retries": "1", "links_up_share": "1", "share_of_links": "1", "completed": "1",
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
    """How fast do chips exchange, whatever the size, the group and the partner, and how late are the latest calls?

    `algorithm_gbps` is the size of an operation (`bytes`, as nccl-tests count it) over its time, `bus_gbps` that times
    the share of it that passes a link, so that groups of several sizes compare with each other and with a link; both by
    the best sample of the slowest group of its size. Larger sizes follow those asked for, up to `most_mib`, while a sum
    takes less than 5 ms and `budget_s` lasts. `peak_bus_gbps` is the most that all ranks together reach in any size
    (not reported where the time was up before messages were large enough), `group_bus_share` a small group's bus bandwidth
    over that of all ranks in the same size. `latency_us` is the median of the smallest size.

    Every pair of ranks sends a block there and back, then both ways at once, and beside it the same block the raw way: over
    a socket where the device is host memory, else as a copy within the device (label `raw`); blocks grow likewise.
    `link_gbps` is the slowest pair's rate one way. `share_of_raw` is the slowest pair's rate over that of the raw way,
    `usual_share_of_raw` the median pair's, `most_of_raw` the fastest pair's: what is faster than it can be has not been
    sent. `both_ways_gain` is what both ways at once carry over what one does, 2 where they do not share.

    `tail_ratio` is the 99th percentile of many equal small sums over their median, `longest_ratio` the longest's, `jitter`
    the distance of the quartiles over the median, with and without the time for which the host kept a rank waiting.
    `overlap_ratio` is the time of a sum and products at once over the longer of the two. Every result is compared:
    `wrong_results`. `link_faults` and `link_retries` are how far the vendor's counters of errors and of repeated transfers
    on links rose since the run began, `links_up_share` the links that are up on the chip with the fewest over those on the
    chip with the most, `share_of_links` is `peak_bus_gbps` over what a chip's links carry by the vendor's word.

    `completed` and labels as in `multichip.collectives`.
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
