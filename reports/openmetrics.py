"""Metrics as text, for Prometheus and OpenMetrics readers: verdicts, scores, what is open, measured values."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator

from readiness import rendering
from readiness.datamodel import Assessment, Decision, Level, Use
from readiness.judging.judge import exit_code
from readiness.judging.measurement_values import as_float
from readiness.rendering import Kind
from readiness.rendering.metrics import Family, metrics_text

SUFFIX = ".prom"

_OPEN = (Kind.BLOCKER, Kind.LIMIT, Kind.UNKNOWN, Kind.WAIVED)


def render(
    assessment: Assessment,
    *,
    colour: bool = False,  # noqa: ARG001
    fail_on: Level | None = Level.MUST,
) -> str:
    """Text that readers of both formats take. `readiness_exit_code` is what the run's exit code was."""
    families = [*_of_the_run(assessment, fail_on), *_of_accelerators(assessment), *_of_requirements(assessment)]
    return metrics_text(families)


def _of_the_run(assessment: Assessment, fail_on: Level | None) -> Iterator[Family]:
    info = Family("readiness_run_info", "The run: profile and version.")
    info.add(1, version=assessment.version, profile=assessment.profile_name, profile_sha256=assessment.profile_sha256)
    yield info
    code = Family("readiness_exit_code", "0 ready, 1 not ready, 3 undetermined, 130 interrupted.")
    code.add(exit_code(assessment, fail_on))
    yield code
    started = Family("readiness_run_started_timestamp_seconds", "When the run began.")
    started.add(_timestamp(assessment.started))
    yield started
    seconds = Family("readiness_run_duration_seconds", "How long the run took.")
    seconds.add(assessment.seconds)
    yield seconds
    count = Family("readiness_accelerators", "How many accelerators were assessed.")
    count.add(len(assessment.accelerators))
    yield count
    unread = Family("readiness_unread_stack_info", "Stacks that are there and whose accelerators could not be listed.")
    for stack in rendering.failed_stacks(assessment):
        unread.add(1, stack=stack)
    yield unread


def _of_accelerators(assessment: Assessment) -> Iterator[Family]:
    info = Family("readiness_accelerator_info", "The accelerator; simulated is true for a rehearsal.")
    verdict = Family("readiness_verdict", "1 for the verdict on an accelerator for a use, 0 for the two others.")
    score = Family(
        "readiness_score",
        "Points proven, 0 to 100. It ranks accelerators of one readiness_verdict, and makes none of them ready.",
    )
    ceiling = Family("readiness_ceiling", "Points possible had all that is unknown passed, 0 to 100; see readiness_score.")
    findings = Family("readiness_findings", "Requirements by what their outcome means.")
    for item in assessment.accelerators:
        id, facts = item.facts.id, item.facts
        simulated = str(rendering.simulated(facts) is not None).lower()
        info.add(1, accelerator=id, vendor=facts.vendor or "", model=facts.model or "", stack=facts.stack,
                 software=rendering.software(item), simulated=simulated)  # fmt: skip
        for use in Use:
            found = item.verdicts.get(use)
            if found is None:
                continue
            for decision in Decision:
                verdict.add(float(found.decision is decision), accelerator=id, use=use, verdict=decision)
            score.add(found.score, accelerator=id, use=use)
            ceiling.add(found.ceiling, accelerator=id, use=use)
            kinds = [rendering.kind(finding) for finding in item.findings if finding.use is use]
            for kind in Kind:
                findings.add(kinds.count(kind), accelerator=id, use=use, kind=kind)
    yield from (info, verdict, score, ceiling, findings)


def _of_requirements(assessment: Assessment) -> Iterator[Family]:
    unmet = Family("readiness_requirement_open", "1 for each requirement that failed, is unknown or waived.")
    value = Family("readiness_requirement_value", "The measured value that decides a requirement, in its unit.")
    for item in assessment.accelerators:
        for finding in item.findings:
            kind = rendering.kind(finding)
            named = {"accelerator": item.facts.id, "requirement": finding.requirement}
            if kind in _OPEN:
                unmet.add(1, **named, use=finding.use, level=finding.level, kind=kind)
            if finding.value is not None:
                value.add(
                    as_float(finding.value), **named, check=finding.check, measure=finding.measure, unit=finding.unit or "",
                    where=rendering.labels(finding.labels),
                )  # fmt: skip
    yield from (unmet, value)


def _timestamp(text: str) -> float:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:  # the schema admits the 31st of February
        return math.nan
