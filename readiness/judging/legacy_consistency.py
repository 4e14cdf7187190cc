"""Consistency of findings of early versions, whose files lack the profile's demands: compared with their limits and the
evidence.

Nobody can tell from such a file by which labels a requirement chose, where partial credit begins, or how a limit goes on
after its sixth digit: what may be right passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from readiness.datamodel import (
    AcceleratorAssessment,
    Evidence,
    Finding,
    Limit,
    Measurement,
    Number,
    Operator,
    Outcome,
    Status,
)
from readiness.judging.judge import satisfies

_NUMBER = r"-?[0-9]+(?:[.][0-9]+)?(?:e[+-]?[0-9]+)?"
_LIMIT = re.compile(rf"(at_least|at_most|equals) ({_NUMBER}|true|false)|between ({_NUMBER}) and ({_NUMBER})")
#: A limit is written with six digits: by so much of it may it have been another one.
_ROUNDED = 5e-6


def differing_judgements(items: Sequence[AcceleratorAssessment]) -> Iterator[tuple[str, str]]:
    """Return a place where findings of one requirement differ in level or limit, or are missing on an accelerator."""
    stated: dict[str, tuple[object, ...]] = {}
    expected: set[tuple[str, str]] | None = None
    for number, item in enumerate(items):
        for place, finding in enumerate(item.findings):
            how = (finding.level, finding.weight, finding.limit, finding.check, finding.measure)
            if stated.setdefault(finding.requirement, how) != how:
                what = f"{finding.requirement} for {finding.use} has another level, weight or bound on another accelerator"
                yield f"accelerators[{number}].findings[{place}]", f"{item.facts.id}: {what}"
        keys = {(finding.requirement, finding.use.value) for finding in item.findings}
        expected = keys if expected is None else expected
        if keys != expected:
            requirement, use = min(keys ^ expected)
            what = f"{requirement} for {use} has a finding on some accelerators, but not on all"
            yield f"accelerators[{number}].findings", f"{item.facts.id}: {what}"


def contradiction(finding: Finding, by_check: Mapping[str, Evidence]) -> str | None:
    """Return what in a finding contradicts its limit or the evidence; None if nothing does."""
    value, outcome = finding.value, finding.outcome
    if outcome in (Outcome.UNKNOWN, Outcome.NOT_APPLICABLE):
        return None if value is None and finding.earned == 0 else f"is {outcome}, but has a value or points"
    if outcome is Outcome.PASS and (value is None or finding.earned != 1):
        return "passed, but has no value or not all of its points"
    if outcome is Outcome.FAIL and not 0 <= finding.earned < 1:
        return f"failed, but has {finding.earned:g} points"
    if value is None:
        piece = by_check.get(finding.check)
        if finding.check and (piece is None or piece.status not in (Status.CRASHED, Status.TIMEOUT)):
            return f"failed without a value, although {finding.check} finished"
        return None
    limits = _limits(finding.limit)
    if not limits:
        return f"has a bound that cannot be read: {shown(finding.limit)}"
    if not any(satisfies(value, limit) is (outcome is Outcome.PASS) for limit in limits):
        return f"is {outcome}, but its value is {shown(value)} and its bound {finding.limit}"
    return _value_from_evidence(finding, value, by_check, limits)


def _value_from_evidence(
    finding: Finding, value: Number, by_check: Mapping[str, Evidence], limits: Sequence[Limit]
) -> str | None:
    pieces = [piece for check, piece in by_check.items() if finding.check in ("", check)]
    if finding.outcome is Outcome.PASS:
        pieces = [piece for piece in pieces if piece.status is Status.MEASURED]
    candidates = [item for piece in pieces for item in piece.measurements if _may_be_of(item, finding)]
    if not any(repr(item.value) == repr(value) for item in candidates):
        return f"has the value {shown(value)}, which is in no evidence"
    if finding.outcome is Outcome.PASS and finding.measure:
        same_labels = [item for item in candidates if dict(item.labels) == dict(finding.labels)]
        worse = next((item for item in same_labels if not any(satisfies(item.value, limit) for limit in limits)), None)
        if worse is not None:
            return f"passed, but its evidence has {shown(worse.value)}, and the bound is {finding.limit}"
    return None


def _may_be_of(item: Measurement, finding: Finding) -> bool:
    """Return whether a finding may be about a measurement: early versions omit its name, unit and labels."""
    return (
        finding.measure in ("", item.name)
        and finding.unit in (None, item.unit)
        and (not finding.labels or dict(item.labels) == dict(finding.labels))
    )


def _limits(text: str) -> tuple[Limit, ...]:
    """The tightest and the widest limit that are written like this."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        return ()
    if match[2] in ("true", "false"):
        return (Limit(Operator(match[1]), match[2] == "true"),)
    operator = Operator(match[1] or "between")
    bounds = [float(number) for number in (match[2], match[3], match[4]) if number]
    if operator is Operator.EQUALS:
        slack = abs(bounds[0]) * _ROUNDED
        return Limit(operator, bounds[0]), Limit(Operator.BETWEEN, bounds[0] - slack, high=bounds[0] + slack)
    sides = [[bound - abs(bound) * _ROUNDED, bound + abs(bound) * _ROUNDED] for bound in bounds]
    if operator is Operator.BETWEEN:
        (low, higher), (lower, high) = sides
        return Limit(operator, higher, high=lower), Limit(operator, low, high=high)
    return tuple(Limit(operator, side) for side in sides[0])


def shown(value: object) -> str:
    """Return a value as quoted in messages."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
