"""Metrics as text, for Prometheus and OpenMetrics readers: verdicts, scores, what is open, measured values."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from readiness import rendering
from readiness.datamodel import Assessment, Decision, Level, Use
from readiness.judging.judge import worst_exit
from readiness.judging.measurement_values import as_float
from readiness.rendering import Kind

SUFFIX = ".prom"

_EXIT = {Decision.READY: 0, Decision.NOT_READY: 1, Decision.UNDETERMINED: 3}
_OPEN = (Kind.BLOCKER, Kind.LIMIT, Kind.UNKNOWN, Kind.WAIVED)
Labels = Mapping[str, str]


@dataclass(slots=True)
class _Family:
    """All samples of one name. Only gauges: node_exporter's reader knows none of the types that OpenMetrics added."""

    name: str
    help: str
    samples: dict[str, float] = field(default_factory=dict)

    def add(self, value: float, **labels: object) -> None:
        """A sample; of two with the same labels the first one stays."""
        self.samples.setdefault(_labels({name: rendering.clean(text, 300) for name, text in labels.items()}), value)

    @property
    def lines(self) -> Iterator[str]:
        """Return the samples as text."""
        if self.samples:
            yield f"# HELP {self.name} {self.help}"
            yield f"# TYPE {self.name} gauge"
            for labels, value in self.samples.items():
                yield f"{self.name}{labels} {_number(value)}"


def render(
    assessment: Assessment,
    *,
    colour: bool = False,  # noqa: ARG001
    fail_on: Level | None = Level.MUST,
) -> str:
    """Text that readers of both formats take. `readiness_exit_code` is what the run's exit code was."""
    families = [*_of_the_run(assessment, fail_on), *_of_accelerators(assessment), *_of_requirements(assessment)]
    return "\n".join([line for family in families for line in family.lines] + ["# EOF\n"])


def _of_the_run(assessment: Assessment, fail_on: Level | None) -> Iterator[_Family]:
    info = _Family("readiness_run_info", "The run: profile and version.")
    info.add(1, version=assessment.version, profile=assessment.profile_name, profile_sha256=assessment.profile_sha256)
    yield info
    code = _Family("readiness_exit_code", "0 ready, 1 not ready, 3 undetermined, 130 interrupted.")
    code.add(130 if assessment.interrupted else _EXIT[worst_exit(assessment.accelerators, fail_on)])
    yield code
    started = _Family("readiness_run_started_timestamp_seconds", "When the run began.")
    started.add(_timestamp(assessment.started))
    yield started
    seconds = _Family("readiness_run_duration_seconds", "How long the run took.")
    seconds.add(assessment.seconds)
    yield seconds
    count = _Family("readiness_accelerators", "How many accelerators were assessed.")
    count.add(len(assessment.accelerators))
    yield count
    unread = _Family("readiness_unread_stack_info", "Stacks that are there and whose accelerators could not be listed.")
    for stack in rendering.failed_stacks(assessment):
        unread.add(1, stack=stack)
    yield unread


def _of_accelerators(assessment: Assessment) -> Iterator[_Family]:
    info = _Family("readiness_accelerator_info", "The accelerator; simulated is true for a rehearsal.")
    verdict = _Family("readiness_verdict", "1 for the verdict on an accelerator for a use, 0 for the two others.")
    score = _Family(
        "readiness_score",
        "Points proven, 0 to 100. It ranks accelerators of one readiness_verdict, and makes none of them ready.",
    )
    ceiling = _Family("readiness_ceiling", "Points possible had all that is unknown passed, 0 to 100; see readiness_score.")
    findings = _Family("readiness_findings", "Requirements by what their outcome means.")
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


def _of_requirements(assessment: Assessment) -> Iterator[_Family]:
    unmet = _Family("readiness_requirement_open", "1 for each requirement that failed, is unknown or waived.")
    value = _Family("readiness_requirement_value", "The measured value that decides a requirement, in its unit.")
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


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return re.sub(r'([\\"])', r"\\\1", text)


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value) if value != int(value) or abs(value) > 1e15 else str(int(value))


def _timestamp(text: str) -> float:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:  # the schema admits the 31st of February
        return math.nan
