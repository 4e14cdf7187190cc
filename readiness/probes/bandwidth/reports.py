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
    """Sizes that are asked for, samples of each, blocks between pairs, calls of the tail, and the limit of time."""

    bytes: tuple[int, ...]
    samples: int
    block_mib: float
    most_mib: float
    tail_calls: int
    budget_s: float


@dataclass(frozen=True, slots=True)
class CollectiveTimes(Report):
    """Seconds of one operation in one size and group, by sample, and how many results were wrong, with the first."""

    op: str
    bytes: int
    subgroup: Subgroup
    seconds: tuple[float, ...]
    wrong: int
    first: TensorDiff | None = None


@dataclass(frozen=True, slots=True)
class TimeUp(Report):
    """The largest message size that was tried: no time was left for larger ones."""

    bytes: int
    after_s: float


@dataclass(frozen=True, slots=True)
class PairTimes(Report):
    """Seconds between two ranks: of one number, of a block there and back, of both at once, and of the raw transfer."""

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
    """Seconds of many equal all-reduces, how long this rank's threads waited for a processor in each, and wrong ones."""

    series: int
    seconds: tuple[float, ...]
    waited: tuple[float, ...]
    wrong: int


@dataclass(frozen=True, slots=True)
class OverlapTimes(Report):
    """Best seconds of an all-reduce alone, of products alone, and of both at once; and how many sums were wrong."""

    exchange: float
    compute: float
    both: float
    wrong: int


@dataclass(frozen=True, slots=True)
class LinkState(Report):
    """Counters and links of this rank's device as its vendor's library reports them; None where it does not."""

    counters: Mapping[str, int] | None
    links: Links | None
