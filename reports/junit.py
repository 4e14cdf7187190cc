"""JUnit XML for CI viewers: a suite for each accelerator and use, a test case for each finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from readiness import rendering
from readiness.datamodel import AcceleratorAssessment, Assessment, Level, Verdict
from readiness.rendering import ci_results
from readiness.rendering.ci_results import Result, Status, Suite
from readiness.rendering.findings import Kind

if TYPE_CHECKING:
    import junitparser

SUFFIX = ".xml"


def render(
    assessment: Assessment,
    *,
    colour: bool = False,  # noqa: ARG001
    fail_on: Level | None = Level.MUST,
) -> str:
    """Red exactly where the exit code is not 0: what is a failure, an error or skipped says `rendering.ci_results`."""
    import junitparser

    document = junitparser.JUnitXml(name="readiness")
    common = _of_the_run(assessment)
    for suite in ci_results.suites(assessment, fail_on):
        # Not `add_testsuite`, which looks for an equal suite among all there are: of thousands of accelerators hours.
        document.append(_suite(assessment, common, suite))  # type: ignore[no-untyped-call]
    document.update_statistics()  # type: ignore[no-untyped-call]
    document._elem.attrib.pop("skipped", None)  # the schema that Jenkins reads by has it at suites alone
    text = document.tostring().decode("utf-8").rstrip()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suite(assessment: Assessment, common: dict[str, object], suite: Suite) -> junitparser.TestSuite:
    import junitparser

    made = junitparser.TestSuite(suite.name)
    classname = suite.name
    if suite.item is not None and suite.use is not None:
        made.timestamp = rendering.clean(assessment.started, 40).removesuffix("Z")
        made.hostname = rendering.clean(assessment.host.get("name") or assessment.host.get("hostname") or "", 100)
        for name, value in (_properties(suite.item, suite.item.verdicts.get(suite.use)) | common).items():
            made.add_property(name, rendering.clean(value))
        classname = f"{suite.id}.{suite.use}"
    made.add_testcases([_case(result, classname) for result in suite.results])
    return made


def _case(result: Result, classname: str) -> junitparser.TestCase:
    import junitparser

    finding = result.finding
    if finding is None:
        case = junitparser.TestCase(result.name, classname)
    else:
        case = junitparser.TestCase(result.name, f"{classname}.{rendering.clean(finding.check or 'unknown', 100)}")
        case.time = round(result.seconds, 3)
    if result.status is Status.PASSED:
        case.system_out = result.message if finding is None else rendering.measured(finding)
        return case
    kinds = {Status.FAILURE: junitparser.Failure, Status.ERROR: junitparser.Error, Status.SKIPPED: junitparser.Skipped}
    element = kinds[result.status](result.message, result.type)
    if result.detail and result.kind is not Kind.NOT_APPLICABLE:
        element.text = result.detail
    case.result = [element]
    return case


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
    rehearsal = {f"rehearsal_{name.replace(' ', '_')}": text for name, text in rendering.detection_texts(assessment).items()}
    return {
        "profile": assessment.profile_name,
        "profile_sha256": assessment.profile_sha256,
        "seed": assessment.seed,
        "interrupted": str(assessment.interrupted).lower(),
        **({"earlier": ", ".join(taken)} if (taken := rendering.earlier(assessment)) else {}),
        **rehearsal,
    }
