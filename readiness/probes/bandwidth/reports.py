"""Settings and reports of `multichip.bandwidth`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from readiness.accelerators.interconnect import Links
from readiness.distributed.rank_messages import Report
from readiness.probes.ranks_common.process_groups import Subgroup
from readiness.probes.ranks_common.tensor_diff import TensorDiff


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: sizes, samples of each, blocks between pairs, calls of the tail, and the time limit."""

    bytes: tuple[int, ...]
    samples: int
    block_mib: float
    most_mib: float
    tail_calls: int
    budget_s: float


@dataclass(frozen=True, slots=True)
class CollectiveTimes(Report):
    """Report: seconds of one operation at one size and group, by sample, and wrong results with the first of them."""

    op: str
    bytes: int
    subgroup: Subgroup
    seconds: tuple[float, ...]
    wrong: int
    first: TensorDiff | None = None


@dataclass(frozen=True, slots=True)
class TimeUp(Report):
    """Report: the largest message size that was tried, as there was no time for larger ones."""

    bytes: int
    after_s: float


@dataclass(frozen=True, slots=True)
class PairTimes(Report):
    """Report: seconds between two ranks: of one number, of a block there and back, of both at once, of the raw transfer."""

    pair: Subgroup
    raw_kind: str
    bytes: int
    latency: tuple[float, ...]
    one_way: tuple[float, ...]
    both_ways: tuple[float, ...]
    raw: tuple[float, ...]
    wrong: int


@dataclass(frozen=True, slots=True)
class TailTimes(Report):
    """Report: seconds of many equal all-reduces, the wait of this rank's threads for a processor in each, and wrong ones."""

    series: int
    seconds: tuple[float, ...]
    waited: tuple[float, ...]
    wrong: int


@dataclass(frozen=True, slots=True)
class OverlapTimes(Report):
    """Report: best seconds of an all-reduce, of products, and of both at once; and the number of wrong sums."""

    exchange: float
    compute: float
    both: float
    wrong: int


@dataclass(frozen=True, slots=True)
class LinkState(Report):
    """Report: counters and links of this rank's device from its vendor's library; None if unavailable."""

    counters: Mapping[str, int] | None
    links: Links | None
