"""Settings and reports of `multichip.links`."""

from __future__ import annotations

from dataclasses import dataclass, field

from readiness.distributed.rank_messages import Report
from readiness.probes.ranks_common.call_timings import TimingSummary
from readiness.probes.ranks_common.process_groups import Subgroup
from readiness.probes.ranks_common.tensor_diff import TensorDiff

#: Timed parts before which devices come to rest, as words.
TRANSFERS, PRODUCTS = "transfers between pairs", "products of each rank"


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: sums in pairs (`repeats`), transfers of a pair at once (`rounds`), block sizes, and time limits."""

    repeats: int
    dtypes: tuple[str, ...]
    rounds: int
    block_mib: float
    most_mib: float
    interruption_s: float
    budget_s: float


@dataclass(frozen=True, slots=True)
class WrongResult(Report):
    """Report: a result that is not the known one. `turn` is the same on all ranks of the subgroup."""

    op: str
    dtype: str
    subgroup: Subgroup
    turn: int
    call: str
    difference: TensorDiff


@dataclass(frozen=True, slots=True)
class CallReport(Report):
    """Report: timings of one kind of call in one subgroup: `all_reduce` of a block size, or transfers (`send_recv`)."""

    op: str
    subgroup: Subgroup
    timings: TimingSummary
    block: str | None = None

    @property
    def kind(self) -> str:
        """Kind of call as text."""
        return "transfer" if self.block is None else f"all_reduce ({self.block} block)"


@dataclass(frozen=True, slots=True)
class LinkTimes(Report):
    """Report: quantiles of the seconds of a block there and back between two ranks.

    `waited` is the share of the time of all transfers for which this rank's threads waited for a processor.
    """

    pair: Subgroup
    bytes: int
    quantiles: tuple[float, ...]
    calls: int
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class TransfersDone(Report):
    """Report: the first transfers on this rank have ended."""


@dataclass(frozen=True, slots=True)
class LaterLinkTimes(Report):
    """Report: best seconds of a block there and back at first, and after all sums.

    `waited` is the share of the time after all sums for which this rank's threads waited for a processor.
    """

    pair: Subgroup
    bytes: int
    first: float
    last: float
    calls: int
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class HostStalls(Report):
    """Report: times (begin, end) since the last report in which the host did not run this rank."""

    stalls: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ProductTimes(Report):
    """Report: best seconds of matrix products by width, their median, and how they vary.

    With the other ranks at rest (`alone`), at work (`together`), or in a sum with this one meanwhile (`exchanging`). The
    variation is the distance between the quartiles over the median.
    """

    load: str
    seconds: dict[str, float]
    medians: dict[str, float] = field(default_factory=dict)
    variations: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OwnAllReduceTime(Report):
    """Report: best seconds of an all-reduce of this rank with itself in one turn.

    `waited` is the share of the turn for which this rank's threads waited for a processor.
    """

    seconds: float
    waited: float = 0.0
