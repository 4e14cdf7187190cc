"""References for a run: an earlier run, chip by chip, or a baseline of whole runs, by model of accelerator. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from readiness.comparison.comparable_values import Key, Spread, figures, kind, number, settings_of
from readiness.datamodel import (
    AcceleratorAssessment,
    AcceleratorFacts,
    Assessment,
    Better,
    Evidence,
    Finding,
    Level,
    Measurement,
    Outcome,
    Status,
    Use,
)
from readiness.judging.host_load import measured_while_busy

Directions = Mapping[tuple[str, str], Better | None]


@dataclass(frozen=True, slots=True)
class Expected:
    """Outcomes of one requirement for one use, over all runs of a reference."""

    requirement: str
    use: Use
    level: Level
    title: str
    limit: str
    check: str
    measure: str
    outcomes: Mapping[Outcome, int]

    @property
    def outcome(self) -> Outcome | None:
        """The outcome if it is the same in every run; None otherwise."""
        found = [outcome for outcome, count in self.outcomes.items() if count]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement over the runs of a reference."""

    check: str
    name: str
    labels: tuple[tuple[str, str], ...]
    unit: str | None
    better: Better | None
    spread: Spread
    busy: int = 0  # number of runs that measured it while the host was busy

    @property
    def key(self) -> Key:
        """The key by which runs are compared."""
        return self.check, self.name, self.labels


@dataclass(frozen=True, slots=True)
class Subject:
    """A reference's data of one accelerator, or of all of one model."""

    name: str
    vendor: str | None
    model: str | None
    stack: str
    simulated: bool
    runs: int
    samples: int
    software: Mapping[str, tuple[str, ...]]
    expected: Mapping[tuple[str, Use], Expected]
    figures: Mapping[Key, Figure]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)  # by check the longest that a last try of it took


@dataclass(frozen=True, slots=True)
class Reference:
    """Something to hold a run against. `by_model` of a baseline; else its subjects are accelerators of one earlier run."""

    title: str
    by_model: bool
    profile_name: str
    profile_sha256: str
    subjects: tuple[Subject, ...]
    versions: tuple[str, ...]

    def subject(self, facts: AcceleratorFacts) -> Subject | None:
        """Return the data of this accelerator, or of its model."""
        if not self.by_model:
            return next((subject for subject in self.subjects if subject.name == facts.id), None)
        return next((subject for subject in self.subjects if _identity(subject) == model_of(facts)), None)


#: Vendor, model, stack, and whether it is simulated.
Model = tuple[str | None, str | None, str, bool]


def model_of(facts: AcceleratorFacts) -> Model:
    """Return the properties that accelerators must share to have one baseline."""
    return facts.vendor, facts.model, facts.stack, bool(facts.properties.get("simulated"))


def _identity(subject: Subject) -> Model:
    return subject.vendor, subject.model, subject.stack, subject.simulated


def of_run(assessment: Assessment, directions: Directions, title: str) -> Reference:
    """One earlier run, each accelerator by its id."""
    subjects = (
        subject_of(item.facts.id, [(0, assessment, item)], directions) for item in assessment.accelerators
    )
    return Reference(
        title, False, assessment.profile_name, assessment.profile_sha256, tuple(subjects), (assessment.version,)
    )


def of_runs(assessments: Sequence[Assessment], directions: Directions, title: str) -> Reference:
    """A baseline of whole runs under one profile, by model."""
    models: dict[Model, list[tuple[int, Assessment, AcceleratorAssessment]]] = {}
    for number_of_run, assessment in enumerate(assessments):
        for item in assessment.accelerators:
            models.setdefault(model_of(item.facts), []).append((number_of_run, assessment, item))
    subjects = tuple(
        subject_of(model[1] or model[0] or "unknown model", entries, directions) for model, entries in models.items()
    )
    first = assessments[0]
    versions = tuple(sorted({assessment.version for assessment in assessments}))
    return Reference(title, True, first.profile_name, first.profile_sha256, subjects, versions)


def subject_of(
    name: str, entries: Sequence[tuple[int, Assessment, AcceleratorAssessment]], directions: Directions
) -> Subject:
    """Return the data of some accelerators over some runs, each with the number of its run."""
    facts = entries[0][2].facts
    by_key: dict[Key, dict[int, list[float]]] = {}
    busy: dict[Key, dict[int, list[float]]] = {}  # of speeds: what was measured while the host was busy
    units: dict[Key, str | None] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    for number_of_run, assessment, item in entries:
        for evidence, key, measurement in figures(item):
            settings.setdefault(evidence.check, settings_of(assessment, evidence))
            if (value := number(measurement.value)) is not None:
                runs = busy if is_disturbed(evidence, measurement, directions) else by_key
                runs.setdefault(key, {}).setdefault(number_of_run, []).append(value)
                units.setdefault(key, measurement.unit)
    seconds: dict[str, float] = {}
    software: dict[str, set[str]] = {}
    for _, _, item in entries:
        for evidence in item.evidence:
            if evidence.status is Status.MEASURED:
                seconds[evidence.check] = max(seconds.get(evidence.check, 0.0), round(evidence.seconds, 3))
        for component, version in item.facts.software.items():
            software.setdefault(component, set()).add(version or "unknown")
    return Subject(
        name=name, vendor=facts.vendor, model=facts.model, stack=facts.stack,
        simulated=bool(facts.properties.get("simulated")),
        runs=len({number_of_run for number_of_run, _, _ in entries}), samples=len(entries),
        software={component: tuple(sorted(versions)) for component, versions in sorted(software.items())},
        expected=_expected([found for _, _, item in entries for found in _with_disturbance(item, directions)]),
        figures={
            key: Figure(
                *key, unit, directions.get(key[:2]), _spread(by_key.get(key, {}), busy.get(key, {})), len(busy.get(key, {}))
            )
            for key, unit in units.items()
        },
        settings=settings, seconds=dict(sorted(seconds.items())),
    )  # fmt: skip


def _spread(quiet: Mapping[int, Sequence[float]], busy: Mapping[int, Sequence[float]]) -> Spread:
    """The spread over runs on a quiet host; where there is none, the others as one run, whose spread says nothing."""
    return Spread.of(quiet) if quiet else replace(Spread.of(busy), runs=1)


def _with_disturbance(item: AcceleratorAssessment, directions: Directions) -> Iterator[tuple[Finding, bool]]:
    """Findings, and whether each is a failure of a speed that a busy host may have caused."""
    busy = {evidence.check for evidence in item.evidence if measured_while_busy(evidence)}
    for finding in item.findings:
        failed = finding.outcome is Outcome.FAIL and finding.check in busy
        yield finding, failed and is_of_speed(finding, directions)


def is_disturbed(evidence: Evidence, measurement: Measurement, directions: Directions) -> bool:
    """Return whether a measurement is a speed that was measured while the host was busy."""
    if not measured_while_busy(evidence):
        return False
    return kind(measurement.name, measurement.unit, directions.get((evidence.check, measurement.name))).is_speed


def is_of_speed(finding: Finding, directions: Directions) -> bool:
    """Return whether a requirement is on a speed, which a busy host lowers."""
    return kind(finding.measure, finding.unit, directions.get((finding.check, finding.measure))).is_speed


def _expected(findings: Sequence[tuple[Finding, bool]]) -> dict[tuple[str, Use], Expected]:
    """Outcomes by requirement and use, without those that a busy host may have caused; of these alone nothing is known."""
    counts: dict[tuple[str, Use], Counter[Outcome]] = {}
    last: dict[tuple[str, Use], Finding] = {}
    for finding, disturbed in findings:
        where = finding.requirement, finding.use
        counts.setdefault(where, Counter())[Outcome.UNKNOWN if disturbed else finding.outcome] += 1
        last[where] = finding
    for finding, disturbed in findings:
        known = counts[finding.requirement, finding.use]
        if disturbed and any(known[outcome] for outcome in (Outcome.PASS, Outcome.FAIL)):
            known[Outcome.UNKNOWN] -= 1
    return {
        (id, use): Expected(
            id, use, finding.level, finding.title, finding.limit, finding.check, finding.measure,
            {outcome: count for outcome, count in counts[id, use].items() if count},
        )
        for (id, use), finding in last.items()
    }
