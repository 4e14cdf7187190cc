"""Ranks let their devices come to rest before a timed part, and report what had not: a chip that starts hot is slower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from readiness.datamodel import Row
from readiness.distributed.rank_messages import Report
from readiness.distributed.types import Placement, RankContext, RanksOutcome
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Settled


@dataclass(frozen=True, slots=True)
class DeviceSettled(Report):
    """Report: how a rank's device came to rest before a timed part."""

    before: str
    settled: Settled


def settle(context: RankContext, before: str) -> Iterator[DeviceSettled]:
    """Let the devices of all ranks come to rest; none goes on before all have, or their time is up."""
    with context.step(f"letting the device come to rest before {before}"):
        found = timing.settle(context.accelerator)
    context.exchange()
    yield DeviceSettled(before, found)


def rows(outcome: RanksOutcome, placement: Placement) -> Iterator[Row]:
    """Yield a row for each wait of a rank; none where there was nothing to wait for."""
    for rank, report in outcome.of(DeviceSettled):
        if report.settled.seconds or report.settled.unsettled is not None:
            yield Row({"rank": rank, "device": placement.ranks[rank].id, "before": report.before, **report.settled.cells()})


def unsettled(outcome: RanksOutcome, rank: int, before: str) -> str | None:
    """Return what of a rank's device had not come to rest before a timed part; None if all had."""
    return next(
        (one.settled.unsettled for other, one in outcome.of(DeviceSettled) if (other, one.before) == (rank, before)), None
    )
