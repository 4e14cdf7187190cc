"""Findings in words, sorted by what they mean to the reader."""

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
    """`Matrix products are right in bfloat16`: what holds where it is met; empty in documents of early versions."""
    return clean(finding.title, _LONGEST_TITLE)


def limit(finding: Finding) -> str:
    """A limit for people: `at most 0.01 GB/s`."""
    text = clean(finding.limit, 200)
    for operator in ("at_least", "at_most"):
        text = text.replace(operator, operator.replace("_", " "))
    return text if finding.unit in (None, "", "1") else f"{text} {clean(finding.unit, 40)}"


def labels(finding_labels: Mapping[str, str]) -> str:
    """Labels for people: `dtype=bfloat16, op=softmax`; empty where there are none."""
    return clean(", ".join(f"{key}={value}" for key, value in sorted(finding_labels.items())), 300)


def reading(finding: Finding, value: str | None = None) -> str:
    """The figure against its limit and where; or, without one, what is wanted. `value` stands in for the finding's own."""
    what = clean(finding.measure or "value", 100)
    where = f" ({labels(finding.labels)})" if finding.labels else ""
    if finding.value is None:
        return f"required: {what} {limit(finding)}{where}"
    return f"{what} is {value or figure_of(finding)}, limit {limit(finding)}{where}"


def figure_of(finding: Finding) -> str:
    """The measured value with its unit, told apart from the limit that it misses."""
    return figure(finding.value, finding.unit, beside=clean(finding.limit, 200))


def reason(finding: Finding) -> str:
    """In words: what failed (operator, dtype, layout, rank, chip), or why it could not be told; empty where nobody said."""
    return clean(finding.reason or "", LONGEST_REASON)


def measured(finding: Finding) -> str:
    """On one line: what was measured, against which limit and where, and in words what it is about; or why nothing was."""
    parts = [reading(finding), reason(finding)]
    return "; ".join(part for part in (parts if finding.value is not None else reversed(parts)) if part)


class Kind(StrEnum):
    """What a finding means to the reader, most urgent first."""

    BLOCKER = "blocker"                # a must that failed
    LIMIT = "limit"                    # a should that failed
    UNKNOWN = "unknown"                # it could not be told
    WAIVED = "waived"                  # it failed, and somebody decided to live with it
    INFORMATION = "information"        # it failed and decides nothing
    NOT_APPLICABLE = "not applicable"
    PASSED = "passed"


_OF_LEVEL = {Level.MUST: Kind.BLOCKER, Level.SHOULD: Kind.LIMIT, Level.INFO: Kind.INFORMATION}


def kind(finding: Finding) -> Kind:
    """What this finding means to the reader."""
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
    """One finding with all the uses that it is said of in the same words."""

    finding: Finding
    uses: tuple[Use, ...]

    @property
    def uses_text(self) -> str:
        """`training, inference`."""
        return ", ".join(self.uses)


def told(item: AcceleratorAssessment) -> dict[Kind, list[FindingGroup]]:
    """The findings of one accelerator by what they mean; those common to both uses once. Musts and heavy ones first."""
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
