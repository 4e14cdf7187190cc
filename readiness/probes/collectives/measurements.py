"""Measurements of `multichip.collectives` from the reports of its ranks. Pure.

Of a group that did not finish only what is wrong is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from readiness.datamodel import Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Placement, RanksOutcome
from readiness.probes.collectives import reduction_measurements
from readiness.probes.collectives.cases.basic import OPTIONAL, STRIDED
from readiness.probes.collectives.rank import OperationReport, WrongElement


def collectives(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield the figures by operation and type, summed over the ranks."""
    finished, labels = outcome.failure is None, placement.labels
    compared = 0
    for (op, dtype), reports in _by_operation(outcome).items():
        here = {**labels, "op": op, "dtype": dtype}
        refusals = [report.unsupported for report in reports.values() if report.unsupported]
        wrong = sum(report.wrong for report in reports.values())
        samples = sum(report.compared for report in reports.values())
        compared += samples
        for rank, report in reports.items():
            if report.first_wrong is not None:
                yield Row({"op": op, "dtype": dtype, "rank": rank, "wrong": report.wrong, **asdict(report.first_wrong)})
        if refusals:
            yield Row({"op": op, "dtype": dtype, "unsupported_on_ranks": len(refusals), "reason": refusals[0]})
        if op in OPTIONAL and (finished or refusals):
            yield Measurement("optional_supported", int(not refusals), here)
        elif finished or refusals:
            refusal = f"{op} in {dtype}: {refusals[0]}"[:LONGEST_ABOUT] if refusals else None
            yield Measurement("unsupported", int(bool(refusals)), here, about=refusal)
        about = _about_wrong(op, dtype, reports, placement) if wrong else None
        if op in STRIDED and (wrong or finished):  # a refusal is as good as a right result: nobody is deceived
            yield Measurement("strided_wrong_elements", wrong, here, samples=samples or None, about=about)
        elif wrong or (finished and not refusals):
            yield Measurement("wrong_elements", wrong, here, samples=samples, about=about)
    yield Row({"elements_compared": compared, "finished": finished})
    yield from reduction_measurements.reductions(outcome, placement)


def _about_wrong(op: str, dtype: str, reports: Mapping[int, OperationReport], placement: Placement) -> str:
    wrong: dict[int, WrongElement] = {rank: one.first_wrong for rank, one in reports.items() if one.first_wrong is not None}
    first = next(iter(wrong.values()))
    where = f"all {len(wrong)} ranks" if len(wrong) == len(placement.ranks) else placement.name(*wrong)
    return (
        f"{op} in {dtype}, wrong on {where}; first in {first.call}, {first.buffer}, index {first.index}:"
        f" {first.found:g} instead of {first.expected:g}"
    )[:LONGEST_ABOUT]


def _by_operation(outcome: RanksOutcome) -> dict[tuple[str, str], dict[int, OperationReport]]:
    found: dict[tuple[str, str], dict[int, OperationReport]] = {}
    for rank, report in outcome.of(OperationReport):
        found.setdefault((report.op, report.dtype), {})[rank] = report
    return found
