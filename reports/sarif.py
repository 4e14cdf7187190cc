"""SARIF 2.1.0 for code scanning: what is not met or unknown, at the requirement's line of the profile."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from readiness import rendering
from readiness.datamodel import Assessment, Finding, Level
from readiness.documents.json_escapes import escaped
from readiness.judging.judge import exit_code
from readiness.rendering import Kind, ci_results
from readiness.rendering.ci_results import Result, Suite

SUFFIX = ".sarif"

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: GitHub refuses a run with more; the most urgent come first.
MOST_RESULTS = 25_000
#: What paths of shipped profiles are relative to: no folder of the repository that is scanned.
_SHIPPED = "READINESS"
#: Levels of what is not red.
_LEVELS = {Kind.BLOCKER: "warning", Kind.LIMIT: "warning", Kind.WAIVED: "warning", Kind.INFORMATION: "note"}
_URGENCY = {"error": 0, "warning": 1, "note": 2, "none": 3}
Json = dict[str, Any]


def render(
    assessment: Assessment,
    *,
    colour: bool = False,  # noqa: ARG001
    fail_on: Level | None = Level.MUST,
) -> str:
    """An `error` exactly where the exit code is not 0. What passed or is not applicable is no result.

    An unknown that does not count is of the kind `open`; one that does is a failure, so that it looks fine nowhere.
    """
    found: dict[str, Json] = {}
    for suite in ci_results.suites(assessment, fail_on):
        for result in suite.results:
            if result.kind not in (Kind.PASSED, Kind.NOT_APPLICABLE):
                made = _result(assessment, suite, result)
                # Equal findings for both uses are one result.
                same = found.setdefault(json.dumps([made["ruleId"], made["message"], made["kind"], suite.id]), made)
                if suite.use is not None and suite.use.value not in same["properties"]["uses"]:
                    same["properties"]["uses"].append(suite.use.value)
    results = sorted(found.values(), key=lambda made: _URGENCY[made["level"]])
    rules = {rule["id"]: rule for rule in _rules(assessment)}
    for made in results:
        rules.setdefault(made["ruleId"], _rule_of_the_run(made["ruleId"]))
    order = {id: number for number, id in enumerate(rules)}
    for made in results:
        made["ruleIndex"] = order[made["ruleId"]]
    run: Json = {
        "tool": {"driver": {"name": "readiness", "version": assessment.version, "rules": list(rules.values())}},
        "automationDetails": {"id": f"readiness/{assessment.profile_name}/"},
        "invocations": [_invocation(assessment, fail_on, len(results))],
        "originalUriBaseIds": {_SHIPPED: {"description": {"text": "Profiles that are shipped with readiness"}}},
        "columnKind": "unicodeCodePoints",
        "results": results[:MOST_RESULTS],
        "properties": {
            "profile": assessment.profile_name, "profile_sha256": assessment.profile_sha256, "seed": assessment.seed,
        },
    }  # fmt: skip
    text = json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False)
    return escaped(text) + "\n"


def _result(assessment: Assessment, suite: Suite, result: Result) -> Json:
    finding = result.finding
    red = result.status.red
    level = "error" if red else _LEVELS.get(result.kind, "none") if result.kind is not None else "none"
    device = f"{suite.id}: "
    made: Json = {
        "ruleId": result.name,
        "kind": "fail" if level != "none" else "open",
        "level": level,
        "message": {"text": device + result.message + (f"\n{result.detail}" if result.detail else "")},
        "locations": [_location(assessment, suite, finding)],
        "partialFingerprints": {"requirementOnAccelerator/v1": _fingerprint(assessment, suite, result)},
        "properties": {
            "accelerator": suite.id,
            "uses": [],
            "outcome": str(result.kind or "undetermined"),
            **({} if finding is None else _figures(finding)),
        },
    }
    if suite.item is not None and (simulated := rendering.simulated(suite.item.facts)) is not None:
        made["properties"]["simulated"] = simulated
    if result.kind is Kind.WAIVED and finding is not None and finding.waived is not None:
        waiver = finding.waived
        justification = rendering.clean(f"{waiver.reason} (by {waiver.by} until {waiver.until})")
        made["suppressions"] = [{"kind": "external", "status": "accepted", "justification": justification}]
    return made


def _figures(finding: Finding) -> Json:
    return {
        "level": finding.level.value,
        "check": rendering.clean(finding.check, 100),
        "measured": rendering.figure(finding.value, finding.unit),
        "limit": rendering.limit(finding),
        "labels": rendering.labels(finding.labels),
    }


def _fingerprint(assessment: Assessment, suite: Suite, result: Result) -> str:
    return hashlib.sha256(json.dumps([assessment.profile_name, suite.id, result.name]).encode()).hexdigest()


def _location(assessment: Assessment, suite: Suite, finding: Finding | None) -> Json:
    """The line of the profile; where that is not known, the profile alone."""
    place = None if finding is None else ci_results.place(assessment, finding.requirement)
    if place is None:
        physical: Json = {"artifactLocation": {"uri": quote(f"{assessment.profile_name}.toml")}}
    else:
        physical = {"artifactLocation": {"uri": quote(place.file)}, "region": {"startLine": place.line}}
        if place.shipped:
            physical["artifactLocation"]["uriBaseId"] = _SHIPPED
    return {"physicalLocation": physical, "logicalLocations": [{"name": suite.id, "kind": "accelerator"}]}


def _rules(assessment: Assessment) -> Iterator[Json]:
    seen = set()
    for item in assessment.accelerators:
        for finding in item.findings:
            id = rendering.clean(finding.requirement, 200)
            if id not in seen:
                seen.add(id)
                yield _rule(id, finding)


def _rule(id: str, finding: Finding) -> Json:
    made: Json = {"id": id, "shortDescription": {"text": rendering.title(finding) or id}}
    if finding.why:
        made["fullDescription"] = {"text": rendering.clean(finding.why)}
    if finding.remedy is not None:
        made["help"] = {"text": rendering.clean(finding.remedy.text)}
    levels: Mapping[Level, str] = {Level.MUST: "error", Level.SHOULD: "warning", Level.INFO: "note"}
    made["defaultConfiguration"] = {"level": levels[finding.level]}
    made["properties"] = {"level": finding.level.value, "weight": finding.weight}
    return made


def _rule_of_the_run(id: str) -> Json:
    texts = {"verdict": "A verdict was reached", "discovery": "Every stack lists its accelerators"}
    return {"id": id, "shortDescription": {"text": texts.get(id, id)}}


def _invocation(assessment: Assessment, fail_on: Level | None, count: int) -> Json:
    started = _moment(assessment.started)
    made: Json = {
        "executionSuccessful": not assessment.interrupted,
        "exitCode": int(exit_code(assessment, fail_on)),
    }
    if started is not None:
        ended = started + datetime.timedelta(seconds=min(assessment.seconds, 1e9))
        made["startTimeUtc"], made["endTimeUtc"] = (f"{at:%Y-%m-%dT%H:%M:%S}Z" for at in (started, ended))
    notes = [rendering.clean(f"{ids}, {note}") for note, ids in rendering.simulated_chips(assessment).items()]
    if count > MOST_RESULTS:
        notes.append(f"{count - MOST_RESULTS} of {count} results are left out: no reader takes more than {MOST_RESULTS}")
    if notes:
        made["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": note}} for note in notes]
    return made


def _moment(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:  # the schema admits the 31st of February
        return None
