"""Measurements of `multichip.recovery`: killed and resumed training compared with uninterrupted training. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from readiness.datamodel import Labels, Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Placement, RanksOutcome
from readiness.probes.ranks_common.measurements import relative_difference
from readiness.probes.recovery.rank import DATA_PARALLEL, BrokenCheckpoint, Loaded, SaveStarted, State, Stepped

#: How much further than two uninterrupted runs from each other a resumed one may be where they are not alike.
_SLACK = 10.0


@dataclass(frozen=True, slots=True)
class ResumedRun:
    """Uninterrupted run, and the groups of a killed one in order, with the times of its `deaths` (`RecoveryRun`).

    `again` is a second uninterrupted run, where something differed.
    """

    straight: RanksOutcome
    outcomes: tuple[RanksOutcome, ...]
    deaths: tuple[tuple[float, float], ...]
    again: RanksOutcome | None
    mode: str = DATA_PARALLEL


@dataclass(frozen=True, slots=True)
class ReshardedRun:
    """Group that saved, group of another size that loaded and went on, and the uninterrupted run."""

    mode: str
    writer: RanksOutcome
    reader: RanksOutcome
    straight: RanksOutcome


def resume_measurements(run: ResumedRun, placement: Placement) -> Iterator[Yield]:
    """Yield the differences after a resume, just after loading and later, and the time that it took."""
    labels = {**placement.labels, "mode": run.mode}
    yield from _state(run.mode, (run.straight, *run.outcomes), placement, labels)
    found = differences(run)
    noise = 0.0 if run.again is None else max(_apart(run.straight, run.again), 0.0)
    if noise and math.isfinite(noise):  # the device's own runs are not alike: only what is far beyond that counts
        found = {
            name: (difference, distance)
            for name, (difference, distance) in found.items()
            if distance > _SLACK * noise or not math.isfinite(distance)
        }
    compared = sum(len(_losses(outcome)) for outcome in run.outcomes) * len(placement.ranks)
    loaded = [report.step for outcome in run.outcomes for rank, report in outcome.of(Loaded) if rank == 0]
    yield Row({
        "mode": run.mode,
        "resumed_from": loaded,
        "compared": compared,
        "differing": {name: difference for name, (difference, _) in found.items()},
        "two_uninterrupted_runs_differ_by": noise,
    })  # fmt: skip
    first = next(iter(found.items()), None)
    about = None if first is None else f"{run.mode}: {first[0]} {first[1][0]}; {len(found)} in all"[:LONGEST_ABOUT]
    yield Measurement("resume_mismatches", len(found), labels, samples=compared, about=about)
    parts = [
        {
            "until_the_world_was_given_up_s": round(given_up - killed, 3),
            "until_loaded_s": round(_latest(outcome, Loaded) - killed, 3),
            "until_the_first_new_step_s": round(_latest(outcome, Stepped) - killed, 3),
        }
        for (killed, given_up), outcome in zip(run.deaths, run.outcomes[1:], strict=False)
    ]
    if parts:
        yield Row({"mode": run.mode, "recoveries": parts})
        slowest = max(part["until_the_first_new_step_s"] for part in parts)
        yield Measurement("recovery_s", slowest, labels, samples=len(parts))


def differences(run: ResumedRun) -> dict[str, tuple[str, float]]:
    """Return losses of the resumed run that differ from the uninterrupted one, by name, as text and distance."""
    found: dict[str, tuple[str, float]] = {}
    for rank in range(len(run.straight.reports)):
        wanted = _losses(run.straight, rank)
        for outcome in run.outcomes:
            for step, loss in _losses(outcome, rank).items():
                if loss != wanted[step]:  # NaN differs from itself, and so it should
                    difference = f"is {loss:.9g} instead of {wanted[step]:.9g}"
                    distance = relative_difference(loss, wanted[step])
                    found.setdefault(f"loss of step {step} on rank {rank}", (difference, distance))
    return found


def _apart(one: RanksOutcome, other: RanksOutcome) -> float:
    """Return the largest relative distance between the losses of two runs."""
    return max(
        relative_difference(loss, _losses(one, rank)[step])
        for rank in range(len(one.reports))
        for step, loss in _losses(other, rank).items()
    )


def _state(mode: str, outcomes: tuple[RanksOutcome, ...], placement: Placement, labels: Labels) -> Iterator[Measurement]:
    """Compare every loaded tensor with the saved one of the same rank."""
    found: list[str] = []
    compared = 0
    saved: dict[int, dict[int, State]] = {}
    loaded: set[int] = set()
    for outcome in outcomes:
        for rank, reports in enumerate(outcome.reports):
            for report in reports:
                if isinstance(report, SaveStarted):
                    saved.setdefault(report.step, {})[rank] = report.state
                elif isinstance(report, Loaded):
                    loaded.add(report.step)
                    wanted = saved.get(report.step, {}).get(rank)
                    if wanted is not None:
                        compared += len(wanted)
                        found += [f"{name} on {placement.name(rank)}" for name in _wrong(report.state, wanted)]
    if compared:
        replica_mismatch = (
            _replica_mismatch({step: saved[step] for step in sorted(loaded & saved.keys())}, placement) if found else None
        )
        yield _mismatches(found, compared, labels, mode, replica_mismatch)


def _wrong(state: State, wanted: State) -> list[str]:
    return [name for name, digest in wanted.items() if state.get(name) != digest]


def _replica_mismatch(saved: Mapping[int, Mapping[int, State]], placement: Placement) -> str | None:
    """Return which replica differed from the others when it was saved: no checkpoint can restore both."""
    for step, by_rank in saved.items():
        digests = {rank: tuple(sorted(state.items())) for rank, state in by_rank.items()}
        counts = Counter(digests.values())
        first = next(iter(digests.values()), ())
        usual = max(counts, key=lambda digest: (counts[digest], digest == first), default=())
        if odd := [rank for rank, digest in digests.items() if digest != usual]:
            return f"at step {step}, when it was saved, {placement.name(*odd)} had a different state than the others"
    return None


def _mismatches(found: list[str], compared: int, labels: Labels, what: str, cause: str | None = None) -> Measurement:
    about = None
    if found:
        about = f"{what}: {cause or f'{found[0]} differs from what was saved'}; {len(found)} tensors in all"[:LONGEST_ABOUT]
    return Measurement("state_mismatches", len(found), labels, samples=compared, about=about)


def broken_measurements(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield if each broken checkpoint was refused, by every rank or by one that notifies the others."""
    kinds: dict[str, list[BrokenCheckpoint]] = {}
    for _, report in outcome.of(BrokenCheckpoint):
        kinds.setdefault(report.broken, []).append(report)
    for what, reports in kinds.items():
        accepted = [rank for rank, report in enumerate(reports) if not report.refused]
        wrong = sorted({name for report in reports for name in report.wrong})
        difference = next((report.error for report in reports if report.refused), None)
        yield Row({"checkpoint": what, "taken_by_ranks": accepted, "wrong_tensors": wrong[:20], "words": difference})
        about = None
        if accepted:
            lost = f"{len(wrong)} tensors wrong, {wrong[0]} the first" if wrong else "all tensors as they were saved"
            about = f"a checkpoint with its {what} is accepted by {placement.name(*accepted)}: {lost}"[:LONGEST_ABOUT]
        labels = {**placement.labels, "broken": what}
        yield Measurement("broken_refused", int(not accepted), labels, samples=len(reports), about=about)


def reshard_measurements(
    run: ReshardedRun, before: Placement, after: Placement, labels: Labels | None = None
) -> Iterator[Yield]:
    """Compare what another number of ranks loaded with what was saved, and the later mean losses."""
    here = {
        **(before.labels if labels is None else labels),
        "mode": run.mode, "from": str(len(before.ranks)), "to": str(len(after.ranks)),
    }  # fmt: skip
    what = f"{run.mode}, from {here['from']} to {here['to']} ranks"
    loaded = run.reader.of(Loaded)
    wanted = saved_state(run.writer, max(report.step for _, report in loaded))[0]
    found = [f"{name} on {after.name(rank)}" for rank, report in loaded for name in _wrong(report.state, wanted)]
    yield _mismatches(found, len(wanted) * len(after.ranks), here, what)
    have, want = _mean_losses(run.reader), _mean_losses(run.straight)
    worst = max(have, key=lambda number: relative_difference(have[number], want[number]))
    distance = relative_difference(have[worst], want[worst])
    about = f"{what}: the loss of step {worst} is {have[worst]:.9g}, not {want[worst]:.9g}" if distance else None
    yield Measurement("reshard_difference", distance, here, samples=len(have), about=about)


def left_out(mode: str, reason: str) -> Row:
    """Return a row for a way of training that this stack does not support."""
    return Row({"mode": mode, "left_out": reason})


def saved_state(outcome: RanksOutcome, step: int) -> list[State]:
    """Return the digests of every tensor when this step was saved, by rank."""
    return [report.state for _, report in outcome.of(SaveStarted) if report.step == step]


def _losses(outcome: RanksOutcome, rank: int = 0) -> dict[int, float]:
    return {report.step: report.loss for own, report in outcome.of(Stepped) if own == rank}


def _mean_losses(outcome: RanksOutcome) -> dict[int, float]:
    by_rank = [_losses(outcome, rank) for rank in range(len(outcome.reports))]
    return {step: sum(losses[step] for losses in by_rank) / len(by_rank) for step in by_rank[0]}


def _latest(outcome: RanksOutcome, kind: type[Loaded] | type[Stepped]) -> float:
    """Return when all ranks had made their first report of this kind."""
    first: dict[int, float] = {}
    for rank, report in outcome.of(kind):
        first.setdefault(rank, report.at)
    return max(first.values())
