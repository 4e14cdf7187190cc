"""Measurements of `multichip.data_parallel`: training on several ranks compared with training in one process. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from readiness.model import Measurement, Row, Yield
from readiness.multichip.measurements import relative_difference
from readiness.ranks.values import LONGEST_ABOUT, Json, Placement, RanksOutcome


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
