"""Results for pipelines: suites of results, each failed or not. All formats for pipelines show the same ones.

Results fail exactly where the exit code is not 0: for failed musts, with `fail_on` should for failed shoulds. An
unknown must is an error, so that it looks fine nowhere. Other failures and unknowns, and what is waived or not applicable,
are skipped, with the reason. With `fail_on` None nothing is red but a run that was interrupted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from readiness.datamodel import AcceleratorAssessment, Assessment, Decision, Finding, Level, Use, Verdict
from readiness.judging.judge import worst_decision
from readiness.rendering.accelerators import failed_stacks, simulated
from readiness.rendering.device_groups import together
from readiness.rendering.findings import Kind, kind, measured, title
from readiness.rendering.text import clean
from readiness.rendering.verdicts import outcome_counts

_PLACE = re.compile(r"(?P<shipped>shipped:)?(?P<file>.+):(?P<line>[0-9]{1,9})")


class Status(StrEnum):
    """Status of a result in a pipeline. Failures and errors are red."""

    PASSED = "passed"
    FAILURE = "failure"
    ERROR = "error"      # nothing is known of what must hold
    SKIPPED = "skipped"

    @property
    def red(self) -> bool:
        """True if a pipeline must stop at it."""
        return self in (Status.FAILURE, Status.ERROR)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a suite. `type` is a level, or a word for what is no failure; `seconds` its share of its check's time.

    `finding` is None where it is about the run, an accelerator or a stack as a whole.
    """

    name: str
    status: Status
    type: str
    message: str
    kind: Kind | None = None
    finding: Finding | None = None
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """Results of one accelerator for one use, or notes about the whole run."""

    name: str
    results: tuple[Result, ...]
    item: AcceleratorAssessment | None = None
    use: Use | None = None

    @property
    def id(self) -> str:
        """The accelerator as people write it, or what the suite is about."""
        return self.name if self.item is None else clean(self.item.facts.id, 100)


@dataclass(frozen=True, slots=True)
class Place:
    """Place where a requirement is declared. A shipped file lies in no folder of the user's."""

    file: str
    line: int
    shipped: bool


def place(assessment: Assessment, requirement: str) -> Place | None:
    """Return the place where a requirement is declared; None if the assessment does not have it."""
    basis = assessment.basis
    match = _PLACE.fullmatch(clean(basis.places.get(requirement, ""), 5000)) if basis is not None else None
    if match is None:
        return None
    return Place(match["file"], max(int(match["line"]), 1), match["shipped"] is not None)


def suites(assessment: Assessment, fail_on: Level | None = Level.MUST) -> Iterator[Suite]:
    """Return all suites: of the run, of each accelerator and use, of stacks that could not be read."""
    if assessment.interrupted:
        yield _alone("readiness", "interrupted: what was not measured is unknown", red=True)
    for item in assessment.accelerators:
        # The time of a check is shared among all findings that rest on it, so that the sum over a suite is right.
        shares = Counter(finding.check for finding in item.findings)
        seconds = {entry.check: entry.seconds / (shares[entry.check] or 1) for entry in item.evidence}
        for use in Use:
            if use in item.verdicts or any(finding.use is use for finding in item.findings):
                yield _suite(item, use, fail_on, seconds)
        if not item.verdicts and not item.findings:
            yield _alone(item.facts.id, "undetermined: no verdict was reached", red=fail_on is not None, item=item)
    if not assessment.accelerators:
        yield _alone("readiness", "undetermined: no accelerator was assessed", red=fail_on is not None)
    for stack, reason in failed_stacks(assessment).items():
        # Only skipped: the document does not record whether they were requested, and the exit code does not count them.
        message = f"its accelerators could not be listed: {reason}"
        yield Suite(stack, (Result("discovery", Status.SKIPPED, "unknown", message),))


def _alone(name: str, message: str, *, red: bool, item: AcceleratorAssessment | None = None) -> Suite:
    return Suite(clean(name, 100), (_verdict(message, red=red),), item)


def _verdict(message: str, *, red: bool) -> Result:
    return Result("verdict", Status.ERROR if red else Status.SKIPPED, "verdict", message)


def _suite(item: AcceleratorAssessment, use: Use, fail_on: Level | None, seconds: dict[str, float]) -> Suite:
    id = clean(item.facts.id, 100)
    name = f"{id} (simulated) {use}" if simulated(item.facts) else f"{id} {use}"
    results = [
        _result(finding, item, fail_on, seconds.get(finding.check, 0.0)) for finding in item.findings if finding.use is use
    ]
    verdict = item.verdicts.get(use)
    alone = replace(item, verdicts={} if verdict is None else {use: verdict})
    if not any(result.status.red for result in results) and worst_decision([alone], fail_on) is not Decision.READY:
        # Without a must that failed or is open, e.g. without any finding: the verdict must not hide behind green results.
        results.append(_verdict(_words(verdict), red=True))
    return Suite(name, tuple(results), item, use)


def _words(verdict: Verdict | None) -> str:
    return "no verdict: nothing was judged" if verdict is None else f"{verdict.decision.value}: {outcome_counts(verdict)}"


def _result(finding: Finding, item: AcceleratorAssessment, fail_on: Level | None, seconds: float) -> Result:
    value_text = measured(finding)
    message = f"{title(finding)}: {value_text}" if title(finding) else value_text
    of = kind(finding)
    status, type_ = Status.SKIPPED, of.value.replace(" ", "_")
    failing = {Level.MUST: (Kind.BLOCKER,), Level.SHOULD: (Kind.BLOCKER, Kind.LIMIT), None: ()}
    match of:
        case Kind.PASSED:
            status = Status.PASSED
        case Kind.BLOCKER | Kind.LIMIT:
            type_ = finding.level.value
            if of in failing[fail_on]:
                status = Status.FAILURE
            else:
                message = f"{of}: {message}"
        case Kind.UNKNOWN:
            message = f"unknown: {message}"
            if finding.level is Level.MUST and fail_on is not None:
                status = Status.ERROR
        case Kind.WAIVED:
            assert finding.waived is not None
            by = f"waived by {finding.waived.by} until {finding.waived.until}: {finding.waived.reason}"
            message = f"{clean(by)}; {message}"
        case Kind.INFORMATION:
            message = f"for information: {message}"
        case Kind.NOT_APPLICABLE:
            message = f"not applicable: {clean(finding.reason or '')}"
    return Result(
        clean(finding.requirement, 200), status, type_, message, of, finding, seconds, "\n".join(_detail(finding, item))
    )


def _detail(finding: Finding, item: AcceleratorAssessment) -> Iterator[str]:
    yield measured(finding)
    on = f"on: {clean(item.facts.id, 100)}"
    others = together(item, finding)
    yield f"{on}, measured together on {others}" if others else on
    if finding.why:
        yield f"why: {clean(finding.why)}"
    if finding.expired_waiver is not None:
        waiver = finding.expired_waiver
        yield clean(f"waiver expired: by {waiver.by} until {waiver.until}: {waiver.reason}")
    if finding.remedy is not None:
        yield f"do: {clean(finding.remedy.text)} ({finding.remedy.action})"
