"""CTRF JSON (Common Test Report Format) for test dashboards: a test for each finding, by accelerator and use."""

from __future__ import annotations

import datetime
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

from readiness import rendering
from readiness.datamodel import Assessment, Decision, Level
from readiness.documents.json_escapes import escaped
from readiness.judging.judge import worst_decision
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
    return "".join(pieces(assessment, fail_on=fail_on))


def pieces(assessment: Assessment, *, fail_on: Level | None = Level.MUST) -> Iterator[str]:
    """Yield the document test by test, so that thousands of accelerators take no more memory than one suite.

    The summary follows the tests, since it counts them.
    """
    ids = [item.facts.id for item in assessment.accelerators]
    run = f"{assessment.started} {assessment.seed} {assessment.profile_sha256} {ids}"
    head = _dumped({
        "reportFormat": "CTRF",
        "specVersion": _SPECIFICATION,
        "reportId": str(uuid.uuid5(_NAMESPACE, f"{run} {fail_on}")),
        "timestamp": assessment.started,
        "generatedBy": f"readiness {assessment.version}",
        "results": {"tool": {"name": "readiness", "version": assessment.version}},
    })
    yield escaped(head.removesuffix("\n }\n}")) + ',\n  "tests": ['
    counts: Counter[str] = Counter()
    suites = 0
    for suites, suite in enumerate(ci_results.suites(assessment, fail_on), 1):  # noqa: B007 - their number
        for result in suite.results:
            test = _test(assessment, suite, result)
            yield ("," if counts else "") + escaped("\n" + _dumped(test)).replace("\n", "\n   ")
            counts[test["status"]] += 1
    yield "\n  ]," if counts else "],"
    rest = _dumped({"summary": _summary(assessment, counts, suites), "environment": _environment(assessment)})
    yield escaped(rest[1:-2].replace("\n", "\n ")) + "\n }\n}\n"


def _dumped(document: Json) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False)


def _summary(assessment: Assessment, counts: Counter[str], suites: int) -> Json:
    start = _milliseconds(assessment.started)
    duration = round(1000 * min(assessment.seconds, 1e9))
    return {
        "tests": counts.total(), **{word: counts[word] for word in ("passed", "failed", "skipped", "pending", "other")},
        "suites": suites, "start": start, "stop": start + duration, "duration": duration,
    }  # fmt: skip


def _environment(assessment: Assessment) -> Json:
    return {
        "reportName": rendering.clean(assessment.profile_title or assessment.profile_name, 300),
        "testEnvironment": rendering.clean(assessment.host.get("name") or "", 100),
        "healthy": not assessment.interrupted and worst_decision(assessment.accelerators) is Decision.READY,
        "extra": {
            "profile": assessment.profile_name, "profile_sha256": assessment.profile_sha256, "seed": assessment.seed,
            "interrupted": assessment.interrupted,
            "simulated": [
                rendering.clean(f"{ids}, {chip}") for chip, ids in rendering.simulated_chips(assessment).items()
            ],
            "verdicts": _verdicts(assessment),
        },
    }  # fmt: skip


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
