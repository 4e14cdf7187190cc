"""Machines side by side: who is ready for what and why, requirement by requirement, and what cannot be compared. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from readiness import rendering
from readiness.comparison.comparable_values import Key, Kind, figures, kind, number, settings_of
from readiness.comparison.reference import Directions
from readiness.datamodel import (
    AcceleratorAssessment,
    Assessment,
    Better,
    Decision,
    Finding,
    Level,
    Outcome,
    Status,
    Use,
    Verdict,
)
from readiness.rendering import Kind as FindingKind
from readiness.rendering import clean, diagnosis

_MOST_REASONS = 3
_URGENCY = list(FindingKind)
_OPEN = (FindingKind.BLOCKER, FindingKind.LIMIT, FindingKind.UNKNOWN, FindingKind.WAIVED)


@dataclass(frozen=True, slots=True)
class Standing:
    """One machine for one use: the verdict of its worst accelerator, the points of all, and what stands in the way."""

    verdict: Verdict | None
    points: str
    applies_to: str
    reasons: tuple[str, ...]
    further: int

    @property
    def decision(self) -> Decision:
        """The decision; undetermined without a verdict."""
        return Decision.UNDETERMINED if self.verdict is None else self.verdict.decision


@dataclass(frozen=True, slots=True)
class Machine:
    """One assessment. `name` tells it from the others in every table."""

    name: str
    assessment: Assessment
    device: str
    software: str
    simulated: bool
    standings: Mapping[Use, Standing]


@dataclass(frozen=True, slots=True)
class Cell:
    """Result of one machine for a requirement or a value; `text` is empty if it has none."""

    kind: FindingKind | None
    text: str
    value: float | None = None
    ratio: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement, as each machine meets it. `uniform` where all of them fare the same."""

    requirement: str
    title: str
    level: Level
    uses: tuple[Use, ...]
    limit: str
    check: str
    cells: tuple[Cell, ...]
    uniform: bool
    same_limits: bool = True

    @property
    def matters(self) -> bool:
        """True if it is failed, waived or unknown somewhere, or has different limits."""
        return not self.same_limits or any(cell.kind in _OPEN for cell in self.cells)

    @property
    def urgency(self) -> int:
        """The worst outcome among the machines."""
        return min((_URGENCY.index(cell.kind) for cell in self.cells if cell.kind is not None), default=len(_URGENCY))


@dataclass(frozen=True, slots=True)
class ValueRow:
    """One measured speed on each machine, with its ratio to the first one that has it."""

    name: str
    unit: str
    better: Better
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Lack:
    """A check that finished on some machines and not on others, with its status on each."""

    check: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of machines, ordered by their verdicts, best first. `answers` are the sentences for each use."""

    machines: tuple[Machine, ...]
    warnings: tuple[str, ...]
    answers: Mapping[Use, tuple[str, ...]]
    rows: tuple[Row, ...]
    values: tuple[ValueRow, ...]
    lacks: tuple[Lack, ...]
    conditions: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def differing(self) -> list[Row]:
        """Requirements that some machines meet and others fail, or of which nothing is known there; failures first."""
        return [row for row in self.rows if not row.uniform and row.matters]

    @property
    def others(self) -> list[Row]:
        """The rows with the same outcome everywhere, or that apply to some machines and are met by these."""
        return [row for row in self.rows if row.uniform or not row.matters]


def compare(assessments: Sequence[tuple[str, Assessment]], directions: Directions) -> Comparison:
    """Assessments by the names of their machines."""
    machines = sorted((_machine(name, assessment) for name, assessment in assessments), key=_rank)
    return Comparison(
        machines=tuple(machines),
        warnings=tuple(_warnings(machines)),
        answers={
            use: tuple(_answers(machines, use)) for use in Use if any(use in machine.standings for machine in machines)
        },
        rows=tuple(_rows(machines)),
        values=tuple(_values(machines, directions)),
        lacks=tuple(_lacks(machines)),
        conditions=tuple(_conditions(machines)),
    )


# ------------------------------------------------------------------------------------------------------------- verdicts


def _machine(name: str, assessment: Assessment) -> Machine:
    groups = rendering.group_devices(assessment)
    counted: dict[str, int] = {}
    for group in groups:
        counted[rendering.device(group.lead)] = counted.get(rendering.device(group.lead), 0) + len(group.items)
    devices = [f"{count} x {device}" if count > 1 else device for device, count in counted.items()]
    software = dict.fromkeys(rendering.software(group.lead) for group in groups)
    return Machine(
        name=clean(name, 60), assessment=assessment, device="; ".join(devices) or "no accelerator",
        software="; ".join(stack for stack in software if stack), simulated=bool(rendering.simulated_chips(assessment)),
        standings={
            use: _standing(assessment, use)
            for use in Use
            if use in assessment.uses or any(use in item.verdicts for item in assessment.accelerators)
        },
    )  # fmt: skip


def _standing(assessment: Assessment, use: Use) -> Standing:
    given = [(item, item.verdicts[use]) for item in assessment.accelerators if use in item.verdicts]
    if not given or len(given) < len(assessment.accelerators):
        return Standing(None, "0..100", "", ("no verdict was reached",), 0)
    item, worst = min(given, key=lambda entry: rendering.severity_key(entry[1]))
    reasons = list(_reasons(assessment, item, worst, use))
    further = max(len(reasons) - _MOST_REASONS, 0)
    return Standing(worst, rendering.score_range(worst), item.facts.id, tuple(reasons[:_MOST_REASONS]), further)


def _reasons(assessment: Assessment, item: AcceleratorAssessment, verdict: Verdict, use: Use) -> Iterator[str]:
    """Return why it is not ready, in sentences: its defects, else its failed musts, else what is unknown."""
    if verdict.decision is Decision.READY:
        return
    if verdict.decision is Decision.NOT_READY:
        found, _ = diagnosis.diagnosis_texts(_of_use(assessment, use))
        stopping = [one for one in found if use in one.diagnosis.stops]
        for one in stopping:
            yield one.sentence
        explained = {requirement for one in stopping for requirement in one.diagnosis.blockers}
        for finding in item.findings:
            if finding.use is use and finding.requirement in verdict.blockers and finding.requirement not in explained:
                yield _sentence(finding)
        return
    musts = [
        finding
        for finding in item.findings
        if finding.use is use and finding.outcome is Outcome.UNKNOWN and finding.level is Level.MUST
    ]
    checks: dict[str, int] = {}
    for finding in musts:
        reason = rendering.reason(finding).removeprefix(f"{finding.check}: ") or "no reason was given"
        checks[reason] = checks.get(reason, 0) + 1
    for reason, count in sorted(checks.items(), key=lambda entry: -entry[1]):
        yield f"{count} requirement{'s' if count > 1 else ''} unknown: {reason}"


def _of_use(assessment: Assessment, use: Use) -> Assessment:
    """Return the assessment with nothing but what is about one use: a reason for inference must not speak of training."""
    return replace(
        assessment,
        accelerators=tuple(
            replace(item, findings=tuple(finding for finding in item.findings if finding.use is use))
            for item in assessment.accelerators
        ),
    )


def _sentence(finding: Finding) -> str:
    return f"Not met: {rendering.title(finding) or clean(finding.requirement, 200)}: {rendering.measured(finding)}"


def _rank(machine: Machine) -> tuple[tuple[int, ...], float, str]:
    """Verdicts first, then points proven: best machines first."""
    order = (Decision.READY, Decision.UNDETERMINED, Decision.NOT_READY)
    standings = machine.standings.values()
    decisions = sorted(order.index(standing.decision) for standing in standings)
    score = sum(standing.verdict.score for standing in standings if standing.verdict is not None)
    return (sum(decisions), *decisions), -score, machine.name


def ranked(machines: Sequence[Machine], use: Use) -> list[Machine]:
    """The machines for one use: by verdict, then by points proven."""
    order = (Decision.READY, Decision.UNDETERMINED, Decision.NOT_READY)

    def key(machine: Machine) -> tuple[int, float]:
        standing = machine.standings[use]
        return order.index(standing.decision), -(standing.verdict.score if standing.verdict is not None else 0.0)

    return sorted((machine for machine in machines if use in machine.standings), key=key)


_VERBS = {Use.TRAINING: "train", Use.INFERENCE: "serve"}


def _answers(machines: Sequence[Machine], use: Use) -> Iterator[str]:
    """Return the best machine for this use, in sentences for a reader who reads nothing else."""
    of_use = ranked(machines, use)
    by_decision = {
        decision: [machine for machine in of_use if machine.standings[use].decision is decision] for decision in Decision
    }
    ready, unsure = by_decision[Decision.READY], by_decision[Decision.UNDETERMINED]
    verb = _VERBS[use]
    if len(ready) == 1:
        yield f"{ready[0].name} is ready to {verb}" + ("; no other is." if len(of_use) > 1 else ".")
    elif ready:
        yield f"{_list(ready)} are ready to {verb}; {_order(ready, use)}"
    else:
        yield f"None is shown to be ready to {verb}: this comparison names no machine to buy for {use.value}."
    for machine in unsure:
        yield f"{machine.name} is undetermined: it may be ready, and what was not measured must be measured first."
    for machine in by_decision[Decision.NOT_READY]:
        standing = machine.standings[use]
        assert standing.verdict is not None
        count = len(standing.verdict.blockers)
        why = f" {standing.reasons[0]}" if standing.reasons else ""
        more = len(standing.reasons) + standing.further - 1
        rest = f" ({more} more reason{'s' if more > 1 else ''} below)" if more > 0 else ""
        unmet = f"{count} mandatory requirement{' is' if count == 1 else 's are'} not met"
        yield f"{machine.name} is not ready: {unmet}.{why}{rest}"


def _list(machines: Sequence[Machine]) -> str:
    names = [machine.name for machine in machines]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _order(ready: Sequence[Machine], use: Use) -> str:
    """Return the order by points of machines that are all ready: none if what is unknown could reverse it."""
    verdicts = [verdict for machine in ready if (verdict := machine.standings[use].verdict) is not None]
    first, second = verdicts[0], verdicts[1]
    points = ", ".join(f"{machine.name} {machine.standings[use].points}" for machine in ready)
    if math.floor(first.score) > math.floor(second.ceiling):  # as they are shown
        return f"{ready[0].name} has more points whatever the unknown turns out to be ({points})."
    return f"their points ({points}) do not tell them apart."


# ------------------------------------------------------------------------------------- circumstances that differ


def _warnings(machines: Sequence[Machine]) -> Iterator[str]:
    """Loud: what makes verdicts or values of these machines no fair comparison."""
    assessments = [machine.assessment for machine in machines]
    if len({(assessment.profile_name, assessment.profile_sha256) for assessment in assessments}) > 1:
        named = ", ".join(f"{machine.name} under {clean(machine.assessment.profile_name, 60)} "
                          f"({machine.assessment.profile_sha256[:12] or 'no digest'})" for machine in machines)  # fmt: skip
        yield f"The profiles differ: {named}. The verdicts answer different questions; judge them again under one profile."
    if len({assessment.version for assessment in assessments}) > 1:
        named = ", ".join(f"{machine.name} {clean(machine.assessment.version, 40)}" for machine in machines)
        yield f"The versions of readiness differ: {named}. A check may have measured otherwise."
    if len({assessment.uses for assessment in assessments}) > 1:
        named = ", ".join(f"{machine.name}: {' and '.join(machine.assessment.uses)}" for machine in machines)
        yield f"They were judged for different uses: {named}."
    simulated = [machine.name for machine in machines if machine.simulated]
    if simulated:
        yield (
            f"Simulated: {', '.join(simulated)}. This is a rehearsal, not a measurement of a product; a simulated chip has "
            "the speed and the size of its host, so speeds say nothing of it."
        )
    for machine in machines:
        if machine.assessment.interrupted:
            yield f"{machine.name}: the run was stopped before its end; what was not measured by then is unknown."
        for stack, reason in rendering.failed_stacks(machine.assessment).items():
            yield f"{machine.name}: accelerators of {stack} could not be listed and are not assessed: {reason}"
        findings = [finding for item in machine.assessment.accelerators for finding in item.findings]
        waived = len({finding.requirement for finding in findings if finding.waived is not None})
        if waived:
            yield f"{machine.name}: {waived} of its failed requirements {'is' if waived == 1 else 'are'} waived."
    if len({len(assessment.accelerators) for assessment in assessments}) > 1:
        named = ", ".join(f"{machine.name} {len(machine.assessment.accelerators)}" for machine in machines)
        yield f"The numbers of accelerators differ: {named}. What is measured on several together is not the same task."
    odd = _odd_settings(machines)
    if odd:
        shown = ", ".join(odd[:8]) + (f" and {len(odd) - 8} more" if len(odd) > 8 else "")
        yield f"Measured with different settings, and not compared by value: {shown}."


def _settings(machine: Machine) -> dict[str, Mapping[str, object]]:
    return {
        evidence.check: settings_of(machine.assessment, evidence)
        for item in machine.assessment.accelerators
        for evidence in item.evidence
        if evidence.status is Status.MEASURED
    }


def _odd_settings(machines: Sequence[Machine]) -> list[str]:
    """Return checks that had different settings on different machines."""
    by_machine = [_settings(machine) for machine in machines]
    checks = sorted({check for settings in by_machine for check in settings})
    return [
        check
        for check in checks
        if len({repr(sorted(settings[check].items())) for settings in by_machine if check in settings}) > 1
    ]


def _conditions(machines: Sequence[Machine]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return each machine's identity and how it was assessed, line by line."""
    assessments = [machine.assessment for machine in machines]
    yield "accelerators", tuple(machine.device for machine in machines)
    yield "software", tuple(machine.software or "not known" for machine in machines)
    profiles = (f"{clean(one.profile_name, 60)} ({one.profile_sha256[:12] or 'no digest'})" for one in assessments)
    yield "profile", tuple(profiles)
    yield "readiness", tuple(clean(one.version, 40) for one in assessments)
    yield "begun", tuple(clean(one.started, 40) for one in assessments)
    yield "took", tuple(rendering.duration(one.seconds) for one in assessments)
    yield "seed", tuple(str(one.seed) for one in assessments)


# ------------------------------------------------------------------------------------------------ requirement by requirement

def _rows(machines: Sequence[Machine]) -> Iterator[Row]:
    tables = [_by_requirement(machine) for machine in machines]
    order: dict[str, None] = {}
    for table in tables:
        for requirement, _ in table:
            order.setdefault(requirement)
    rows: list[Row] = []
    for requirement in order:
        merged: dict[tuple[object, ...], Row] = {}
        for use in Use:
            found = [table.get((requirement, use)) for table in tables]
            first = next((finding for finding in found if finding is not None), None)
            if first is None:
                continue
            row = _row(requirement, use, first, found)
            key = (row.level, row.limit, *(repr(cell) for cell in row.cells))
            known = merged.get(key)
            merged[key] = row if known is None else replace(row, uses=(*known.uses, use))
        rows += merged.values()
    levels = list(Level)
    rows.sort(key=lambda row: (row.urgency, levels.index(row.level), row.check, row.requirement))
    yield from rows


def _by_requirement(machine: Machine) -> dict[tuple[str, Use], Finding]:
    found: dict[tuple[str, Use], Finding] = {}
    for item in machine.assessment.accelerators:
        for finding in item.findings:
            where = finding.requirement, finding.use
            known = found.get(where)
            if known is None or _severity(finding) < _severity(known):
                found[where] = finding
    return found


def _severity(finding: Finding) -> tuple[int, float]:
    return _URGENCY.index(rendering.kind(finding)), finding.earned


def _row(requirement: str, use: Use, first: Finding, found: Sequence[Finding | None]) -> Row:
    limits = {finding.limit for finding in found if finding is not None}
    cells = tuple(_cell(finding) for finding in found)
    measured = next((finding for finding in found if finding is not None and finding.unit), first)  # it names the unit
    differing = "differs: " + "; ".join(sorted(clean(one, 60) for one in limits))
    return Row(
        requirement=clean(requirement, 200), title=rendering.title(first), level=first.level, uses=(use,),
        limit=rendering.limit(measured) if len(limits) == 1 else differing, check=clean(first.check, 100), cells=cells,
        uniform=len({cell.kind for cell in cells}) == 1 and len(limits) == 1, same_limits=len(limits) == 1,
    )  # fmt: skip


_WORDS = {
    FindingKind.PASSED: "met", FindingKind.BLOCKER: "not met", FindingKind.LIMIT: "not met",
    FindingKind.INFORMATION: "not met", FindingKind.UNKNOWN: "unknown", FindingKind.WAIVED: "not met, waived",
    FindingKind.NOT_APPLICABLE: "not applicable",
}  # fmt: skip


def _cell(finding: Finding | None) -> Cell:
    if finding is None:
        return Cell(None, "not asked")
    of = rendering.kind(finding)
    text = _WORDS[of]
    if finding.value is not None:
        text += f": {rendering.figure(finding.value, finding.unit, beside=clean(finding.limit, 200))}"
    detail = "" if of is FindingKind.PASSED else rendering.measured(finding)
    return Cell(of, text, None if finding.value is None else number(finding.value), detail=detail)


def _lacks(machines: Sequence[Machine]) -> Iterator[Lack]:
    """Checks with evidence on some machines only."""
    by_machine = []
    for machine in machines:
        by_check: dict[str, str] = {}
        for item in machine.assessment.accelerators:
            for evidence in item.evidence:
                measured = evidence.status is Status.MEASURED
                words = "measured" if measured else f"{evidence.status}: {clean(evidence.reason or '', 200)}"
                if not measured or evidence.check not in by_check:
                    by_check[evidence.check] = words
        by_machine.append(by_check)
    for check in sorted({check for by_check in by_machine for check in by_check}):
        statements = tuple(by_check.get(check, "not run") for by_check in by_machine)
        if "measured" in statements and any(one != "measured" for one in statements):
            yield Lack(clean(check, 100), statements)


# ----------------------------------------------------------------------------------------------------------------- values


def _values(machines: Sequence[Machine], directions: Directions) -> Iterator[ValueRow]:
    """Speeds, of each machine that of its slowest accelerator, with the ratio to the first machine that has it."""
    odd = set(_odd_settings(machines))
    slowest: list[dict[Key, float]] = []
    units: dict[Key, str] = {}
    for machine in machines:
        found: dict[Key, float] = {}
        for item in machine.assessment.accelerators:
            for evidence, key, measurement in figures(item):
                better, value = directions.get(key[:2]), number(measurement.value)
                if better is None or value is None or evidence.check in odd:
                    continue
                if kind(measurement.name, measurement.unit, better) is Kind.PERFORMANCE:
                    worse = min if better is Better.HIGHER else max
                    found[key] = value if key not in found else worse(found[key], value)
                    units.setdefault(key, measurement.unit or "")
        slowest.append(found)
    for key, unit in sorted(units.items()):
        values = [found.get(key) for found in slowest]
        if sum(value is not None for value in values) < 2:
            continue
        first = next(value for value in values if value is not None)
        better = directions[key[:2]]
        assert better is not None
        cells = tuple(
            Cell(None, "not measured") if value is None else
            Cell(None, rendering.figure(value, unit), value, number(value / first) if first else None)
            for value in values
        )  # fmt: skip
        labels = ", ".join(f"{name}={text}" for name, text in key[2])
        yield ValueRow(clean(f"{key[0]} {key[1]}" + (f" ({labels})" if labels else ""), 300), clean(unit, 40), better, cells)
