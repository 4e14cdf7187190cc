"""From what the ranks reported to measurements and rows. Pure.

A world that did not finish can prove a fault, never its absence: of such a world only what is wrong is told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from readiness.model import Labels, Measurement, Row, Yield
from readiness.multichip import telling_sums
from readiness.ranks.values import LONGEST_ABOUT, OPTIONAL, Failure, Json, Placement, RanksOutcome

__all__ = ["LONGEST_ABOUT", "collectives", "completion", "relative_difference", "training"]


#: Reports, each with the rank that made it.
Reports = Sequence[tuple[int, Json]]


def completion(outcome: RanksOutcome, placement: Placement, labels: Labels | None = None) -> Iterator[Yield]:
    """`completed`, and of a world that did not finish a row: what, who, where, when. `labels`, unless the placement's."""
    failure = outcome.failure
    if failure is not None:
        yield Row({
            "trouble": failure.trouble.value,
            "culprit_ranks": ", ".join(map(str, failure.culprits)) or None,
            "culprit_chips": ", ".join(dict.fromkeys(placement.ranks[rank].id for rank in failure.culprits)) or None,
            "ranks": len(placement.ranks),
            "operation": failure.operation,
            "after_s": failure.after_s,
            "reason": failure.reason,
            "log": failure.log,
        })
    about = None if failure is None else _about_failure(failure, placement)
    yield Measurement("completed", int(failure is None), placement.labels if labels is None else labels, about=about)


def _about_failure(failure: Failure, placement: Placement) -> str:
    who = f"{placement.name(*failure.culprits)} to blame: " if failure.culprits else ""
    return f"{who}{failure.reason}"[:LONGEST_ABOUT]


def reported(outcome: RanksOutcome) -> Reports:
    """All reports of a world, each with its rank."""
    return [(rank, report) for rank, reports in enumerate(outcome.reports) for report in reports]


def refusals(reports: Reports) -> Iterator[Row]:
    """A row for each that tells of something that the library does not have."""
    for rank, report in reports:
        if "refused" in report:
            yield Row({"rank": rank, "unsupported": report["refused"], "reason": report["reason"]})


def collectives(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Figures by operation and type, summed over the ranks."""
    finished, labels = outcome.failure is None, placement.labels
    compared = 0
    for (op, dtype), reports in _by_operation(outcome).items():
        here = {**labels, "op": op, "dtype": dtype}
        refusals = {rank: report["unsupported"] for rank, report in reports.items() if report["unsupported"]}
        wrong = sum(report["wrong"] for report in reports.values())
        compared += sum(report["compared"] for report in reports.values())
        for rank, report in reports.items():
            if report["wrong"]:
                yield Row({"op": op, "dtype": dtype, "rank": rank, "wrong": report["wrong"], **report["first_wrong"]})
        reason = next(iter(refusals.values()), None)
        if refusals:
            yield Row({"op": op, "dtype": dtype, "unsupported_on_ranks": len(refusals), "reason": reason})
        if op in OPTIONAL and (finished or refusals):
            yield Measurement("optional_supported", int(not refusals), here)
        elif finished or refusals:
            refusal = f"{op} in {dtype}: {reason}"[:LONGEST_ABOUT] if refusals else None
            yield Measurement("unsupported", int(bool(refusals)), here, about=refusal)
        if wrong or (finished and not refusals):
            samples = sum(report["compared"] for report in reports.values())
            about = _about_wrong(op, dtype, reports, placement) if wrong else None
            yield Measurement("wrong_elements", wrong, here, samples=samples, about=about)
    yield Row({"elements_compared": compared, "finished": finished})
    yield from telling_sums.sums(outcome, placement)


def _about_wrong(op: str, dtype: str, reports: Mapping[int, Json], placement: Placement) -> str:
    ranks = [rank for rank, report in reports.items() if report["wrong"]]
    first = reports[ranks[0]]["first_wrong"]
    where = f"all {len(ranks)} ranks" if len(ranks) == len(placement.ranks) else placement.name(*ranks)
    return (
        f"{op} in {dtype}, wrong on {where}; first in {first['call']}, {first['buffer']}, index {first['index']}:"
        f" {first['found']:g} instead of {first['expected']:g}"
    )[:LONGEST_ABOUT]


def _by_operation(outcome: RanksOutcome) -> dict[tuple[str, str], dict[int, Json]]:
    found: dict[tuple[str, str], dict[int, Json]] = {}
    for rank, reports in enumerate(outcome.reports):
        for report in reports:
            if "compared" in report:
                found.setdefault((report["op"], report["dtype"]), {})[rank] = report
    return found


def training(reference: RanksOutcome, outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """The differences between two worlds that both finished: one process, and the ranks."""
    labels = placement.labels
    alone = reference.reports[0][0]
    together = [reports[0] for reports in outcome.reports]
    losses = _means(_column(together, "losses"))
    norms = [
        max(values, key=lambda value: relative_difference(value, expected))
        for expected, *values in zip(alone["gradient_norms"], *_column(together, "gradient_norms"), strict=True)
    ]
    replicas = list(zip(*_column(together, "replicas"), strict=True))
    differ = [number for number, digests in enumerate(replicas) if len(set(digests)) > 1]
    yield Row({"first_loss": alone["losses"][0], "last_loss": alone["losses"][-1], "last_loss_of_ranks": losses[-1]})
    if differ:
        yield Row({"first_step_with_different_replicas": differ[0], "steps": len(losses)})
    for measure, found, expected, what in (
        ("loss_difference", losses, alone["losses"], "the loss"),
        ("gradient_norm_difference", norms, alone["gradient_norms"], "the gradient's norm"),
    ):
        differences = list(map(relative_difference, found, expected))
        step = max(range(len(differences)), key=lambda number: differences[number])
        told = f"{what} at step {step}: {found[step]:.9g} on {len(together)} ranks, {expected[step]:.9g} in one process"
        yield Measurement(measure, differences[step], labels, samples=len(found), about=told if differences[step] else None)
    about = _about_replicas(differ[0], replicas[differ[0]], placement) if differ else None
    yield Measurement("replicas_differ", len(differ), labels, samples=len(losses), about=about)


def _about_replicas(step: int, digests: Sequence[str], placement: Placement) -> str:
    """The few against the many; of equally many on both sides, those that are not with the first rank."""
    counts = Counter(digests)
    usual = max(counts, key=lambda digest: (counts[digest], digest == digests[0]))
    odd = [rank for rank, digest in enumerate(digests) if digest != usual]
    like = placement.name(digests.index(usual))
    return f"from step {step} on other parameters on {placement.name(*odd)} than on {like}"[:LONGEST_ABOUT]


def _means(columns: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(values) / len(values) for values in zip(*columns, strict=True)]


def _column(reports: Sequence[Json], name: str) -> list[list[Any]]:
    return [report[name] for report in reports]


def relative_difference(found: float, expected: float) -> float:
    """|found - expected| / |expected|; infinite where either is not finite, or only the expected one is zero."""
    if not (math.isfinite(found) and math.isfinite(expected)):
        return math.inf
    if expected == 0:
        return 0.0 if found == 0 else math.inf
    return abs(found - expected) / abs(expected)


