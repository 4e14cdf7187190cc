"""Measurements of repeated reductions, of NaN and infinity, and of barriers, from the reports of ranks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from readiness.datamodel import Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Placement, RanksOutcome
from readiness.probes.collectives.cases.barrier import BarrierReport
from readiness.probes.collectives.cases.nan_inf import NanReport
from readiness.probes.collectives.reproducibility import RepetitionReport


class _OfOperation(Protocol):
    @property
    def op(self) -> str: ...
    @property
    def dtype(self) -> str: ...


_ReportT = TypeVar("_ReportT", bound=_OfOperation)


def reductions(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield all of them; for a group that did not finish, only wrong results."""
    finished = outcome.failure is None
    for (op, dtype), repeated in _by_operation(outcome.of(RepetitionReport)).items():
        yield from _repetitions(op, dtype, repeated, placement, finished)
    for (op, dtype), special in _by_operation(outcome.of(NanReport)).items():
        yield from _special_values(op, dtype, special, placement, finished)
    yield from _barriers(outcome.of(BarrierReport), placement, finished)


def _by_operation(reports: Iterable[tuple[int, _ReportT]]) -> dict[tuple[str, str], list[tuple[int, _ReportT]]]:
    found: dict[tuple[str, str], list[tuple[int, _ReportT]]] = {}
    for rank, report in reports:
        found.setdefault((report.op, report.dtype), []).append((rank, report))
    return found


def _repetitions(
    op: str, dtype: str, reports: Sequence[tuple[int, RepetitionReport]], placement: Placement, finished: bool
) -> Iterator[Yield]:
    """Compare sums of all ranks with the first rank's first, scattered ones with the same rank's first."""
    here = {**placement.labels, "op": op, "dtype": dtype}
    first = reports[0][1].digests[0]
    results = [
        (rank, number, digest, first if op.startswith("all_reduce") else report.digests[0])
        for rank, report in reports
        for number, digest in enumerate(report.digests)
    ]
    other = [(rank, number) for rank, number, digest, right in results if digest != right]
    if other or finished:
        about = None
        if other:
            rank, number = other[0]
            about = (
                f"{op} in {dtype}: {len(other)} of {len(results)} results differ from the first of"
                f" {placement.name(reports[0][0])}; the first is repetition {number} on {placement.name(rank)}"
            )[:LONGEST_ABOUT]
        yield Measurement("repeat_mismatches", len(other), here, samples=len(results), about=about)
    spread = max(report.spread for _, report in reports)
    error = max(report.error for _, report in reports)
    if other:
        yield Row({"op": op, "dtype": dtype, "mismatches": len(other), "spread": spread, "worst_error": error})
    if finished:
        worst = max(reports, key=lambda item: item[1].error)[0]
        about = f"{op} in {dtype}: {error:.3g} times the largest rounding error of any order, on {placement.name(worst)}"
        yield Measurement("repeat_spread", spread, here, samples=len(results))
        yield Measurement("sum_error", error, here, samples=len(results), about=about)


def _special_values(
    op: str, dtype: str, reports: Sequence[tuple[int, NanReport]], placement: Placement, finished: bool
) -> Iterator[Measurement]:
    here = {**placement.labels, "op": op, "dtype": dtype}
    for name, what in (("nan_lost", "NaN is lost on"), ("infinities_wrong", "infinity is wrong on")):
        counts: dict[int, int] = {rank: getattr(report, name) for rank, report in reports}
        losers = [rank for rank, count in counts.items() if count]
        if losers or finished:
            about = f"{op} in {dtype}: {what} {placement.name(*losers)}"[:LONGEST_ABOUT] if losers else None
            yield Measurement(name, sum(counts.values()), here, samples=len(counts) * len(placement.ranks), about=about)


def _barriers(
    reports: Sequence[tuple[int, BarrierReport]], placement: Placement, finished: bool
) -> Iterator[Measurement]:
    refusals = [report.unsupported for _, report in reports if report.unsupported]
    if refusals or (finished and reports):
        about = f"barrier: {refusals[0]}"[:LONGEST_ABOUT] if refusals else None
        yield Measurement("unsupported", int(bool(refusals)), {**placement.labels, "op": "barrier"}, about=about)
    if refusals:
        return
    early = [(rank, report) for rank, report in reports if report.left_early]
    if early or (finished and reports and len(placement.ranks) > 1):
        about = None
        if early:
            late = placement.name(*early[0][1].late_ranks[:2])
            who = placement.name(*(rank for rank, _ in early))
            about = f"{who} left a barrier before {late} arrived"[:LONGEST_ABOUT]
        count = sum(report.left_early for _, report in early)
        samples = sum(report.barriers for _, report in reports)
        yield Measurement("barriers_left_early", count, placement.labels, samples=samples, about=about)
