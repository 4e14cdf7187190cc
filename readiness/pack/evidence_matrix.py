"""Requirement by requirement: what was required, what was measured, by which evidence. Of the page and of the workbook."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from readiness import rendering
from readiness.datamodel import AcceleratorAssessment, Finding, Limit, Measurement, Operator, Outcome
from readiness.judging import profile_demands
from readiness.pack.contents import Subject
from readiness.rendering import DeviceGroup, Kind, SharedFinding
from readiness.rendering.text import clean, figure


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One requirement on accelerators that fared alike. `ratio` is what was measured over the limit, where both are numbers.

    `value` is a number for a workbook, None where there is none or several. The evidence is that of `check` in the file
    `path` of the pack.
    """

    subject: str
    requirement: str
    title: str
    level: str
    uses: str
    accelerators: str
    required: str
    measured: str
    ratio: str
    spread: str
    outcome: Kind
    reason: str
    source: str
    check: str
    path: str
    value: float | None
    unit: str


def rows(subject: Subject, profile: Mapping[str, Any]) -> Iterator[MatrixRow]:
    """All requirements of one assessment in their order; accelerators of which one says the same share a row."""
    limits = limits_of(subject)
    requirements = profile["requirements"]
    found: dict[MatrixRow, list[str]] = {}
    for group in rendering.group_devices(subject.assessment):
        for kind, entries in group.entries.items():
            for entry in entries:
                row = _row(subject, group, kind, entry, limits, requirements.get(entry.finding.requirement, {}))
                found.setdefault(row, []).extend(entry.ids)
    order = {item.facts.id: place for place, item in enumerate(subject.assessment.accelerators)}
    for row, ids in sorted(found.items(), key=lambda pair: (pair[0].requirement, pair[0].uses, order[pair[1][0]])):
        yield replace(row, accelerators=rendering.names(sorted(set(ids), key=order.__getitem__)))


def _row(
    subject: Subject,
    group: DeviceGroup,
    kind: Kind,
    entry: SharedFinding,
    limits: Mapping[str, Limit],
    prose: Mapping[str, Any],
) -> MatrixRow:
    finding = entry.finding
    statements = entry.statements
    measured = "; ".join(
        f"{one.value}{f' ({one.applies_to})' if one.applies_to else ''}"
        for one in statements if one.finding.value is not None
    )
    findings = [one.finding for one in entry.per_device]
    return MatrixRow(
        subject=subject.name,
        requirement=finding.requirement,
        title=rendering.title(finding) or clean(prose.get("title", ""), 200),
        level=finding.level.value,
        uses=entry.uses_text,
        accelerators="",
        required=rendering.limit(finding),
        measured=measured,
        ratio=_ratios(findings, limits.get(finding.requirement)),
        spread=_spreads(group, findings),
        outcome=kind,
        reason="; ".join(
            f"{applies_to}: {text}" if applies_to else text for applies_to, text in entry.reasons
        ) if finding.outcome is not Outcome.PASS and any(one.reason for one in findings) else "",
        source=clean(prose.get("source", ""), 1000),
        check=clean(finding.check or "check unknown", 100),
        path=subject.path,
        value=_plain(finding.value) if len({repr(one.value) for one in findings}) == 1 else None,
        unit=clean(finding.unit or "", 40) if finding.unit != "1" else "",
    )


def limits_of(subject: Subject) -> dict[str, Limit]:
    """Return the limit of each requirement, with all its digits; empty if an early version did not record it."""
    basis = subject.assessment.basis
    if basis is None or not profile_demands.understood(basis.demands):
        return {}
    return {one.id: one.limit for one in profile_demands.requirements_of(basis.demands)}


def _ratios(findings: list[Finding], limit: Limit | None) -> str:
    found = [value for finding in findings if (value := ratio(finding, limit)) is not None]
    if not found:
        return ""
    low, high = f"{min(found):.3g}", f"{max(found):.3g}"
    return low if low == high else f"{low} to {high}"


def ratio(finding: Finding, limit: Limit | None) -> float | None:
    """Return the measured value over the limit: `at_least` is met from 1 on, `at_most` up to 1. None if meaningless.

    None where that means nothing.
    """
    value = _plain(finding.value)
    if limit is None or value is None or limit.operator not in (Operator.AT_LEAST, Operator.AT_MOST):
        return None
    bound = _plain(limit.bound)
    return None if not bound else value / bound


def _plain(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _spreads(group: DeviceGroup, findings: list[Finding]) -> str:
    """`0.1 over 5 repetitions`: how far repetitions within the run lay apart; empty where it was measured once."""
    found = []
    for item, finding in zip(group.items, findings, strict=True):
        measurement = decisive(item, finding)
        if measurement is not None and measurement.spread is not None:
            samples = f" over {measurement.samples}" if measurement.samples else ""
            found.append(f"{figure(measurement.spread)}{samples}")
    return ", ".join(dict.fromkeys(found[:4]))


def decisive(item: AcceleratorAssessment, finding: Finding) -> Measurement | None:
    """The measurement that a finding rests upon."""
    if finding.value is None:
        return None
    for evidence in item.evidence:
        if evidence.check == finding.check:
            for one in evidence.measurements:
                if one.name == finding.measure and one.labels == finding.labels and repr(one.value) == repr(finding.value):
                    return one
    return None
