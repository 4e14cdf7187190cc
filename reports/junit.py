"""JUnit XML for CI viewers: a suite for each accelerator and use, a test case for each finding."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from readiness import rendering
from readiness.datamodel import AcceleratorAssessment, Assessment, Decision, Finding, Level, Use, Verdict
from readiness.judging.judge import worst_exit
from readiness.rendering import Kind

if TYPE_CHECKING:
    import junitparser
    from junitparser.junitparser import FinalResult

SUFFIX = ".xml"


def render(
    assessment: Assessment,
    *,
    colour: bool = False,  # noqa: ARG001
    fail_on: Level | None = Level.MUST,
) -> str:
    """Red exactly where the exit code is not 0: a failed must is a failure, and with `fail_on` should a failed should too.

    An unknown must is an error, so that it looks fine nowhere. Other failures and unknowns, and what is waived or not
    applicable, are skipped, with the reason. With `fail_on` None nothing is red but a run that was interrupted.
    """
    import junitparser

    document = junitparser.JUnitXml(name="readiness")
    if assessment.interrupted:
        _add(document, _suite_of_one("readiness", "interrupted: what was not measured is unknown", red=True))
    common = _of_the_run(assessment)
    for item in assessment.accelerators:
        for use in Use:
            if use in item.verdicts or any(finding.use is use for finding in item.findings):
                _add(document, _suite(assessment, common, item, use, fail_on))
        if not item.verdicts and not item.findings:
            said = "undetermined: no verdict was reached"
            _add(document, _suite_of_one(item.facts.id, said, red=fail_on is not None))
    if not assessment.accelerators:
        said = "undetermined: no accelerator was assessed"
        _add(document, _suite_of_one("readiness", said, red=fail_on is not None))
    for stack, reason in rendering.failed_stacks(assessment).items():
        # Only skipped: the document does not tell whether they were asked for, and the exit code does not count them.
        suite = junitparser.TestSuite(stack)
        case = junitparser.TestCase("discovery", stack)
        case.result = [junitparser.Skipped(f"its accelerators could not be listed: {reason}", "unknown")]
        suite.add_testcases([case])
        _add(document, suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    text = document.tostring().decode("utf-8").rstrip()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suite(
    assessment: Assessment, common: dict[str, object], item: AcceleratorAssessment, use: Use, fail_on: Level | None
) -> junitparser.TestSuite:
    import junitparser

    id = rendering.clean(item.facts.id, 100)
    simulated = rendering.simulated(item.facts)
    suite = junitparser.TestSuite(f"{id} (simulated) {use}" if simulated else f"{id} {use}")
    suite.timestamp = rendering.clean(assessment.started, 40).removesuffix("Z")
    suite.hostname = rendering.clean(assessment.host.get("name") or assessment.host.get("hostname") or "", 100)
    verdict = item.verdicts.get(use)
    for name, value in (_properties(item, verdict) | common).items():
        suite.add_property(name, rendering.clean(value))
    # The time of a check is shared among all findings that rest on it, so that the sum over a suite is right.
    shares = Counter(finding.check for finding in item.findings)
    seconds = {entry.check: entry.seconds / (shares[entry.check] or 1) for entry in item.evidence}
    cases = []
    for finding in item.findings:
        if finding.use is use:
            check = rendering.clean(finding.check or "unknown", 100)
            case = junitparser.TestCase(rendering.clean(finding.requirement, 200), f"{id}.{use}.{check}")
            case.time = round(seconds.get(finding.check, 0.0), 3)
            case.result = _result(finding, item, fail_on)
            if case.is_passed:
                case.system_out = rendering.measured(finding)
            cases.append(case)
    looks_fine = not any(case.is_failure or case.is_error for case in cases)
    alone = replace(item, verdicts={} if verdict is None else {use: verdict})
    if looks_fine and worst_exit([alone], fail_on) is not Decision.READY:
        # Without a must that failed or is open, e.g. without any finding: the verdict must not hide behind green cases.
        decision = "no verdict" if verdict is None else verdict.decision.value
        said = f"{decision}: {rendering.tally(verdict) if verdict else 'nothing was judged'}"
        cases.append(_open_case(f"{id}.{use}", said, red=True))
    suite.add_testcases(cases)
    return suite


def _properties(item: AcceleratorAssessment, verdict: Verdict | None) -> dict[str, object]:
    answer: dict[str, object] = {}
    if verdict is not None:
        answer = {"verdict": verdict.decision.value, "score": verdict.score, "ceiling": verdict.ceiling}
    if (simulated := rendering.simulated(item.facts)) is not None:
        answer["simulated"] = simulated
    return answer | {
        "accelerator": item.facts.id,
        "device": rendering.device(item),
        "stack": rendering.software(item),
    }


def _of_the_run(assessment: Assessment) -> dict[str, object]:
    """Properties that all suites have in common."""
    rehearsal = {f"rehearsal_{name.replace(' ', '_')}": text for name, text in rendering.rehearsal(assessment).items()}
    return {
        "profile": assessment.profile_name,
        "profile_sha256": assessment.profile_sha256,
        "seed": assessment.seed,
        "interrupted": str(assessment.interrupted).lower(),
        **({"earlier": ", ".join(taken)} if (taken := rendering.earlier(assessment)) else {}),
        **rehearsal,
    }


def _result(finding: Finding, item: AcceleratorAssessment, fail_on: Level | None) -> list[FinalResult]:
    import junitparser

    title = rendering.title(finding)
    message = f"{title}: {rendering.measured(finding)}" if title else rendering.measured(finding)
    failing = {Level.MUST: (Kind.BLOCKER,), Level.SHOULD: (Kind.BLOCKER, Kind.LIMIT), None: ()}
    match rendering.kind(finding):
        case Kind.PASSED:
            return []
        case Kind.BLOCKER | Kind.LIMIT as kind if kind in failing[fail_on]:
            return [_with_text(junitparser.Failure(message, finding.level.value), finding, item)]
        case Kind.BLOCKER | Kind.LIMIT as kind:
            return [_with_text(junitparser.Skipped(f"{kind}: {message}", finding.level.value), finding, item)]
        case Kind.UNKNOWN if finding.level is Level.MUST and fail_on is not None:
            return [_with_text(junitparser.Error(f"unknown: {message}", "unknown"), finding, item)]
        case Kind.UNKNOWN:
            return [_with_text(junitparser.Skipped(f"unknown: {message}", "unknown"), finding, item)]
        case Kind.WAIVED:
            waiver = finding.waived
            assert waiver is not None
            by = f"waived by {waiver.by} until {waiver.until}: {waiver.reason}"
            return [_with_text(junitparser.Skipped(f"{rendering.clean(by)}; {message}", "waived"), finding, item)]
        case Kind.INFORMATION:
            return [_with_text(junitparser.Skipped(f"for information: {message}", "information"), finding, item)]
        case Kind.NOT_APPLICABLE:
            return [junitparser.Skipped(f"not applicable: {rendering.clean(finding.reason or '')}", "not_applicable")]


def _with_text(result: FinalResult, finding: Finding, item: AcceleratorAssessment) -> FinalResult:
    lines = [rendering.measured(finding), f"on: {rendering.clean(item.facts.id, 100)}"]
    if together := rendering.together(item, finding):
        lines[-1] += f", measured together on {together}"
    if finding.why:
        lines.append(f"why: {rendering.clean(finding.why)}")
    if finding.expired_waiver is not None:
        waiver = finding.expired_waiver
        lines.append(rendering.clean(f"waiver expired: by {waiver.by} until {waiver.until}: {waiver.reason}"))
    if finding.remedy is not None:
        lines.append(f"do: {rendering.clean(finding.remedy.text)} ({finding.remedy.action})")
    result.text = "\n".join(lines)
    return result


def _open_case(classname: str, message: str, *, red: bool) -> junitparser.TestCase:
    import junitparser

    case = junitparser.TestCase("verdict", classname)
    case.result = [(junitparser.Error if red else junitparser.Skipped)(message, "verdict")]
    return case


def _add(document: junitparser.JUnitXml, suite: junitparser.TestSuite) -> None:
    # Not `add_testsuite`, which looks for an equal suite among all there are: of thousands of accelerators that takes hours.
    document.append(suite)  # type: ignore[no-untyped-call]


def _suite_of_one(name: str, message: str, *, red: bool) -> junitparser.TestSuite:
    import junitparser

    name = rendering.clean(name, 100)
    suite = junitparser.TestSuite(name)
    suite.add_testcases([_open_case(name, message, red=red)])
    return suite
