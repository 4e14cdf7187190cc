"""Settings and reports of `multichip.links`."""

from __future__ import annotations

from dataclasses import dataclass

from readiness.distributed.rank_messages import Report
from readiness.probes.ranks_common.call_timings import TimingSummary
from readiness.probes.ranks_common.process_groups import Subgroup
from readiness.probes.ranks_common.tensor_diff import TensorDiff


@dataclass(frozen=True, slots=True)
class Settings:
    """Sums by two in all (`repeats`), transfers of a pair at once (`rounds`), sizes of blocks, and limits of time."""

    repeats: int
    dtypes: tuple[str, ...]
    rounds: int
    block_mib: float
    most_mib: float
    interruption_s: float
    budget_s: float


@dataclass(frozen=True, slots=True)
class WrongResult(Report):
    """A result that is not the known one. `turn` is the same on all ranks of the team."""

    op: str
    dtype: str
    subgroup: Subgroup
    turn: int
    call: str
    difference: TensorDiff


@dataclass(frozen=True, slots=True)
class CallReport(Report):
    """Timings of all calls of one kind in one team: of `all_reduce` in a block size, or of transfers (`send_recv`)."""

    op: str
    subgroup: Subgroup
    timings: TimingSummary
    block: str | None = None

    @property
    def kind(self) -> str:
        """The kind of call, in words."""
        return "transfer" if self.block is None else f"all_reduce ({self.block} block)"


@dataclass(frozen=True, slots=True)
class LinkTimes(Report):
    """Quantiles of the seconds that a block took there and back between two ranks."""

    pair: Subgroup
    bytes: int
    quantiles: tuple[float, ...]
    calls: int


@dataclass(frozen=True, slots=True)
class TransfersDone(Report):
    """End of the first transfers on this rank."""


@dataclass(frozen=True, slots=True)
class LaterLinkTimes(Report):
    """Best seconds of a block there and back at first, and after all sums."""

    pair: Subgroup
    bytes: int
    first: float
    last: float
    calls: int


@dataclass(frozen=True, slots=True)
class HostStalls(Report):
    """When the host did not let this rank run: (begin, end), those since the last such report."""

    stalls: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ProductTimes(Report):
    """Best seconds of matrix products by width, with the other ranks at rest (`alone`) or at work (`together`)."""

    load: str
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class OwnAllReduceTime(Report):
    """Best seconds of an all-reduce of this rank with itself."""

    seconds: float
