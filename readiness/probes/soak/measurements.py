"""Measurements of `multichip.soak` from its totals, and sentences about what they prove. Pure.

The same code serves a soak that came to its end and one that was cut off: of the latter, `completed` is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from readiness.datamodel import Labels, Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT
from readiness.probes.soak.mtbf import DAY_H, FaultBounds, Job
from readiness.probes.soak.poisson_bound import CONFIDENCE
from readiness.probes.soak.soak_log import SoakTotals

_FAULT_ROWS = 50


def measurements(totals: SoakTotals) -> Iterator[Yield]:
    """Yield all measurements known so far."""
    begun = totals.begun
    if not begun:
        return
    labels: Labels = begun["labels"]
    chips = len(begun["chips"])
    job = _job(totals)
    bounds = FaultBounds(chips * totals.exposure_s / 3600, totals.count, job)
    yield Row({"proves": proven(totals, bounds), "does_not_prove": not_proven(totals, bounds)})
    yield Row({
        "scope": begun["scope"], "spent_s": totals.spent_s, "exposure_s": totals.exposure_s, "rounds": totals.rounds,
        "sessions": totals.sessions, "restarts": totals.restarts, "recovery_s_set": begun["recovery_s"],
        "recoveries_s": totals.recoveries_s[-20:], "ended": totals.ended, "unrepeatable": totals.unrepeatable,
        "checkpoints_in_memory": totals.unkept, "uncompared": totals.uncompared, "operations": totals.operations,
    })  # fmt: skip
    for fault in totals.faults[:_FAULT_ROWS]:
        yield Row({"fault": fault["cause"], "what": fault["what"], "chips": ", ".join(fault["chips"]) or None,
                   "round": fault["round"], "after_s": fault["spent_s"]})  # fmt: skip
    if totals.samples:
        yield samples_row(totals.samples)
    yield from _faults(totals, labels)
    yield from _bounds(totals, bounds, labels)
    if totals.ended is not None and (totals.rounds or totals.ended):
        yield Measurement("completed", int(not totals.ended), labels, about=totals.ended or None)


def samples_row(samples: Sequence[Mapping[str, Any]]) -> Row:
    """Return the readings of a soak as one row of shape `series/1`; what one of them does not have is null there."""
    names = dict.fromkeys(name for sample in samples for name in sample if name != "spent_s")
    columns = {name: [sample.get(name) for sample in samples] for name in names}
    return Row({"shape": "series/1", "columns": {"at_s": [sample["spent_s"] for sample in samples], **columns}})


def _job(totals: SoakTotals) -> Job:
    """Return the job of the profile; its recovery time is as set, or the slowest that was seen."""
    begun = totals.begun
    recovery_s = float(begun["recovery_s"])
    if totals.recoveries_s and not recovery_s:
        recovery_s = max(totals.recoveries_s)
    return Job(int(begun["job_chips"]), float(begun["job_days"]), float(begun["checkpoint_s"]), recovery_s)


def _faults(totals: SoakTotals, labels: Labels) -> Iterator[Yield]:
    if not totals.count and totals.silent:
        return
    about = _about(totals)
    yield Measurement("faults", totals.count, {**labels, "cause": "all"}, samples=totals.rounds, about=about)
    for cause, count in sorted(totals.causes.items()):
        first = next((fault["what"] for fault in totals.faults if fault["cause"] == cause), None)
        yield Measurement("faults", count, {**labels, "cause": cause}, samples=totals.rounds, about=first)
    yield Measurement("fault_events", totals.events, labels, about=about)


def _about(totals: SoakTotals) -> str | None:
    if not totals.count:
        return None
    causes = ", ".join(f"{count} {cause}" for cause, count in totals.causes.most_common(4))
    suspects = totals.suspects.most_common(2)
    named = ""
    if suspects and (len(suspects) == 1 or suspects[0][1] > suspects[1][1]):
        named = f"; {suspects[0][0]} took part in {suspects[0][1]} of {totals.count}"
    return f"{causes}{named}; first: {totals.faults[0]['what']}"[:LONGEST_ABOUT]


def _bounds(totals: SoakTotals, bounds: FaultBounds, labels: Labels) -> Iterator[Yield]:
    chips, job = len(totals.begun["chips"]), bounds.job
    size = f"{job.chips} chips"
    yield Measurement("exposure_chip_hours", bounds.chip_hours, labels, samples=totals.rounds)
    if totals.rounds:
        yield Measurement("compared_share", _compared_share(totals), labels, about=totals.silent or None)
    if not totals.exposure_s or (totals.silent and not totals.count):
        return  # nothing follows
    exposure = f"{_faults_in_words(totals.count)} in {_figure(bounds.chip_hours)} chip-hours"
    yield Measurement("chip_mtbf_h", bounds.chip_mtbf_h, labels, about=exposure)
    events = FaultBounds(totals.exposure_s / 3600, totals.events, job)
    bursts = f"{_figure(totals.exposure_s / 3600)} h of this host with {chips} chip{'s' if chips > 1 else ''}"
    bursts = f"{totals.events} bursts of faults in {bursts}"
    yield Measurement("host_mtbf_h", events.chip_mtbf_h, labels, about=bursts)
    yield Measurement("job_mtbf_h", bounds.job_mtbf_h, labels, about=f"{size}; {exposure}")
    yield Measurement("uninterrupted_day", bounds.uninterrupted(DAY_H), labels, about=f"{size}; {exposure}")
    if job.recovery_s:
        back = "set" if totals.begun["recovery_s"] else "measured"
        about = f"{size}, checkpoints of {job.checkpoint_s:g} s, {job.recovery_s:.3g} s to come back ({back}); {exposure}"
        yield Measurement("training_time_share", bounds.training_time_share, labels, about=about[:LONGEST_ABOUT])
    share = bounds.chip_hours / bounds.needed_chip_hours
    wanted = f"{_figure(bounds.needed_chip_hours)} chip-hours are needed for {size} and {job.days:g} days"
    yield Measurement("exposure_share", share, labels, about=wanted)
    if totals.recoveries_s:
        slowest = max(totals.recoveries_s)
        yield Measurement("recovery_s", slowest, labels, samples=len(totals.recoveries_s))
    if speed := _speed_kept(totals):
        yield Measurement("pace_kept", speed, labels, samples=len(totals.samples))


def _compared_share(totals: SoakTotals) -> float:
    """Return the share of training and operations that repeat on this device, so that a wrong result would be seen."""
    return (totals.operations - totals.uncompared + (not totals.unrepeatable)) / (totals.operations + 1)


def _speed_kept(totals: SoakTotals) -> float | None:
    """Return the best speed of the last quarter of the samples over that of the first; None for too few samples.

    Of the work that is the same in every round, and of the operations, of which as many are done as there is time for: the
    one that lost more.
    """
    samples = [sample for sample in totals.samples[2:] if sample.get("operations_s")]
    quarter = len(samples) // 4
    if quarter < 3:
        return None
    early, late = (
        (
            max(1 / (sample["round_s"] - sample["operations_s"]) for sample in part),
            max(sample["operations"] / sample["operations_s"] for sample in part),
        )
        for part in (samples[:quarter], samples[-quarter:])
    )
    return float(min(late[0] / early[0], late[1] / early[1]))


def proven(totals: SoakTotals, bounds: FaultBounds) -> str:
    """Return one sentence about what the soak proves."""
    chips = len(totals.begun["chips"])
    who = "one chip" if chips == 1 else f"{chips} chips"
    text = f"{who} worked for {_time(totals.exposure_s / 3600)} ({_figure(bounds.chip_hours)} chip-hours)"
    text += f" with {_faults_in_words(totals.count)}" if totals.count else " without a fault"
    if not totals.exposure_s or (totals.silent and not totals.count):
        return f"{text}: this proves nothing" + (f", because {totals.silent}" if totals.silent else "")
    return (
        f"{text}: with {CONFIDENCE:.0%} confidence one of these chips works for at least {_time(bounds.chip_mtbf_h)} between"
        f" faults, and {bounds.job.chips} of them together for at least {_time(bounds.job_mtbf_h)}"
    )


def not_proven(totals: SoakTotals, bounds: FaultBounds) -> str:
    """Return sentences about what the soak leaves open, whatever its result."""
    job = bounds.job
    times = bounds.needed_chip_hours / bounds.chip_hours if bounds.chip_hours else math.inf
    if times > 1:
        many = f", {_figure(times)} times as many" if times < math.inf else ""
        text = (
            f"that {job.chips} chips run for {job.days:g} days without an interruption, at even odds: "
            f"that needs {_figure(bounds.needed_chip_hours)} chip-hours with {_no_more(totals.count)}{many}"
        )
    else:
        text = f"more than that {job.chips} chips run for {job.days:g} days without an interruption, at even odds"
    if totals.uncompared:
        text += f"; {totals.uncompared} of {totals.operations} operations differ from call to call and were not compared"
    text += "; and nothing about other hosts, or faults from more age, heat or load"
    if totals.begun["labels"].get("chips") != "several":
        text += "; no link between chips was used"
    return text


def _no_more(faults: int) -> str:
    return "no fault" if not faults else f"no more than {_faults_in_words(faults)}"


def _faults_in_words(count: int) -> str:
    return {0: "no fault", 1: "one fault"}.get(count, f"{count} faults")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _time(hours: float) -> str:
    """Return a duration as text: `64 hours`, `14 seconds`."""
    if hours >= 1:
        return f"{_figure(hours)} hours"
    return f"{_figure(60 * hours)} minutes" if hours >= 1 / 60 else f"{_figure(3600 * hours)} seconds"
