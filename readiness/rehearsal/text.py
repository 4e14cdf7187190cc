"""Texts shared by all report formats of a rehearsal: cleaned for a terminal, markup not escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from readiness.datamodel import Status
from readiness.rehearsal.detection_matrix import Catch, DefectResult, Detection, FalseAlarm
from readiness.rehearsal.document import NOTICE
from readiness.rehearsal.run import Rehearsal
from readiness.rehearsal.seeded_faults import SeededFault
from readiness.rendering import clean, duration, figure, names
from readiness.rendering.text import counted

WARNING = f"These are {NOTICE}."
_MOST_SEEDS = 10


@dataclass(frozen=True, slots=True)
class MergedAlarm:
    """False alarms of one requirement, merged over the seeds."""

    who: str
    about: str
    seeds: str

    @property
    def text(self) -> str:
        """Return the text on one line."""
        return f"{self.who} ({self.seeds}): {self.about}"


def head(rehearsal: Rehearsal) -> str:
    """Return the headline: `general: 41 planted defects, 3 healthy runs (seeds 7, 8, 9), 2 min 10 s`."""
    request = rehearsal.request
    parts = [counted(len(rehearsal.result.defects), "planted defect"), _healthy_runs(rehearsal), duration(rehearsal.seconds)]
    if request.expression is not None:
        parts.append(f"-k {clean(request.expression, 100)!r}")
    if request.full:
        parts.append("all checks on every chip")
    return f"{clean(request.profile.name, 100)}: {', '.join(parts)}"


def summary(rehearsal: Rehearsal) -> list[str]:
    """Return the result in a few sentences."""
    result = rehearsal.result
    lines = result.defects
    kinds = {line.fault.kind.name for line in lines}
    caught = result.of(Detection.CAUGHT)
    sentences = []
    if not result.rehearsed:
        sentences.append("Nothing could be rehearsed: no check finished on a simulated chip.")
    if rehearsal.interrupted:
        sentences.append("The rehearsal was stopped early: what had not run is not judged.")
    if lines:
        sentences.append(
            f"{len(caught)} of {counted(len(lines), 'planted defect')} caught, "
            f"{len({line.fault.kind.name for line in caught})} of {counted(len(kinds), 'kind')}."
        )
    for detection, how in (
        (Detection.MISSED, "Missed although claimed"),
        (Detection.UNFINISHED, "Not finished"),
        (Detection.NOT_TRIED, "Not triggered by any chosen check"),
        (Detection.DID_NOT_ACT, "Never acted, and so neither caught nor missed"),
        (Detection.UNTOLD, "Cannot be told, because what would show it could not be measured"),
        (Detection.NOT_REQUIRED, "Not asked by this profile"),
        (Detection.NOT_CLAIMED, "Claimed by no check"),
    ):
        if faults := [_named(line) for line in result.of(detection)]:
            sentences.append(f"{how}: {', '.join(faults)}.")
    if rehearsal.left_out:
        sentences.append(f"{counted(rehearsal.left_out, 'planted defect')} left out: no chosen check claims them.")
    return sentences


def _named(line: DefectResult) -> str:
    """Return the defect's name, with the checks that would see it if the profile required something of them."""
    by = f" ({clean(', '.join(line.not_required), 300)})" if line.detection is Detection.NOT_REQUIRED else ""
    return clean(line.fault.name, 100) + by


def healthy(rehearsal: Rehearsal) -> list[str]:
    """Return sentences about false alarms, and about what is unknown on healthy chips or the host."""
    result = rehearsal.result
    alarms = len(result.alarms)
    if result.healthy_runs or alarms:
        sentences = [f"False alarms: {alarms or 'none'} over {_healthy_runs(rehearsal)}."]
    else:
        sentences = ["False alarms: unknown, no healthy chip was run."]
    if result.unknown:
        unknown = ", ".join(f"{clean(name, 100)} ({count})" for name, count in result.unknown.items())
        sentences.append(f"Unknown on healthy chips: {sum(result.unknown.values())}: {unknown}.")
    elif result.healthy_runs:
        sentences.append("Unknown on healthy chips: none.")
    if result.host_fails:
        sentences.append(
            f"Not counted, because this host's CPU fails them too: {clean(', '.join(result.host_fails), 2000)}."
        )
    return sentences


def false_alarms(rehearsal: Rehearsal) -> Iterator[MergedAlarm]:
    """Yield the false alarms, merged by requirement and machine."""
    by_requirement: dict[tuple[str, str, str], list[FalseAlarm]] = {}
    for alarm in rehearsal.result.alarms:
        by_requirement.setdefault((alarm.check, alarm.requirement, alarm.machine), []).append(alarm)
    for (check, requirement, machine), alarms in by_requirement.items():
        yield MergedAlarm(
            who=clean(f"{check} for {requirement} on {machine}", 300),
            about=clean(f"{alarms[0].accelerator}: {alarms[0].about}", 600),
            seeds=_seeds([alarm.seed for alarm in alarms]),
        )


def severity(fault: SeededFault, *, short: bool = False) -> str:
    """Return `0.01 relative error`, or `0.01` if `short`; empty if the kind has no severity."""
    unit = clean(fault.kind.unit.partition(",")[0], 60)
    if not fault.severity:
        return ""
    if short:
        unit = next((short_unit for short_unit in ("MiB", "bits", "s") if unit.split()[:1] == [short_unit]), "1")
    return figure(fault.severity, unit)


def kind(fault: SeededFault) -> str:
    """Return the kind, or nothing if the name contains it."""
    return "" if fault.kind.name in fault.name else fault.kind.name


def detections(line: DefectResult) -> str:
    """Return the checks that detected the defect, in run order: `parity.matmul 2.1 s, operators.sweep 14.0 s`."""
    return ", ".join(
        f"{clean(catch.check, 100)} {duration(catch.seconds)}{_remarks(line, catch)}"
        for catch in line.catches
    )


def _remarks(line: DefectResult, catch: Catch) -> str:
    """Return remarks on a detection: the chips of several, an unclaimed kind, and an unusual end of the check."""
    ends = {Status.TIMEOUT: "no end", Status.CRASHED: "crashed"}
    sentences = [f"on {names(catch.accelerators)}"] if len(catch.accelerators) < line.fault.chip.chips else []
    sentences += ([] if catch.claimed else ["unclaimed"]) + ([ends[catch.status]] if catch.status in ends else [])
    return f" ({', '.join(sentences)})" if sentences else ""


def undetected(line: DefectResult) -> str:
    """Return the checks without a detection: `missed by parity.training; unknown: multichip.links`."""
    left_out = line.left_out if line.detection is Detection.NOT_TRIED else ()
    not_required = line.not_required if line.detection is Detection.NOT_REQUIRED else ()
    parts = [
        f"{how} {clean(', '.join(checks), 1000)}"
        for how, checks in (
            ("missed by", line.missed_by), ("not met by", line.not_met), ("unknown:", tuple(line.unable)),
            ("not run:", line.not_run), ("left out:", left_out), ("would be seen by", not_required),
            ("expected to fail:", _expected(line)),
        )
        if checks
    ]
    return "; ".join(parts)


def _expected(line: DefectResult) -> tuple[str, ...]:
    """The requirements that ought to have failed, where none of them did."""
    failed = {requirement for catch in line.catches for requirement in catch.requirements}
    return () if failed & set(line.expected) else line.expected


def reasons(line: DefectResult) -> list[str]:
    """Return the reasons why checks have no result, one text each."""
    return [f"{clean(check, 100)} unknown: {clean(why, 600)}" for check, why in line.unable.items()]


def sources(line: DefectResult) -> list[str]:
    """Return the sources of a defect, one text for each."""
    return [clean(part, 500) for part in (line.fault.source or "").split(" ; ") if part.strip()]


def _healthy_runs(rehearsal: Rehearsal) -> str:
    runs = rehearsal.result.healthy_runs
    return f"{counted(runs, 'healthy run')}{f' ({_seeds(rehearsal.request.seeds)})' if runs else ''}"


def _seeds(seeds: Sequence[int]) -> str:
    """Return seeds as text: `seed 7`, `seeds 7 to 56` or `seeds 7, 9, 12 and 20 more`."""
    unique = sorted(set(seeds))
    if len(unique) == 1:
        return f"seed {unique[0]}"
    if len(unique) > 2 and unique[-1] - unique[0] == len(unique) - 1:
        return f"seeds {unique[0]} to {unique[-1]}"
    more = f" and {len(unique) - _MOST_SEEDS} more" if len(unique) > _MOST_SEEDS else ""
    return f"seeds {', '.join(map(str, unique[:_MOST_SEEDS]))}{more}"
