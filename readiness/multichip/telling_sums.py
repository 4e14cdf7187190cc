"""From what the ranks reported of repeated sums, of NaN and infinity and of barriers to measurements. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.model import Measurement, Row, Yield
from readiness.ranks.values import LONGEST_ABOUT, Json, Placement, RanksOutcome

Reports = list[tuple[int, Json]]


def sums(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """All of them; of a world that did not finish only what is wrong."""
    finished = outcome.failure is None
    repeated: dict[tuple[str, str], Reports] = {}
    extreme: dict[tuple[str, str], Reports] = {}
    barriers: Reports = []
    for rank, reports in enumerate(outcome.reports):
        for report in reports:
            if "repeat" in report:
                repeated.setdefault((report["op"], report["repeat"]), []).append((rank, report))
            elif "nan" in report:
                extreme.setdefault((report["nan"], report["dtype"]), []).append((rank, report))
            elif "barriers" in report:
                barriers.append((rank, report))
    for (op, dtype), found in repeated.items():
        yield from _repetitions(op, dtype, found, placement, finished)
    for (op, dtype), found in extreme.items():
        yield from _extremes(op, dtype, found, placement, finished)
    yield from _barriers(barriers, placement, finished)


def _repetitions(op: str, dtype: str, found: Reports, placement: Placement, finished: bool) -> Iterator[Yield]:
    """Sums of all ranks are compared with the first rank's first; scattered ones with the same rank's first."""
    here = {**placement.labels, "op": op, "dtype": dtype}
    first = found[0][1]["digests"][0]
    results = [
        (rank, number, digest, first if op.startswith("all_reduce") else report["digests"][0])
        for rank, report in found
        for number, digest in enumerate(report["digests"])
    ]
    other = [(rank, number) for rank, number, digest, right in results if digest != right]
    if other or finished:
        about = None
        if other:
            rank, number = other[0]
            about = (
                f"{op} in {dtype}: {len(other)} of {len(results)} results differ from the first of"
                f" {placement.name(found[0][0])}; repetition {number} on {placement.name(rank)} is the first"
            )[:LONGEST_ABOUT]
        yield Measurement("repeat_mismatches", len(other), here, samples=len(results), about=about)
    spread = max(report["spread"] for _, report in found)
    error = max(report["error"] for _, report in found)
    if other:
        yield Row({"op": op, "dtype": dtype, "mismatches": len(other), "spread": spread, "worst_error": error})
    if finished:
        worst = max(found, key=lambda item: item[1]["error"])[0]
        told = f"{op} in {dtype}: {error:.3g} times what rounding in any order may cost, on {placement.name(worst)}"
        yield Measurement("repeat_spread", spread, here, samples=len(results))
        yield Measurement("sum_error", error, here, samples=len(results), about=told)


def _extremes(op: str, dtype: str, found: Reports, placement: Placement, finished: bool) -> Iterator[Measurement]:
    here = {**placement.labels, "op": op, "dtype": dtype}
    for name, key, what in (
        ("nan_lost", "lost", "NaN is lost on"),
        ("infinities_wrong", "infinities_wrong", "what an infinity becomes is wrong on"),
    ):
        counts = {rank: report[key] for rank, report in found}
        losers = [rank for rank, count in counts.items() if count]
        if losers or finished:
            about = f"{op} in {dtype}: {what} {placement.name(*losers)}"[:LONGEST_ABOUT] if losers else None
            yield Measurement(name, sum(counts.values()), here, samples=len(counts) * len(placement.ranks), about=about)


def _barriers(found: Reports, placement: Placement, finished: bool) -> Iterator[Measurement]:
    early = [(rank, report) for rank, report in found if report["left_early"]]
    if early or (finished and found and len(placement.ranks) > 1):
        about = None
        if early:
            late = placement.name(*early[0][1]["late_ranks"][:2])
            who = placement.name(*(rank for rank, _ in early))
            about = f"{who} left a barrier before {late} had come to it"[:LONGEST_ABOUT]
        count = sum(report["left_early"] for _, report in early)
        samples = sum(report["barriers"] for _, report in found)
        yield Measurement("barriers_left_early", count, placement.labels, samples=samples, about=about)
