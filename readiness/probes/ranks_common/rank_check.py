"""Shared flow of rank checks: place ranks, run a group, measure its outcome."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Note, Row, Yield
from readiness.distributed.group_runner import run_ranks
from readiness.distributed.types import Placement, RankFunction, RanksOutcome, place
from readiness.probes.ranks_common.measurements import completion

#: Measurements and rows from the outcome of a group, finished or not.
Measure = Callable[[RanksOutcome, Placement], Iterator[Yield]]


def placed(accelerator: Accelerator, ranks: int, *, least: int = 2, here: bool = False) -> Generator[Yield, None, Placement]:
    """Place the ranks as `place` does, and yield the row about their placement."""
    placement = place(accelerator, ranks, least=least, here=here)
    yield Row({"scope": placement.scope, "accelerators": ", ".join(placement.ids)})
    return placement


def rank_check(
    accelerator: Accelerator,
    function: RankFunction,
    settings: object,
    measure: Measure,
    *,
    title: str,
    ranks: int,
    least: int = 2,
    patience_s: float,
    limit_s: float,
) -> Iterator[Yield]:
    """Run a function on every rank; yield the measurements of its outcome, then whether the group finished.

    `title` goes before the placement in the progress display; `settings`, `patience_s` and `limit_s` are those of
    `run_ranks`, `ranks` and `least` those of `place`.
    """
    placement = yield from placed(accelerator, ranks, least=least)
    yield Note(f"{title} {placement.scope}")
    outcome = run_ranks(function, accelerator, placement, settings, patience_s=patience_s, limit_s=limit_s)
    yield from measure(outcome, placement)
    yield from completion(outcome, placement)
