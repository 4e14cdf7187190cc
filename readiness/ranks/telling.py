"""From what the ranks reported to measurements and rows. Pure.

A world that did not finish can prove a fault, never its absence: of such a world only what is wrong is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from readiness.model import Labels, Measurement, Row, Yield
from readiness.ranks.values import Json, Placement, WorldOutcome


def completion(outcome: WorldOutcome, placement: Placement) -> Iterator[Row]:
    """A row about the end of a world that did not finish: what, who, where, when."""
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


def collectives(outcome: WorldOutcome, labels: Labels) -> Iterator[Yield]:
    """Figures by operation and type, summed over the ranks."""
    finished = outcome.failure is None
    compared = 0
    for (op, dtype), reports in _by_operation(outcome).items():
        here = {**labels, "op": op, "dtype": dtype}
        refusals = {rank: report["unsupported"] for rank, report in reports.items() if report["unsupported"]}
        wrong = sum(report["wrong"] for report in reports.values())
        compared += sum(report["compared"] for report in reports.values())
        for rank, report in reports.items():
            if report["wrong"]:
                yield Row({"op": op, "dtype": dtype, "rank": rank, "wrong": report["wrong"], **report["first_wrong"]})
        if refusals:
            reason = next(iter(refusals.values()))
            yield Row({"op": op, "dtype": dtype, "unsupported_on_ranks": len(refusals), "reason": reason})
        if finished or refusals:
            yield Measurement("unsupported", int(bool(refusals)), here)
        if wrong or (finished and not refusals):
            yield Measurement("wrong_elements", wrong, here, samples=sum(r["compared"] for r in reports.values()))
    yield Row({"elements_compared": compared, "finished": finished})
    yield from _repetitions(outcome, labels)
    yield from _not_a_numbers(outcome, labels)


def _by_operation(outcome: WorldOutcome) -> dict[tuple[str, str], dict[int, Json]]:
    found: dict[tuple[str, str], dict[int, Json]] = {}
    for rank, reports in enumerate(outcome.reports):
        for report in reports:
            if "compared" in report:
                found.setdefault((report["op"], report["dtype"]), {})[rank] = report
    return found


def _repetitions(outcome: WorldOutcome, labels: Labels) -> Iterator[Measurement]:
    digests: dict[str, list[str]] = {}
    for reports in outcome.reports:
        for report in reports:
            if "repeat" in report:
                digests.setdefault(report["repeat"], []).extend(report["digests"])
    for dtype, found in digests.items():
        mismatches = sum(digest != found[0] for digest in found)
        if mismatches or outcome.failure is None:
            yield Measurement("repeat_mismatches", mismatches, {**labels, "dtype": dtype}, samples=len(found))


def _not_a_numbers(outcome: WorldOutcome, labels: Labels) -> Iterator[Measurement]:
    lost: dict[tuple[str, str], list[int]] = {}
    for reports in outcome.reports:
        for report in reports:
            if "nan" in report:
                lost.setdefault((report["nan"], report["dtype"]), []).append(report["lost"])
    for (op, dtype), counts in lost.items():
        if any(counts) or outcome.failure is None:
            yield Measurement("nan_lost", sum(counts), {**labels, "op": op, "dtype": dtype}, samples=len(counts) ** 2)


def training(reference: WorldOutcome, outcome: WorldOutcome, labels: Labels) -> Iterator[Yield]:
    """The differences between two worlds that both finished: one process, and the ranks."""
    alone = reference.reports[0][0]
    together = [reports[0] for reports in outcome.reports]
    losses = _means(_column(together, "losses"))
    norms = [
        max(values, key=lambda value: relative_difference(value, expected))
        for expected, *values in zip(alone["gradient_norms"], *_column(together, "gradient_norms"), strict=True)
    ]
    replicas = zip(*_column(together, "replicas"), strict=True)
    differ = [number for number, digests in enumerate(replicas) if len(set(digests)) > 1]
    yield Row({"first_loss": alone["losses"][0], "last_loss": alone["losses"][-1], "last_loss_of_ranks": losses[-1]})
    if differ:
        yield Row({"first_step_with_different_replicas": differ[0], "steps": len(losses)})
    yield Measurement("loss_difference", _worst(losses, alone["losses"]), labels, samples=len(losses))
    yield Measurement("gradient_norm_difference", _worst(norms, alone["gradient_norms"]), labels, samples=len(norms))
    yield Measurement("replicas_differ", len(differ), labels, samples=len(losses))


def _means(columns: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(values) / len(values) for values in zip(*columns, strict=True)]


def _column(reports: Sequence[Json], name: str) -> list[list[Any]]:
    return [report[name] for report in reports]


def _worst(found: Sequence[float], expected: Sequence[float]) -> float:
    return max(map(relative_difference, found, expected))


def relative_difference(found: float, expected: float) -> float:
    """|found - expected| / |expected|; infinite where either is not finite, or only the expected one is zero."""
    if not (math.isfinite(found) and math.isfinite(expected)):
        return math.inf
    if expected == 0:
        return 0.0 if found == 0 else math.inf
    return abs(found - expected) / abs(expected)


