"""The assessment as JSON and back. The schema is `readiness/schemas/assessment.json`; this file follows it.

JSON has no NaN and no infinity: a measurement's `value` is then one of the strings in `_NON_FINITE`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from readiness import altered, files, json_escapes, schema
from readiness.errors import BadFileError, InternalError
from readiness.model import (
    AcceleratorAssessment,
    AcceleratorFacts,
    Action,
    Assessment,
    Decision,
    Evidence,
    Finding,
    Joined,
    Level,
    Measurement,
    Number,
    Outcome,
    Remedy,
    Status,
    Use,
    Verdict,
    Waiver,
)

SCHEMA = "readiness.assessment/1"
#: Larger files are refused before they are read: one of three hundred accelerators of 0.8 MB each stays below.
LARGEST_FILE_BYTES = 256 * 2**20

#: Longer texts from checks and devices are cut.
LONGEST_TEXT = 10_000

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
Json = dict[str, Any]


def number_to_json(value: Number | None) -> Number | str | None:
    """A number as JSON can hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def number_from_json(value: Number | str | None) -> Number | None:
    """The inverse of `number_to_json`."""
    return _NON_FINITE[value] if isinstance(value, str) else value


def measurement_to_json(measurement: Measurement) -> Json:
    """As it stands in the assessment."""
    document: Json = {
        "name": measurement.name,
        "value": number_to_json(measurement.value),
        "unit": measurement.unit,
        "labels": dict(measurement.labels),
    }
    if measurement.spread is not None:
        document["spread"] = number_to_json(measurement.spread)
    if measurement.samples is not None:
        document["samples"] = measurement.samples
    if measurement.about:
        document["about"] = plain(measurement.about)
    return document


def measurement_from_json(document: Mapping[str, Any]) -> Measurement:
    """The inverse of `measurement_to_json`; the document has been validated."""
    value = number_from_json(document["value"])
    assert value is not None
    spread = number_from_json(document.get("spread"))
    return Measurement(
        name=document["name"],
        value=value,
        unit=document.get("unit"),
        labels=dict(document.get("labels", {})),
        spread=None if spread is None else float(spread),
        samples=document.get("samples"),
        about=document.get("about"),
    )


def plain(value: Any, depth: int = 5) -> Any:
    """Anything a check put into a row or the environment, as strict JSON: unknown types by their text, NaN by its name.

    Texts are cut, and what is nested deeper than `depth` becomes text: one odd check must not cost the whole document.
    """
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}..."
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return number_to_json(value)
    if isinstance(value, Mapping):
        return {str(key)[:200]: plain(item, depth - 1) for key, item in value.items()} if depth else plain(str(value))
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in value] if depth else plain(str(value))
    return plain(str(value))


def evidence_to_json(evidence: Evidence) -> Json:
    """As it stands in the assessment and in the journal."""
    return {
        "check": evidence.check,
        "status": evidence.status.value,
        "reason": evidence.reason,
        "seconds": round(evidence.seconds, 3),
        "attempts": evidence.attempts,
        "measurements": [measurement_to_json(measurement) for measurement in evidence.measurements],
        "rows": [plain(row) for row in evidence.rows],
        "settings": plain(evidence.settings),
        "environment": plain(evidence.environment),
        "process": plain(evidence.process),
        "accelerators": list(evidence.accelerators),
        "log": evidence.log,
        **({"earlier": evidence.earlier} if evidence.earlier is not None else {}),
    }


def evidence_from_json(document: Mapping[str, Any]) -> Evidence:
    """The inverse of `evidence_to_json`; the document has been validated."""
    return Evidence(
        check=document["check"],
        status=Status(document["status"]),
        reason=document.get("reason"),
        seconds=document.get("seconds", 0.0),
        attempts=document.get("attempts", 1),
        measurements=tuple(measurement_from_json(item) for item in document.get("measurements", ())),
        rows=tuple(document.get("rows", ())),
        settings=document.get("settings", {}),
        environment=document.get("environment", {}),
        process=document.get("process", {}),
        accelerators=tuple(document.get("accelerators", ())),
        log=document.get("log", ""),
        earlier=document.get("earlier"),
    )


def facts_to_json(facts: AcceleratorFacts) -> Json:
    """As it stands in the assessment, in `devices` and in what a worker is told. `software` is called `stack` there."""
    return {
        "id": facts.id,
        "kind": facts.kind,
        "index": facts.index,
        "driven_by": facts.stack,
        "vendor": plain(facts.vendor),
        "model": plain(facts.model),
        "serial": plain(facts.serial),
        "memory_bytes": facts.memory_bytes,
        "stack": dict(facts.software),
        "properties": plain(facts.properties),
        "counters": None if facts.counters is None else dict(facts.counters),
    }


def facts_from_json(document: Mapping[str, Any]) -> AcceleratorFacts:
    """The inverse of `facts_to_json`."""
    kind, _, index = document["id"].partition(":")
    return AcceleratorFacts(
        id=document["id"],
        kind=document.get("kind", kind),
        index=document.get("index", int(index) if index.isdigit() else 0),
        stack=document.get("driven_by", kind),
        vendor=document.get("vendor"),
        model=document.get("model"),
        serial=document.get("serial"),
        memory_bytes=document.get("memory_bytes"),
        software=document.get("stack", {}),
        properties=document.get("properties", {}),
        counters=document.get("counters"),
    )


def _remedy_to_json(remedy: Remedy | None) -> Json | None:
    return None if remedy is None else {"text": remedy.text, "action": remedy.action.value}


def _finding_to_json(finding: Finding) -> Json:
    return {
        "requirement": finding.requirement,
        **({"title": finding.title} if finding.title else {}),
        "use": finding.use.value,
        "level": finding.level.value,
        "outcome": finding.outcome.value,
        "value": number_to_json(finding.value),
        "unit": finding.unit,
        "limit": finding.limit,
        "weight": finding.weight,
        "earned": finding.earned,
        "check": finding.check,
        "measure": finding.measure,
        "labels": dict(finding.labels),
        "reason": finding.reason,
        "why": finding.why,
        "remedy": _remedy_to_json(finding.remedy),
        "waived": None if finding.waived is None else asdict(finding.waived),
        "expired_waiver": None if finding.expired_waiver is None else asdict(finding.expired_waiver),
    }


def _finding_from_json(document: Mapping[str, Any]) -> Finding:
    remedy, waived, expired = document.get("remedy"), document.get("waived"), document.get("expired_waiver")
    return Finding(
        requirement=document["requirement"],
        use=Use(document["use"]),
        level=Level(document["level"]),
        outcome=Outcome(document["outcome"]),
        limit=document["limit"],
        weight=document["weight"],
        check=document.get("check", ""),
        measure=document.get("measure", ""),
        labels=document.get("labels", {}),
        value=number_from_json(document.get("value")),
        unit=document.get("unit"),
        earned=document.get("earned", 0.0),
        reason=document.get("reason"),
        why=document.get("why", ""),
        title=document.get("title", ""),
        remedy=Remedy(remedy["text"], Action(remedy["action"])) if remedy else None,
        waived=Waiver(**waived) if waived else None,
        expired_waiver=Waiver(**expired) if expired else None,
    )


def _verdict_to_json(verdict: Verdict) -> Json:
    return {
        "verdict": verdict.decision.value,
        "score": verdict.score,
        "ceiling": verdict.ceiling,
        **{name: list(getattr(verdict, name)) for name in ("blockers", "limits", "unknown", "waived")},
    }


def _verdict_from_json(document: Mapping[str, Any]) -> Verdict:
    return Verdict(
        decision=Decision(document["verdict"]),
        score=document["score"],
        ceiling=document["ceiling"],
        **{name: tuple(document.get(name, ())) for name in ("blockers", "limits", "unknown", "waived")},
    )


def to_json(assessment: Assessment) -> Json:
    """The whole document, validated: what does not fit the published schema is never written.

    Raises InternalError, since only readiness itself can be at fault.
    """
    document: Json = {
        "schema": SCHEMA,
        "tool": {"name": "readiness", "version": assessment.version, "seed": assessment.seed},
        "started": assessment.started,
        "seconds": round(assessment.seconds, 3),
        "interrupted": assessment.interrupted,
        "host": plain(assessment.host),
        "profile": {
            "name": assessment.profile_name,
            "title": assessment.profile_title,
            "sha256": assessment.profile_sha256,
        },
        "uses": [use.value for use in assessment.uses],
        "accelerators": [
            facts_to_json(item.facts)
            | {
                "evidence": [evidence_to_json(evidence) for evidence in item.evidence],
                "findings": [_finding_to_json(finding) for finding in item.findings],
                "verdicts": {use.value: _verdict_to_json(verdict) for use, verdict in item.verdicts.items()},
            }
            for item in assessment.accelerators
        ],
    }
    if assessment.joined:
        document["joined"] = [asdict(joined) for joined in assessment.joined]
    if assessment.rehearsal is not None:
        document["rehearsal"] = plain(assessment.rehearsal)
    problem = schema.first_problem("assessment", document)
    if problem is not None:
        raise InternalError(
            f"the assessment does not fit its own schema at {problem.path_text}: {problem.message}",
            remedy="report this; the evidence is safe in the run's journal",
        )
    return document


def from_json(document: Any, place: str) -> Assessment:
    """An assessment from its document. Raises BadFileError naming the place inside it."""
    problem = schema.first_problem("assessment", document)
    if problem is not None:
        raise BadFileError(
            f"not an assessment: {problem.message}",
            place=f"{place}, at {problem.path_text}",
            remedy="give a file that `readiness run -f json=FILE` wrote; `readiness schema assessment` shows its form",
        )
    assessment = _from_valid(document)
    altered.refuse(assessment, place)
    return assessment


def _from_valid(document: Mapping[str, Any]) -> Assessment:
    profile = document["profile"]
    return Assessment(
        version=document["tool"]["version"],
        seed=document["tool"]["seed"],
        started=document["started"],
        seconds=document["seconds"],
        interrupted=document.get("interrupted", False),
        host=document["host"],
        profile_name=profile["name"],
        profile_title=profile.get("title", profile["name"]),
        profile_sha256=profile["sha256"],
        uses=tuple(Use(use) for use in document.get("uses", [use.value for use in Use])),
        accelerators=tuple(
            AcceleratorAssessment(
                facts=facts_from_json(item),
                evidence=tuple(evidence_from_json(evidence) for evidence in item["evidence"]),
                findings=tuple(_finding_from_json(finding) for finding in item["findings"]),
                verdicts={Use(use): _verdict_from_json(verdict) for use, verdict in item["verdicts"].items()},
            )
            for item in document["accelerators"]
        ),
        rehearsal=document.get("rehearsal"),
        joined=tuple(Joined(item["host"], item["id"], item["stack"]) for item in document.get("joined", ())),
    )


def read(file: Path) -> Assessment:
    """The assessment in a file. Raises BadFileError for anything that is not one."""
    return from_json(files.read_json(file, largest_bytes=LARGEST_FILE_BYTES), str(file))


def dumps(document: Mapping[str, Any]) -> str:
    """Strict JSON, indented; NaN and infinity are refused rather than written as what no other reader understands.

    What a terminal, an editor or the log of a pipeline would act upon stands as its escape: the same value to a reader.
    """
    return json_escapes.escaped(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False))
