"""Measurements of `multichip.parallelism` from the reports of its ranks. Pure.

A run that did not come to its end yields nothing but that: a part of it proves no parity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from readiness.datamodel import Labels, Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Placement, RanksOutcome
from readiness.probes.parallelism.rank import (
    DeviceReference,
    HostReference,
    Reference,
    RunBegun,
    RunRefused,
    RunReport,
    TrainingRun,
)
from readiness.probes.parallelism.training_run import TrainingTrace
from readiness.probes.ranks_common.measurements import relative_difference

#: Parameters are compared under an optimizer that keeps the size of a gradient: one that divides by it makes roundoff large.
COMPARABLE = "sgd"
#: A chip whose training alone is so far from float64, and so many times as far as the best one's, is named with the rest.
OUTLIER_ERROR, OUTLIER_RATIO = 2e-6, 8.0


@dataclass(slots=True)
class Results:
    """Results of all rank groups: references by device and host, and runs that ended or were refused, by rank."""

    placement: Placement
    single_device: dict[Reference, dict[int, TrainingTrace]] = field(default_factory=dict)
    host: dict[Reference, TrainingTrace] = field(default_factory=dict)
    ended: dict[TrainingRun, dict[int, RunReport]] = field(default_factory=dict)
    refused: dict[TrainingRun, dict[int, str]] = field(default_factory=dict)

    def add(self, outcome: RanksOutcome) -> TrainingRun | None:
        """Add the reports of one group; return a run that began and did not end on all ranks, or None."""
        for rank, device in outcome.of(DeviceReference):
            self.single_device.setdefault(device.reference, {})[rank] = device.trace
        for _, host in outcome.of(HostReference):
            self.host.setdefault(host.reference, host.trace)
        for rank, refusal in outcome.of(RunRefused):
            self.refused.setdefault(refusal.run, {})[rank] = refusal.reason
        for rank, report in outcome.of(RunReport):
            self.ended.setdefault(report.run, {})[rank] = report
        begun = [report.run for _, report in outcome.of(RunBegun)]
        return next((run for run in begun if len(self.ended.get(run, ())) < len(outcome.reports)), None)


def run_measurements(results: Results, run: TrainingRun) -> Iterator[Yield]:
    """Yield all figures of a run that ended on every rank."""
    reports, placement = results.ended[run], results.placement
    ranks = sorted(reports)
    labels = labels_of(run, placement)
    reference = reports[ranks[0]].reference
    outliers = _outliers(results, reference)
    single_device = results.single_device[reference][min((rank for rank in ranks if rank not in outliers), default=ranks[0])]
    suffix = f"; {placement.name(*outliers)} is also off when it trains alone" if outliers else ""
    losses = [_mean(step) for step in zip(*(reports[rank].trace.losses for rank in ranks), strict=True)]
    norms = [math.sqrt(math.fsum(step)) for step in zip(*(reports[rank].trace.squares for rank in ranks), strict=True)]
    single_losses, single_norms = list(map(_number, single_device.losses)), list(map(math.sqrt, single_device.squares))
    yield Row({
        "shape": "training/1", "mode": run.mode, "dtype": run.dtype, "optimizer": run.optimizer,
        "losses": losses, "losses_alone": single_losses, "gradient_norms": norms, "gradient_norms_alone": single_norms,
    })  # fmt: skip
    for measure, found, wanted, what in (
        ("loss_difference", losses, single_losses, "the loss"),
        ("gradient_norm_difference", norms, single_norms, "the gradient's norm"),
    ):
        differences = list(map(relative_difference, found, wanted))
        step = differences.index(max(differences))
        about = f"{run}: {what} at step {step} is {found[step]:.9g} on {len(ranks)} ranks, {wanted[step]:.9g} on one{suffix}"
        yield Measurement(measure, differences[step], labels, samples=len(found), about=about[:LONGEST_ABOUT])
    yield _replicas(results, run, labels)
    if run.optimizer == COMPARABLE:
        valid = [rank for rank in ranks if rank not in outliers] or ranks
        worst = max(valid, key=lambda rank: reports[rank].final.difference)
        final = reports[worst].final
        about = f"{run}: {final.parameter} as {placement.name(worst)} has it at the end{suffix}"
        yield Measurement("parameter_difference", final.difference, labels, samples=len(ranks), about=about[:LONGEST_ABOUT])


def _mean(shares: Sequence[float | None]) -> float:
    there = [share for share in shares if share is not None]
    return math.fsum(there) / len(there) if there else math.nan


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def labels_of(run: TrainingRun, placement: Placement) -> Labels:
    """Return the labels of a run's figures."""
    return {**placement.labels, "mode": run.mode, "dtype": run.dtype, "optimizer": run.optimizer}


def _replicas(results: Results, run: TrainingRun, labels: Labels) -> Measurement:
    """Yield after how many steps ranks that should hold the same bytes differ, including the final gathering."""
    reports = results.ended[run]
    steps = len(next(iter(reports.values())).trace.replicas)
    differing, about = 0, None
    for number in range(steps + 1):
        digests = {
            rank: report.trace.replicas[number] if number < steps else report.final.digests
            for rank, report in reports.items()
        }
        keys = sorted({key for of_rank in digests.values() for key in of_rank})
        outliers = [(key, rank) for key in keys for rank in _minority(digests, key)]
        differing += bool(outliers)
        if outliers and about is None:
            when = f"after step {number}" if number < steps else "in the gathered model"
            who = results.placement.name(*sorted({rank for _, rank in outliers}))
            about = f"{run}: {who} differs from its replicas {when} ({outliers[0][0]})"[:LONGEST_ABOUT]
    return Measurement("replicas_differ", differing, labels, samples=steps + 1, about=about)


def _minority(digests_by_rank: Mapping[int, Mapping[str, str]], key: str) -> list[int]:
    """Return the ranks with another digest than most; on a tie, those that differ from the first rank."""
    digests = {rank: of_rank[key] for rank, of_rank in sorted(digests_by_rank.items()) if key in of_rank}
    counts = Counter(digests.values())
    first = next(iter(digests.values()))
    usual = max(counts, key=lambda digest: (counts[digest], digest == first))
    return [rank for rank, digest in digests.items() if digest != usual]


def chip_measurements(results: Results) -> Iterator[Yield]:
    """Yield the distance of each single chip from float64 on the host over all models, with the worst named."""
    found: dict[str, list[tuple[float, int]]] = {}
    for reference, traces in results.single_device.items():
        if reference.optimizer == COMPARABLE and reference in results.host:
            host = results.host[reference]
            found.setdefault(reference.dtype, []).extend((_distance(trace, host), rank) for rank, trace in traces.items())
    for dtype, distances in found.items():
        distance, rank = max(distances, key=lambda item: (item[0], -item[1]))
        labels = {**results.placement.labels, "dtype": dtype, "optimizer": COMPARABLE}
        about = f"{results.placement.name(rank)}, trained alone in {dtype}, against float64 on the host"
        yield Measurement("chip_difference", distance, labels, samples=len(distances), about=about)


def _outliers(results: Results, reference: Reference) -> list[int]:
    """Return the ranks whose chips alone train differently: what they report of a mode names the chip."""
    traces = results.single_device.get(reference, {})
    if reference not in results.host:
        return []
    if reference.optimizer != COMPARABLE:
        # Roundoff grows here: what differs from most is odd.
        texts = {rank: {"run": f"{trace.losses}{trace.squares}"} for rank, trace in traces.items()}
        return _minority(texts, "run") if len(traces) > 2 else []
    distances = {rank: _distance(trace, results.host[reference]) for rank, trace in traces.items()}
    least = min(distances.values(), default=0.0)
    return [rank for rank, distance in distances.items() if distance > max(OUTLIER_ERROR, OUTLIER_RATIO * least)]


def _distance(trace: TrainingTrace, host: TrainingTrace) -> float:
    losses = map(relative_difference, map(_number, trace.losses), map(_number, host.losses))
    return max(*losses, *map(relative_difference, map(math.sqrt, trace.squares), map(math.sqrt, host.squares)))
