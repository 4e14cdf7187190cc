"""From training that died and went on to measurements and rows. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from readiness.model import Labels, Measurement, Row, Yield
from readiness.multichip.measurements import relative_difference
from readiness.multichip.recovering import DATA_PARALLEL
from readiness.ranks.values import LONGEST_ABOUT, Placement, RanksOutcome

#: How much further than two uninterrupted runs from each other a resumed one may be where they are not alike.
_SLACK = 10.0


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run that never stopped, the worlds of one that did, in order, and their `deaths`: when a rank was killed, and when
    its world had been cleared away.

    `again` is a second uninterrupted run, where something differed.
    """

    straight: RanksOutcome
    worlds: tuple[RanksOutcome, ...]
    deaths: tuple[tuple[float, float], ...]
    again: RanksOutcome | None
    mode: str = DATA_PARALLEL


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A world that saved, one of another size that loaded and went on, and the run that never stopped."""

    mode: str
    writer: RanksOutcome
    reader: RanksOutcome
    straight: RanksOutcome


def resumed(told: Resumed, placement: Placement) -> Iterator[Yield]:
    """What differs after a resume, just after loading and from then on, and how long it took."""
    labels = {**placement.labels, "mode": told.mode}
    yield from _state(told.mode, (told.straight, *told.worlds), placement, labels)
    found = differences(told)
    noise = 0.0 if told.again is None else max(_apart(told.straight, told.again), 0.0)
    if noise and math.isfinite(noise):  # the device's own runs are not alike: only what is far beyond that counts
        found = {
            name: (words, distance)
            for name, (words, distance) in found.items()
            if distance > _SLACK * noise or not math.isfinite(distance)
        }
    compared = sum(len(_losses(world)) for world in told.worlds) * len(placement.ranks)
    yield Row(
        {
            "mode": told.mode,
            "resumed_from": [report["loaded"] for world in told.worlds for report in world.reports[0] if "loaded" in report],
            "compared": compared,
            "differing": {name: words for name, (words, _) in found.items()},
            "two_uninterrupted_runs_differ_by": noise,
        }
    )
    first = next(iter(found.items()), None)
    about = None if first is None else f"{told.mode}: {first[0]} {first[1][0]}; {len(found)} in all"[:LONGEST_ABOUT]
    yield Measurement("resume_mismatches", len(found), labels, samples=compared, about=about)
    parts = [
        {
            "until_the_world_was_given_up_s": round(given_up - killed, 3),
            "until_loaded_s": round(_latest(world, "at", having="loaded") - killed, 3),
            "until_the_first_new_step_s": round(_latest(world, "at", having="step") - killed, 3),
        }
        for (killed, given_up), world in zip(told.deaths, told.worlds[1:], strict=False)
    ]
    if parts:
        yield Row({"mode": told.mode, "recoveries": parts})
        slowest = max(part["until_the_first_new_step_s"] for part in parts)
        yield Measurement("recovery_s", slowest, labels, samples=len(parts))


def differences(told: Resumed) -> dict[str, tuple[str, float]]:
    """What the resumed run has otherwise than the one that never stopped: by name, in words and as a relative distance."""
    found: dict[str, tuple[str, float]] = {}
    for rank in range(len(told.straight.reports)):
        wanted = _losses(told.straight, rank)
        for world in told.worlds:
            for step, loss in _losses(world, rank).items():
                if loss != wanted[step]:  # NaN differs from itself, and so it should
                    words = f"is {loss:.9g} instead of {wanted[step]:.9g}"
                    distance = relative_difference(loss, wanted[step])
                    found.setdefault(f"loss of step {step} on rank {rank}", (words, distance))
    return found


def _apart(one: RanksOutcome, other: RanksOutcome) -> float:
    """The largest relative distance between the losses of two runs."""
    return max(
        relative_difference(loss, _losses(one, rank)[step])
        for rank in range(len(one.reports))
        for step, loss in _losses(other, rank).items()
    )


def _state(mode: str, worlds: tuple[RanksOutcome, ...], placement: Placement, labels: Labels) -> Iterator[Measurement]:
    """Of each world that loaded: every tensor against what the world that saved it had on the same rank."""
    found: list[str] = []
    compared = 0
    saved: dict[int, dict[int, Mapping[str, str]]] = {}
    loaded: set[int] = set()
    for world in worlds:
        for rank, reports in enumerate(world.reports):
            for report in reports:
                if "saved" in report:
                    saved.setdefault(report["saved"], {})[rank] = report["state"]
                elif "loaded" in report:
                    loaded.add(report["loaded"])
                    wanted = saved.get(report["loaded"], {}).get(rank)
                    if wanted is None:
                        continue
                    compared += len(wanted)
                    found += [
                        f"{name} on {placement.name(rank)}" for name in wanted if report["state"].get(name) != wanted[name]
                    ]
    if compared:
        yield _lost(
            found,
            compared,
            labels,
            mode,
            _unlike({step: saved[step] for step in sorted(loaded & saved.keys())}, placement) if found else None,
        )


def _unlike(saved: Mapping[int, Mapping[int, Mapping[str, str]]], placement: Placement) -> str | None:
    """In words, whose replica was not like the others' when it was saved: no checkpoint can bring back both."""
    for step, by_rank in saved.items():
        digests = {rank: tuple(sorted(state.items())) for rank, state in by_rank.items()}
        counts = Counter(digests.values())
        first = next(iter(digests.values()), ())
        usual = max(counts, key=lambda digest: (counts[digest], digest == first), default=())
        if odd := [rank for rank, digest in digests.items() if digest != usual]:
            return f"at step {step}, when it was saved, {placement.name(*odd)} had another state than the others"
    return None


def _lost(found: list[str], compared: int, labels: Labels, mode: str, cause: str | None = None) -> Measurement:
    told = None
    if found:
        told = f"{mode}: {cause or f'{found[0]} is not what was saved'}; {len(found)} tensors in all"
    return Measurement("state_mismatches", len(found), labels, samples=compared, about=told and told[:LONGEST_ABOUT])


def broken(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Whether each broken checkpoint was refused by every rank, or at least by one that lets the others know."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for told in outcome.reports:
        for report in told:
            kinds.setdefault(report["broken"], []).append(report)
    for what, reports in kinds.items():
        accepted = [rank for rank, report in enumerate(reports) if not report["refused"]]
        wrong = sorted({name for report in reports if not report["refused"] for name in report["wrong"]})
        words = next((report["words"] for report in reports if report["refused"]), None)
        yield Row({"checkpoint": what, "taken_by_ranks": accepted, "wrong_tensors": wrong[:20], "words": words})
        about = None
        if accepted:
            lost = f"{len(wrong)} tensors wrong, {wrong[0]} the first" if wrong else "all tensors as they were saved"
            about = f"a checkpoint with its {what} is taken by {placement.name(*accepted)}: {lost}"[:LONGEST_ABOUT]
        labels = {**placement.labels, "broken": what}
        yield Measurement("broken_refused", int(not accepted), labels, samples=len(reports), about=about)


def resharded(told: Reloaded, before: Placement, after: Placement, labels: Labels | None = None) -> Iterator[Yield]:
    """Another number of ranks: what it loaded against what was saved, and the mean losses from then on."""
    here = {
        **(before.labels if labels is None else labels),
        "mode": told.mode, "from": str(len(before.ranks)), "to": str(len(after.ranks)),
    }  # fmt: skip
    step = _latest(told.reader, "loaded", having="loaded")
    wanted = saved_state(told.writer, step)[0]
    found = [
        f"{name} on {after.name(rank)}"
        for rank, reports in enumerate(told.reader.reports)
        for report in reports
        if "loaded" in report
        for name in wanted
        if report["state"].get(name) != wanted[name]
    ]
    yield _lost(found, len(wanted) * len(after.ranks), here, f"{told.mode}, from {here['from']} to {here['to']} ranks")
    have, want = _mean_losses(told.reader), _mean_losses(told.straight)
    worst = max(have, key=lambda number: relative_difference(have[number], want[number]))
    distance = relative_difference(have[worst], want[worst])
    about = None
    if distance:
        what = f"{told.mode}, from {here['from']} to {here['to']} ranks"
        about = f"{what}: the loss of step {worst} is {have[worst]:.9g}, not {want[worst]:.9g}"
    yield Measurement("reshard_difference", distance, here, samples=len(have), about=about)


def left_out(mode: str, reason: str) -> Row:
    """A way of training that this stack cannot be asked for."""
    return Row({"mode": mode, "left_out": reason})


def saved_state(world: RanksOutcome, step: int) -> list[Mapping[str, str]]:
    """The digests of every tensor when this step was saved, by rank."""
    return [report["state"] for reports in world.reports for report in reports if report.get("saved") == step]


def _losses(world: RanksOutcome, rank: int = 0) -> dict[int, float]:
    return {report["step"]: report["loss"] for report in world.reports[rank] if "step" in report}


def _mean_losses(world: RanksOutcome) -> dict[int, float]:
    by_rank = [_losses(world, rank) for rank in range(len(world.reports))]
    return {step: sum(losses[step] for losses in by_rank) / len(by_rank) for step in by_rank[0]}


def _latest(world: RanksOutcome, key: str, *, having: str) -> Any:
    """Of the first report of each rank that has something, the largest: all of them had come so far."""
    return max(next(report[key] for report in reports if having in report) for reports in world.reports)
