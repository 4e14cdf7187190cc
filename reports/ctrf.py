"""CTRF JSON (Common Test Report Format) for test dashboards: a test for each finding, by accelerator and use."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

from readiness import rendering
from readiness.datamodel import Assessment, Decision, Level
from readiness.documents.json_escapes import escaped
from readiness.judging.judge import worst_exit
from readiness.rendering import ci_results
from readiness.rendering.ci_results import Result, Status, Suite

SUFFIX = ".ctrf.json"

_SPECIFICATION = "1.0.0"
_STATUS = {Status.PASSED: "passed", Status.FAILURE: "failed", Status.ERROR: "failed", Status.SKIPPED: "skipped"}
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "readiness.assessment/1")
Json = dict[str, Any]


def render(
    assessment: Assessment,
    *,
    colour: bool = False,  # noqa: ARG001
    fail_on: Level | None = Level.MUST,
) -> str:
    """`failed` exactly where the exit code is not 0; `rawStatus` says what it is: blocker, unknown, waived, ...

    An unknown must is `failed`, since dashboards pass over every other word.
    """
    suites = list(ci_results.suites(assessment, fail_on))
    tests = [_test(assessment, suite, result) for suite in suites for result in suite.results]
    statuses = [test["status"] for test in tests]
    counts = {word: statuses.count(word) for word in ("passed", "failed", "skipped", "pending", "other")}
    start = _milliseconds(assessment.started)
    duration = round(1000 * min(assessment.seconds, 1e9))
    ids = [item.facts.id for item in assessment.accelerators]
    run = f"{assessment.started} {assessment.seed} {assessment.profile_sha256} {ids}"
    document: Json = {
        "reportFormat": "CTRF",
        "specVersion": _SPECIFICATION,
        "reportId": str(uuid.uuid5(_NAMESPACE, f"{run} {fail_on}")),
        "timestamp": assessment.started,
        "generatedBy": f"readiness {assessment.version}",
        "results": {
            "tool": {"name": "readiness", "version": assessment.version},
            "summary": {
                "tests": len(tests), **counts, "suites": len(suites), "start": start, "stop": start + duration,
                "duration": duration,
            },
            "tests": tests,
            "environment": {
                "reportName": rendering.clean(assessment.profile_title or assessment.profile_name, 300),
                "testEnvironment": rendering.clean(assessment.host.get("name") or "", 100),
                "healthy": not assessment.interrupted and worst_exit(assessment.accelerators) is Decision.READY,
                "extra": {
                    "profile": assessment.profile_name, "profile_sha256": assessment.profile_sha256, "seed": assessment.seed,
                    "interrupted": assessment.interrupted,
                    "simulated": [
                        rendering.clean(f"{ids}, {chip}") for chip, ids in rendering.simulated_chips(assessment).items()
                    ],
                    "verdicts": _verdicts(assessment),
                },
            },
        },
    }  # fmt: skip
    return escaped(json.dumps(document, indent=1, ensure_ascii=False)) + "\n"


def _verdicts(assessment: Assessment) -> list[Json]:
    return [
        {
            "accelerator": rendering.clean(item.facts.id, 100), "use": use.value, "verdict": verdict.decision.value,
            "score": verdict.score, "ceiling": verdict.ceiling,
        }
        for item in assessment.accelerators
        for use, verdict in item.verdicts.items()
    ]  # fmt: skip


def _test(assessment: Assessment, suite: Suite, result: Result) -> Json:
    finding = result.finding
    made: Json = {
        "name": result.name,
        "status": _STATUS[result.status],
        "duration": round(1000 * min(result.seconds, 1e9)),
        "rawStatus": str(result.kind or "undetermined"),
        "suite": [suite.name],
        "message": result.message,
    }
    if suite.item is not None:
        made["device"] = rendering.device(suite.item)
    if finding is None:
        return made
    made["testId"] = f"{suite.id}/{suite.use}/{result.name}"
    made["labels"] = {
        "accelerator": suite.id, "use": str(suite.use), "level": finding.level.value, "weight": finding.weight,
        "check": rendering.clean(finding.check, 100), "limit": rendering.limit(finding),
    }  # fmt: skip
    if result.status is not Status.PASSED and result.detail:
        made["trace"] = result.detail
    place = ci_results.place(assessment, finding.requirement)
    if place is not None:
        made["filePath"], made["line"] = place.file, place.line
    return made


def _milliseconds(text: str) -> int:
    try:
        return round(datetime.datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:  # the schema admits the 31st of February
        return 0
