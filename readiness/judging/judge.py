"""Evidence and a profile in, findings, verdicts and scores out. Pure: no clock, no files, no hardware, no order.

The laws it keeps (tests/unit/judging/test_judge.py proves them):

- every requirement yields exactly one finding for each use it speaks of;
- what was not measured is unknown and stays in the denominator: no evidence never passes;
- a value that misses its bound by no more than its spread is unknown: another run might satisfy it;
- musts alone decide: any failed, `not ready`; else any unknown, `undetermined`; else `ready`. `ready` stands above the
  other two, which both say "do not use it": taking evidence away never leads up to `ready`;
- score: weight proven / weight of all that applies; ceiling: the same with the unknown counted as proven.

A check whose process died of what it did or never ended, on a device that healthy devices' limits were made for, has
shown something: what it was to measure there has failed. A check that raised, was skipped, or was ended from outside or for
want of something of the host's has shown nothing: unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from readiness.datamodel import (
    AcceleratorAssessment,
    AcceleratorFacts,
    Action,
    Assessment,
    Decision,
    Evidence,
    Finding,
    Joined,
    Level,
    Limit,
    Measurement,
    Number,
    Operator,
    Outcome,
    Profile,
    Remedy,
    Requirement,
    Status,
    Use,
    Verdict,
    Waiver,
)
from readiness.errors import Exit
from readiness.judging.failure_reason import failure_reason, labels_there
from readiness.judging.measurement_values import as_float, is_comparable
from readiness.judging.verdict import decide
from readiness.missing_evidence import Cause, SkipCause, StopCause


def judge(
    profile: Profile,
    facts: AcceleratorFacts,
    evidence: Iterable[Evidence],
    *,
    uses: Sequence[Use] | None = None,
    waivers: Sequence[Waiver] = (),
    today: str = "",
    chips: int = 1,
    by_spread: bool = True,
) -> AcceleratorAssessment:
    """Judge one accelerator; `chips` of its stack are under test.

    `today` (ISO 8601) decides which waivers still hold; it is data, not the clock's word. Without `by_spread` a value that
    misses its bound has failed, however far another run may differ: so judged early versions.
    """
    kept = tuple(sorted(evidence, key=lambda item: item.check))
    by_check = {item.check: item for item in kept}
    requested = _requested_uses(profile, uses)
    ordered = sorted(profile.requirements, key=lambda requirement: requirement.id)
    found = {  # the same for each use
        requirement.id: _find(requirement, requested[0], facts, by_check.get(requirement.check), chips, by_spread)
        for requirement in ordered
        if any(use in requirement.uses for use in requested)
    }
    findings = tuple(
        _waive(replace(found[requirement.id], use=use), facts, waivers, today)
        for use in requested
        for requirement in ordered
        if use in requirement.uses
    )
    assert len(findings) == declared(profile, uses), "declared and emitted findings differ"
    verdicts = {use: decide([finding for finding in findings if finding.use is use]) for use in requested}
    return AcceleratorAssessment(facts=facts, evidence=kept, findings=findings, verdicts=verdicts)


def declared(profile: Profile, uses: Sequence[Use] | None = None) -> int:
    """Return the number of findings that a profile declares for each accelerator."""
    return sum(use in requirement.uses for requirement in profile.requirements for use in _requested_uses(profile, uses))


def _requested_uses(profile: Profile, uses: Sequence[Use] | None) -> list[Use]:
    return [use for use in profile.uses if uses is None or use in uses]


def satisfies(value: Number, limit: Limit) -> bool:
    """Return whether a value satisfies a limit. NaN and infinity never do; a boolean is not a number."""
    if not is_comparable(value, limit) or not math.isfinite(as_float(value)):
        return False
    match limit.operator:
        case Operator.AT_LEAST:
            return value >= limit.bound
        case Operator.AT_MOST:
            return value <= limit.bound
        case Operator.EQUALS:
            return value == limit.bound
        case Operator.BETWEEN:
            assert limit.high is not None
            return limit.bound <= value <= limit.high


def within_spread(measurement: Measurement, limit: Limit) -> bool:
    """Return whether a value misses a limit by no more than another run may differ: it is not known to fail."""
    value, spread = as_float(measurement.value), measurement.spread or 0.0
    if isinstance(limit.bound, bool) or not math.isfinite(value) or not spread > 0:
        return False
    match limit.operator:
        case Operator.AT_LEAST:
            return limit.bound - spread <= value < limit.bound
        case Operator.AT_MOST:
            return limit.bound < value <= limit.bound + spread
        case Operator.EQUALS:
            return False
        case Operator.BETWEEN:
            assert limit.high is not None
            return limit.bound - spread <= value < limit.bound or limit.high < value <= limit.high + spread


def credit(value: Number, limit: Limit) -> float:
    """The share of the points that a value earns, 0 to 1: linear between `zero` and the bound where there is a `zero`."""
    if satisfies(value, limit):
        return 1.0
    number = as_float(value)
    if limit.zero is None or not is_comparable(value, limit) or not math.isfinite(number):
        return 0.0
    span = limit.bound - limit.zero
    share = (number - limit.zero) / span if math.isfinite(span) else 0.0
    return min(max(share, 0.0), 1.0)


def matches(measurement: Measurement, requirement: Requirement) -> bool:
    """Return whether a requirement is about this measurement."""
    return measurement.name == requirement.measure and _fits(measurement, requirement)


def _fits(measurement: Measurement, requirement: Requirement) -> bool:
    return all(measurement.labels.get(key) == wanted for key, wanted in requirement.where.items())


def count_of_stack(accelerators: Iterable[AcceleratorFacts | Joined], one: AcceleratorFacts) -> int:
    """Return the number of accelerators with the same stack as one of them."""
    return sum(facts.stack == one.stack for facts in accelerators)


def applies(requirement: Requirement, facts: AcceleratorFacts, chips: int = 1) -> bool:
    """Return whether a requirement applies to an accelerator of this stack with so many under test."""
    if chips < requirement.least_chips:
        return False
    if requirement.only_on and not any(fnmatchcase(facts.stack, glob) for glob in requirement.only_on):
        return False
    return not any(fnmatchcase(facts.stack, glob) for glob in requirement.not_on)


def level(requirement: Requirement, chips: int = 1) -> Level:
    """The level of a requirement where so many accelerators of the stack are under test."""
    return requirement.level_of_several or requirement.level if chips > 1 else requirement.level


def _find(
    requirement: Requirement, use: Use, facts: AcceleratorFacts, evidence: Evidence | None, chips: int, by_spread: bool
) -> Finding:
    def finding(
        outcome: Outcome, reason: str | None, worst: Measurement | None = None, earned: float = 0.0
    ) -> Finding:
        return Finding(
            requirement=requirement.id,
            use=use,
            level=level(requirement, chips),
            outcome=outcome,
            limit=str(requirement.limit),
            weight=requirement.weight,
            check=requirement.check,
            measure=requirement.measure,
            labels=dict(worst.labels if worst is not None else requirement.where),
            value=None if worst is None else worst.value,
            unit=None if worst is None else worst.unit,
            earned=earned,
            reason=reason,
            why=requirement.why,
            title=requirement.title,
            source=requirement.source,
            remedy=_remedy(requirement, outcome, evidence),
        )

    if chips < requirement.least_chips:
        return finding(Outcome.NOT_APPLICABLE, f"it applies to {requirement.least_chips} or more chips")
    if not applies(requirement, facts, chips):
        return finding(Outcome.NOT_APPLICABLE, f"it does not apply to the {facts.stack} stack")
    if evidence is None:
        return finding(Outcome.UNKNOWN, f"{requirement.check} was not run")
    meant = [item for item in evidence.measurements if matches(item, requirement)]
    comparable = [item for item in meant if is_comparable(item.value, requirement.limit)]
    failed = [item for item in comparable if not satisfies(item.value, requirement.limit)]
    clear = [item for item in failed if not (by_spread and within_spread(item, requirement.limit))]
    worst = _worst(clear or comparable, requirement.limit)
    if clear and worst is not None:
        # Points for a part are earned by what is known: a further failure never makes them more.
        known = evidence.status is Status.MEASURED and len(clear) == len(failed)
        return finding(
            Outcome.FAIL, failure_reason(worst, clear), worst, credit(worst.value, requirement.limit) if known else 0.0
        )
    match evidence.status:
        case Status.CRASHED | Status.TIMEOUT:
            return finding(Outcome.FAIL, f"{requirement.check} did not finish: {evidence.reason}")
        case Status.ERROR | Status.SKIPPED:
            return finding(Outcome.UNKNOWN, f"{requirement.check}: {evidence.reason}")
        case Status.MEASURED:
            if len(comparable) < len(meant):
                kinds = ("a number", "a boolean") if isinstance(requirement.limit.bound, bool) else ("a boolean", "a number")
                return finding(Outcome.UNKNOWN, f"{requirement.check} yielded {kinds[0]}, but the bound is {kinds[1]}")
            if worst is None:
                return finding(Outcome.UNKNOWN, _absence(requirement, evidence))
            if failed:
                return finding(Outcome.UNKNOWN, _doubt(worst))
            return finding(Outcome.PASS, None, worst, 1.0)


def _remedy(requirement: Requirement, outcome: Outcome, evidence: Evidence | None) -> Remedy | None:
    """Return the remedy: the profile's for a failure; for an unknown result, how to measure it."""
    if outcome is Outcome.FAIL:
        return requirement.remedy
    if outcome is not Outcome.UNKNOWN:
        return None
    if evidence is None or evidence.attempts == 0:
        # A check that did not run has no meaningful labels: its requirements share one remedy in a report.
        cause = None if evidence is None else evidence.cause
        return Remedy(_REMEDIES.get(cause, f"Run {requirement.check}."), Action.GATHER_EVIDENCE)
    if evidence.status is Status.MEASURED:
        there = any(_fits(measurement, requirement) for measurement in evidence.measurements)
        where = f" on a system with {_labels(requirement)}" if requirement.where and not there else " again" if there else ""
        return Remedy(f"Run {requirement.check}{where}.", Action.GATHER_EVIDENCE)
    if evidence.status is Status.ERROR:
        return Remedy("Read its log in the JSON assessment, fix the cause, and run it again with -k.", Action.RETRY)
    return Remedy("Provide what is missing, or accept that this stays unknown.", Action.GATHER_EVIDENCE)


#: What settles a requirement whose check did not run, where running it again as before would not.
_REMEDIES: dict[Cause | None, str] = {
    SkipCause.WITHIN: "Give the run more time: a longer --within, or none.",
    StopCause.TIME_UP: "Give the run more time: a longer --within, or none.",
    SkipCause.SOAK: "Run again with --soak TIME.",
    SkipCause.UNUSABLE: "Mend what the reason names, so that the device can be used, and run again.",
}


def _doubt(worst: Measurement) -> str:
    about = f"{worst.about}: " if worst.about else ""
    return f"{about}{as_float(worst.value):.4g} misses the bound by no more than another run may differ, {worst.spread:.2g}"


def _absence(requirement: Requirement, evidence: Evidence) -> str:
    if not any(_fits(measurement, requirement) for measurement in evidence.measurements):
        return f"{requirement.check} measured nothing for {_labels(requirement)}{labels_there(requirement, evidence)}"
    where = f" for {_labels(requirement)}" if requirement.where else ""
    return f"{requirement.check} yielded no {requirement.measure}{where}"


def _labels(requirement: Requirement) -> str:
    return ", ".join(f"{key}={value}" for key, value in requirement.where.items())


def _worst(measurements: Sequence[Measurement], limit: Limit) -> Measurement | None:
    """The measurement that is furthest from the limit; ties are broken by its text, never by order."""

    def severity(measurement: Measurement) -> tuple[bool, float, float, str]:
        value = measurement.value
        number = as_float(value)
        text = f"{sorted(measurement.labels.items())} {value!r} {measurement.unit} {measurement.about}"
        if math.isnan(number):
            return True, 1.0, math.inf, text
        match limit.operator:
            case Operator.AT_LEAST:
                distance = -number
            case Operator.AT_MOST:
                distance = number
            case Operator.EQUALS:
                distance = abs(number - float(limit.bound))
            case Operator.BETWEEN:
                assert limit.high is not None
                distance = max(float(limit.bound) - number, number - limit.high)
        return not satisfies(value, limit), -credit(value, limit), distance, text

    return max(measurements, key=severity, default=None)


def _waive(finding: Finding, facts: AcceleratorFacts, waivers: Sequence[Waiver], today: str) -> Finding:
    # Only a failure can be waived: it is known what one decides to live with. The unknown is not.
    if finding.outcome is not Outcome.FAIL:
        return finding
    meant = [
        waiver
        for waiver in waivers
        if waiver.requirement == finding.requirement and fnmatchcase(facts.id, waiver.accelerator)
    ]
    if not meant:
        return finding
    latest = max(meant, key=lambda waiver: (waiver.until, waiver.by, waiver.reason))
    if today > latest.until:
        return replace(finding, expired_waiver=latest)
    return replace(finding, waived=latest, earned=0.0)  # not even in part: nobody is to be paid for deciding


def worst_decision(assessments: Iterable[AcceleratorAssessment], fail_on: Level | None = Level.MUST) -> Decision:
    """The decision over all accelerators and uses: not ready before undetermined before ready.

    With `fail_on` should, a failed should counts as not ready; with None only what is asked of the caller remains: ready.
    """
    if fail_on is None:
        return Decision.READY
    verdicts: list[Verdict] = [verdict for item in assessments for verdict in item.verdicts.values()]
    if any(
        verdict.decision is Decision.NOT_READY or (fail_on is Level.SHOULD and verdict.limits) for verdict in verdicts
    ):
        return Decision.NOT_READY
    if not verdicts or any(verdict.decision is Decision.UNDETERMINED for verdict in verdicts):
        return Decision.UNDETERMINED
    return Decision.READY


def exit_code(assessment: Assessment, fail_on: Level | None = Level.MUST) -> Exit:
    """Return the exit code of `run` and `judge`: that of the worst decision, or that of an interruption."""
    if assessment.interrupted:
        return Exit.INTERRUPTED
    return {
        Decision.READY: Exit.READY, Decision.NOT_READY: Exit.NOT_READY, Decision.UNDETERMINED: Exit.UNDETERMINED,
    }[worst_decision(assessment.accelerators, fail_on)]  # fmt: skip

