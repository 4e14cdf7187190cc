"""The assessment as JSON and back. The schema is `readiness/schemas/assessment.json`; this file follows it.

How findings and verdicts look in it stands in `readiness.documents.findings_json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from readiness.datamodel import (
    AcceleratorAssessment,
    AcceleratorFacts,
    Assessment,
    Evidence,
    HostLoad,
    Joined,
    Measurement,
    Status,
    Use,
)
from readiness.documents import consistency, files, json_escapes, schema
from readiness.documents.findings_json import (
    basis_from_json,
    basis_to_json,
    diagnosis_to_json,
    finding_from_json,
    finding_to_json,
    maturity_to_json,
    verdict_from_json,
    verdict_to_json,
)
from readiness.documents.strict_json import Json, number_from_json, number_to_json, plain
from readiness.errors import BadFileError
from readiness.host.gc_pause import without_collection
from readiness.judging import profile_demands
from readiness.judging.diagnosis import diagnose
from readiness.judging.maturity import assess
from readiness.missing_evidence import Cause, cause_of, cause_of_early_version

SCHEMA = "readiness.assessment/1"
#: Larger files are refused before they are read: one of three hundred accelerators of 0.8 MB each stays below.
LARGEST_FILE_BYTES = 256 * 2**20


def measurement_to_json(measurement: Measurement) -> Json:
    """Return a measurement in the form of the assessment."""
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


def evidence_to_json(evidence: Evidence) -> Json:
    """Return evidence in the form of the assessment and the journal."""
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
        **({} if evidence.cause is None else {"cause": evidence.cause.value}),
        **({"earlier_tries_seconds": round(evidence.earlier_tries_s, 3)} if evidence.earlier_tries_s else {}),
        **({} if evidence.host_load is None else {"host_load": asdict(evidence.host_load)}),
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
        cause=_cause_of(document),
        earlier_tries_s=document.get("earlier_tries_seconds", 0.0),
        host_load=_host_load_from_json(document.get("host_load")),
    )


def _host_load_from_json(document: Mapping[str, Any] | None) -> HostLoad | None:
    if document is None:
        return None
    return HostLoad(**{one.name: document.get(one.name) for one in fields(HostLoad)})


def _cause_of(document: Mapping[str, Any]) -> Cause | None:
    if "cause" in document:
        return cause_of(document["cause"])
    did_not_run = document["status"] == Status.SKIPPED and document.get("attempts") == 0
    return cause_of_early_version(document["reason"] or "") if did_not_run else None


def facts_to_json(facts: AcceleratorFacts) -> Json:
    """Return facts in the form of the assessment, of `devices` and of a worker's request.

    `software` is called `stack` there.
    """
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
            **basis_to_json(assessment.basis),
        },
        "uses": [use.value for use in assessment.uses],
        "under_test": [item.facts.id for item in assessment.accelerators],
        "accelerators": [
            facts_to_json(item.facts)
            | {
                "evidence": [evidence_to_json(evidence) for evidence in item.evidence],
                "findings": [finding_to_json(finding) for finding in item.findings],
                "verdicts": {use.value: verdict_to_json(verdict) for use, verdict in item.verdicts.items()},
            }
            | maturity_to_json(assess(item, assessment.started[:10]))
            for item in assessment.accelerators
        ],
    }
    document["diagnosis"] = list(map(diagnosis_to_json, diagnose(assessment)))
    if assessment.joined:
        document["joined"] = [asdict(joined) for joined in assessment.joined]
    if assessment.rehearsal is not None:
        document["rehearsal"] = plain(assessment.rehearsal)
    remedy = "report this bug; the evidence is safe in the run's journal"
    schema.must_fit("assessment", document, "the assessment", remedy)
    return document


def from_json(document: Any, place: str) -> Assessment:
    """Parse an assessment. Raises BadFileError with the place, also for contradictions."""
    assessment = parsed(document, place)
    ids = [item.facts.id for item in assessment.accelerators]
    if document.get("under_test", ids if assessment.basis is None else None) != ids:  # early versions did not say
        raise BadFileError(
            "the accelerators differ from those under test",
            place=f"{place}, at under_test",
            remedy=f"give the file unchanged, as readiness {assessment.version} wrote it",
        )
    consistency.validate(assessment, place)
    return assessment


def parsed(document: Any, place: str) -> Assessment:
    """Parse a document without checking for contradictions. Raises BadFileError where it does not fit the schema."""
    schema.refuse_other("assessment", document, place, kind="an assessment", written_by="readiness run -f json=FILE")
    return _from_valid(document)


def notes(assessment: Assessment, version: str) -> list[str]:
    """Return notes about a saved assessment from this version of readiness."""
    found = []
    if _is_later(assessment.version, version):
        found.append(f"readiness {assessment.version} wrote it, and this is {version}: keys new in it are ignored")
    if assessment.basis is None:
        found.append(
"an early version wrote it, without the requirements of its profile: its findings were checked against "
"their own bounds only"
        )
    elif not profile_demands.understood(assessment.basis.demands):
        found.append("its profile has requirements that this version does not know: its findings were not derived again")
    return found


def _is_later(version: str, other: str) -> bool:
    """Return whether a version is later than another, or cannot be compared."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) > Version(other)
    except InvalidVersion:
        return True


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
        accelerators=tuple(map(_accelerator_from_json, document["accelerators"])),
        rehearsal=document.get("rehearsal"),
        joined=tuple(Joined(item["host"], item["id"], item["stack"]) for item in document.get("joined", ())),
        basis=basis_from_json(profile),
    )


def _accelerator_from_json(document: Mapping[str, Any]) -> AcceleratorAssessment:
    findings = tuple(map(finding_from_json, document["findings"]))
    return AcceleratorAssessment(
        facts=facts_from_json(document),
        evidence=tuple(map(evidence_from_json, document["evidence"])),
        findings=findings,
        verdicts={
            Use(use): verdict_from_json(verdict, [finding for finding in findings if finding.use == use])
            for use, verdict in document["verdicts"].items()
        },
    )


def read(file: Path) -> Assessment:
    """Read the assessment in a file. Raises BadFileError for any other file."""
    with without_collection():
        return from_json(files.read_json(file, largest_bytes=LARGEST_FILE_BYTES), str(file))


def dumps(document: Mapping[str, Any]) -> str:
    """Return strict JSON, indented; NaN and infinity are refused, since other readers do not understand them.

    What a terminal, an editor or the log of a pipeline would act upon stands as its escape: the same value to a reader.
    """
    return json_escapes.escaped(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False))
