"""A host's assessment in short, as JSON: what a fleet needs of it. The schema is `readiness/schemas/host.json`.

An assessment of eight accelerators has some megabytes, and deriving its verdicts again takes a fifth of a second. A summary
has a hundredth of that: verdicts, what is open, every figure, versions. Its verdicts cannot be derived again, only held
against what it says is open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from readiness.datamodel import AcceleratorAssessment, Assessment, Decision, Evidence, Finding, Level, Outcome, Status, Use
from readiness.documents import schema
from readiness.documents.strict_json import Json, number_to_json
from readiness.errors import BadFileError
from readiness.host.identity import host_name
from readiness.judging.diagnosis import diagnose
from readiness.judging.host_load import measured_while_busy

SCHEMA = "readiness.host/1"
#: So much of a reason or a remedy; all of it is in the assessment.
_LONGEST_REASON = 300
_LONGEST_FACT = 200
#: What a host says of itself that is a version or a setting. What is installed there follows as `package NAME`.
_HOST_FACTS = ("system", "python", "cores", "memory_bytes")
#: Of the properties of an accelerator those that are a version or a setting; others differ from chip to chip.
_PROPERTIES = re.compile("firmware|vbios|mig|ecc|persistence|kernel_module|compute_mode|fabric|link_width|link_speed")
#: What tells of the process that measured, and not of its surroundings.
_OF_THE_PROCESS = ("planted_defect_met", "python")


def to_json(assessment: Assessment) -> Json:
    """Return the summary of an assessment."""
    keys = _figures(assessment)
    columns = {key: number for number, key in enumerate(keys)}
    return {
        "schema": SCHEMA,
        "tool": {"version": assessment.version, "seed": assessment.seed},
        "started": assessment.started,
        "seconds": round(assessment.seconds, 3),
        "interrupted": assessment.interrupted,
        "profile": {"name": assessment.profile_name, "sha256": assessment.profile_sha256},
        "uses": [use.value for use in assessment.uses],
        "host": {"name": host_name(assessment.host.get("name")), "facts": dict(_host_facts(assessment.host))},
        "failed_stacks": {
            str(stack)[:300]: str(reason)[:_LONGEST_REASON]
            for stack, reason in _mapping(assessment.host.get("failed_stacks")).items()
        },
        "figures": [
            {"check": check, "name": name, "unit": unit, "labels": dict(labels)} for check, name, unit, labels in keys
        ],
        "accelerators": [_accelerator(item, columns) for item in assessment.accelerators],
        "unfinished": list(_unfinished(assessment)),
        "diagnosis": [one.sentence[:2000] for one in diagnose(assessment)][:1000],
    }


def validated(document: Any, place: str) -> Json:
    """Return a document that is a summary. Raises BadFileError where it does not fit the schema or contradicts itself."""
    schema.refuse_other("host", document, place, kind="a summary of a host", written_by="readiness run -f host=FILE")
    for path, what in _contradictions(document):
        remedy = f"give the file unchanged, as readiness {document['tool']['version']} wrote it"
        raise BadFileError(what, place=f"{place}, at {path}", remedy=remedy)
    summary: Json = document
    return summary


def _contradictions(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    count = len(document["figures"])
    ids = [item["id"] for item in document["accelerators"]]
    if len(set(ids)) != len(ids):
        yield "accelerators", "two accelerators share an id"
    for number, item in enumerate(document["accelerators"]):
        path = f"accelerators[{number}]"
        if len(item["values"]) != count:
            yield f"{path}.values", f"{len(item['values'])} values for {count} figures"
        for use in document["uses"]:
            verdict = item["verdicts"].get(use)
            if verdict is None:
                yield f"{path}.verdicts", f"it has no verdict for {use}"
            elif Decision(verdict["verdict"]) not in _possible(item.get("open", ()), use):
                yield f"{path}.verdicts.{use}", f"the verdict {verdict['verdict']} does not follow from what is open"
            elif verdict["ceiling"] < verdict["score"]:
                yield f"{path}.verdicts.{use}", "the ceiling is below the score"


def _possible(listed: Any, use: str) -> tuple[Decision, ...]:
    """Return the verdicts that can follow from what is open. Where no must applies nothing is known, and nothing is open."""
    musts = {
        one["outcome"] for one in listed if one["level"] == Level.MUST and use in one["uses"] and not one.get("waived")
    }
    if Outcome.FAIL in musts:
        return (Decision.NOT_READY,)
    return (Decision.UNDETERMINED,) if Outcome.UNKNOWN in musts else (Decision.READY, Decision.UNDETERMINED)


_Figure = tuple[str, str, str | None, tuple[tuple[str, str], ...]]


def _figures(assessment: Assessment) -> list[_Figure]:
    """Return what was measured anywhere, in one order whatever the accelerators are."""
    found = {
        _figure(piece.check, one)
        for item in assessment.accelerators
        for piece in item.evidence
        if piece.status is Status.MEASURED
        for one in piece.measurements
    }
    return sorted(found, key=lambda key: (key[0], key[1], key[2] or "", key[3]))


def _figure(check: str, measurement: Any) -> _Figure:
    return check, measurement.name, measurement.unit, tuple(sorted(measurement.labels.items()))


def _accelerator(item: AcceleratorAssessment, columns: Mapping[_Figure, int]) -> Json:
    values: list[float | int | None] = [None] * len(columns)
    for piece in item.evidence:
        if piece.status is Status.MEASURED:
            for one in piece.measurements:
                value = number_to_json(one.value)
                if isinstance(value, bool | int | float) and math.isfinite(value):
                    values[columns[_figure(piece.check, one)]] = _shortened(value)
    facts = item.facts
    return {
        "id": facts.id,
        "stack": facts.stack,
        "vendor": _text(facts.vendor),
        "model": _text(facts.model),
        "serial": _text(facts.serial),
        "memory_bytes": facts.memory_bytes,
        "simulated": bool(facts.properties.get("simulated")),
        "facts": dict(_accelerator_facts(item)),
        "verdicts": {
            use.value: {"verdict": verdict.decision.value, "score": verdict.score, "ceiling": verdict.ceiling}
            for use, verdict in item.verdicts.items()
        },
        "open": _open(item),
        "busy": sorted({piece.check for piece in item.evidence if measured_while_busy(piece)}),
        "values": values,
    }


def _shortened(value: float) -> float | int:
    """Return a value with nine digits: what tells machines apart has fewer, and the assessment has all of them."""
    return int(value) if isinstance(value, int) else float(f"{value:.9g}")


def _open(item: AcceleratorAssessment) -> list[Json]:
    """Return what failed or is unknown; what both uses share is said once."""
    merged: dict[tuple[object, ...], tuple[Finding, list[str]]] = {}
    for finding in item.findings:
        if finding.outcome in (Outcome.FAIL, Outcome.UNKNOWN):
            key = (finding.requirement, finding.level, finding.outcome, finding.waived is not None, finding.reason)
            merged.setdefault(key, (finding, []))[1].append(finding.use.value)
    return [
        {
            "requirement": finding.requirement,
            "uses": sorted(set(uses), key=[use.value for use in Use].index),
            "level": finding.level.value,
            "outcome": finding.outcome.value,
            "waived": finding.waived is not None,
            "title": finding.title[:1000],
            "check": finding.check[:300],
            "reason": None if finding.reason is None else finding.reason[:_LONGEST_REASON],
            "remedy": None if finding.remedy is None else finding.remedy.text[:_LONGEST_REASON],
            "action": None if finding.remedy is None else finding.remedy.action.value,
        }
        for finding, uses in merged.values()
    ]


def _unfinished(assessment: Assessment) -> Iterator[Json]:
    for item in assessment.accelerators:
        for piece in item.evidence:
            if piece.status is not Status.MEASURED:
                yield {
                    "check": piece.check, "accelerator": item.facts.id, "status": piece.status.value,
                    "reason": None if piece.reason is None else piece.reason[:_LONGEST_REASON],
                }  # fmt: skip


def _host_facts(host: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _HOST_FACTS:
        if host.get(name) is not None:
            yield name, str(host[name])[:_LONGEST_FACT]
    for name, version in sorted(_mapping(host.get("packages")).items()):
        yield f"package {name}"[:300], str(version)[:_LONGEST_FACT]


def _accelerator_facts(item: AcceleratorAssessment) -> Iterator[tuple[str, str | None]]:
    for name, version in sorted(item.facts.software.items()):
        yield name[:300], None if version is None else str(version)[:_LONGEST_FACT]
    for name, value in sorted(item.facts.properties.items()):
        if _PROPERTIES.search(name) and isinstance(value, str | int | float):
            yield name[:300], str(value)[:_LONGEST_FACT]
    seen: dict[str, set[str]] = {}
    for piece in item.evidence:
        for name, value in _environment(piece):
            seen.setdefault(name, set()).add(value)
    for name, values in sorted(seen.items()):
        if len(values) == 1:  # else a check sets it itself
            yield f"environment {name}"[:300], values.pop()[:_LONGEST_FACT]


def _environment(piece: Evidence) -> Iterator[tuple[str, str]]:
    for name, value in piece.environment.items():
        if name == "variables":
            yield from ((str(variable), str(text)) for variable, text in _mapping(value).items())
        elif name not in _OF_THE_PROCESS and isinstance(value, str | int | float):
            yield str(name), str(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: str | None) -> str | None:
    return None if value is None else str(value)[:1000]
