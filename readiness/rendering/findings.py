"""Findings as text, sorted by urgency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from readiness.datamodel import AcceleratorAssessment, Finding, Level, Outcome, Use
from readiness.rendering.text import clean, figure

_LONGEST_TITLE = 200
#: Words of a finding beyond this are cut: who needs all of them finds them in the JSON assessment.
LONGEST_REASON = 600


def title(finding: Finding) -> str:
    """Return the title: `Matrix products are right in bfloat16`; empty in documents of early versions."""
    return clean(finding.title, _LONGEST_TITLE)


def limit(finding: Finding) -> str:
    """Return a limit as text: `at most 0.01 GB/s`."""
    text = clean(finding.limit, 200)
    for operator in ("at_least", "at_most"):
        text = text.replace(operator, operator.replace("_", " "))
    return text if finding.unit in (None, "", "1") else f"{text} {clean(finding.unit, 40)}"


def labels(finding_labels: Mapping[str, str]) -> str:
    """Return labels as text: `dtype=bfloat16, op=softmax`; empty where there are none."""
    return clean(", ".join(f"{key}={value}" for key, value in sorted(finding_labels.items())), 300)


def reading(finding: Finding, value: str | None = None) -> str:
    """Return the figure with its limit and labels; without a figure, the requirement. `value` replaces the finding's own."""
    what = clean(finding.measure or "value", 100)
    where = f" ({labels(finding.labels)})" if finding.labels else ""
    if finding.value is None:
        return f"required: {what} {limit(finding)}{where}"
    return f"{what} is {value or figure_of(finding)}, bound {limit(finding)}{where}"


def figure_of(finding: Finding) -> str:
    """Return the measured value with its unit, with enough digits to differ from the limit."""
    return figure(finding.value, finding.unit, beside=clean(finding.limit, 200))


def reason(finding: Finding) -> str:
    """Return what failed (operator, dtype, layout, rank, chip), or why it is unknown; empty without a reason."""
    return clean(finding.reason or "", LONGEST_REASON)


def measured(finding: Finding) -> str:
    """Return one line: the measured value, limit, labels and subject; or why nothing was measured."""
    parts = [reading(finding), reason(finding)]
    return "; ".join(part for part in (parts if finding.value is not None else reversed(parts)) if part)


class Kind(StrEnum):
    """Kind of a finding for the reader, most urgent first."""

    BLOCKER = "blocker"                # a must that failed
    LIMIT = "limit"                    # a should that failed
    UNKNOWN = "unknown"                # it could not be told
    WAIVED = "waived"                  # it failed, and somebody decided to live with it
    INFORMATION = "information"        # it failed and decides nothing
    NOT_APPLICABLE = "not applicable"
    PASSED = "passed"


_OF_LEVEL = {Level.MUST: Kind.BLOCKER, Level.SHOULD: Kind.LIMIT, Level.INFO: Kind.INFORMATION}


def kind(finding: Finding) -> Kind:
    """Return the kind of a finding."""
    match finding.outcome:
        case Outcome.PASS:
            return Kind.PASSED
        case Outcome.NOT_APPLICABLE:
            return Kind.NOT_APPLICABLE
        case Outcome.UNKNOWN:
            return Kind.UNKNOWN
        case Outcome.FAIL if finding.waived is not None:
            return Kind.WAIVED
        case Outcome.FAIL:
            return _OF_LEVEL[finding.level]


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """One finding with all the uses that share it."""

    finding: Finding
    uses: tuple[Use, ...]

    @property
    def uses_text(self) -> str:
        """`training, inference`."""
        return ", ".join(self.uses)


def group_by_kind(item: AcceleratorAssessment) -> dict[Kind, list[FindingGroup]]:
    """Group the findings of one accelerator by kind; those common to both uses once. Musts and large weights first."""
    merged: dict[tuple[object, ...], tuple[Finding, list[Use]]] = {}
    for finding in item.findings:
        # repr: NaN must equal NaN here.
        key = (
            finding.requirement, kind(finding), finding.level, repr(finding.value), finding.limit,
            repr(sorted(finding.labels.items())), finding.reason, repr(finding.remedy),
            repr(finding.waived), repr(finding.expired_waiver),
        )  # fmt: skip
        merged.setdefault(key, (finding, []))[1].append(finding.use)
    order = list(Level)
    entries = [FindingGroup(finding, tuple(use for use in Use if use in uses)) for finding, uses in merged.values()]
    entries.sort(key=lambda entry: (order.index(entry.finding.level), -entry.finding.weight, entry.finding.requirement))
    return {name: [entry for entry in entries if kind(entry.finding) is name] for name in Kind}
