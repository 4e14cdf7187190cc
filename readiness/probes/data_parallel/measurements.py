"""Measurements of `multichip.data_parallel`: training on several ranks compared with training in one process. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from readiness.datamodel import Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Placement, RanksOutcome
from readiness.probes.data_parallel.rank import TrainingReport
from readiness.probes.parallelism.training_run import TrainingTrace
from readiness.probes.ranks_common.measurements import relative_difference


def training(reference: RanksOutcome, outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield the differences between two groups that both finished: one process, and several ranks."""
    labels = placement.labels
    single_device = _traces(reference)[0]
    traces = _traces(outcome)
    expected_losses, expected_norms = _losses(single_device), _norms(single_device, 1)
    losses = [math.fsum(values) / len(values) for values in zip(*map(_losses, traces), strict=True)]
    norms = [
        max(values, key=lambda value: relative_difference(value, expected))
        for expected, *values in zip(expected_norms, *(_norms(trace, len(traces)) for trace in traces), strict=True)
    ]
    replicas = list(zip(*(trace.replicas for trace in traces), strict=True))
    differ = [number for number, of_step in enumerate(replicas) if any(one != of_step[0] for one in of_step)]
    yield Row({"first_loss": expected_losses[0], "last_loss": expected_losses[-1], "last_loss_of_ranks": losses[-1]})
    if differ:
        yield Row({"first_step_with_different_replicas": differ[0], "steps": len(losses)})
    for measure, found, expected, what in (
        ("loss_difference", losses, expected_losses, "the loss"),
        ("gradient_norm_difference", norms, expected_norms, "the gradient's norm"),
    ):
        differences = list(map(relative_difference, found, expected))
        step = max(range(len(differences)), key=lambda number: differences[number])
        worst = f"{what} at step {step}: {found[step]:.9g} on {len(traces)} ranks, {expected[step]:.9g} in one process"
        about = worst if differences[step] else None
        yield Measurement(measure, differences[step], labels, samples=len(found), about=about)
    about = _about_replicas(differ[0], [str(one) for one in replicas[differ[0]]], placement) if differ else None
    yield Measurement("replicas_differ", len(differ), labels, samples=len(losses), about=about)


def _traces(outcome: RanksOutcome) -> list[TrainingTrace]:
    return [report.trace for _, report in outcome.of(TrainingReport)]


def _losses(trace: TrainingTrace) -> list[float]:
    return [math.nan if loss is None else loss for loss in trace.losses]


def _norms(trace: TrainingTrace, copies: int) -> list[float]:
    """Return the norm of all gradients of one rank, to which each of its copies contributes an equal part of the square."""
    return [math.sqrt(copies * square) for square in trace.squares]


def _about_replicas(step: int, digests: Sequence[str], placement: Placement) -> str:
    """Name the minority of ranks; if there is none, the ranks that differ from the first."""
    counts = Counter(digests)
    usual = max(counts, key=lambda digest: (counts[digest], digest == digests[0]))
    outliers = [rank for rank, digest in enumerate(digests) if digest != usual]
    like = placement.name(digests.index(usual))
    return f"from step {step} on, parameters on {placement.name(*outliers)} differ from those on {like}"[:LONGEST_ABOUT]
