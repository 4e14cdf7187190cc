"""Whether a saved assessment still agrees with itself: no schema can say that a verdict follows from its findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from readiness.errors import BadFileError


def refuse(document: Mapping[str, Any], place: str) -> None:
    """Raises BadFileError for a document, fit for the schema, that says different things in different places."""
    for what in _contradictions(document):
        raise BadFileError(what, place=place, remedy="give the file as readiness wrote it")


def _contradictions(document: Mapping[str, Any]) -> Iterator[str]:
    ids = [item["id"] for item in document["accelerators"]]
    if len(set(ids)) != len(ids):
        yield "two accelerators share an id"
    for item in document["accelerators"]:
        checks = [evidence["check"] for evidence in item["evidence"]]
        findings = [(finding["requirement"], finding["use"]) for finding in item["findings"]]
        for what, keys in (("pieces of evidence", checks), ("findings", findings)):
            if len(set(keys)) != len(keys):
                yield f"two {what} of {item['id']} speak of the same"
        for use, verdict in item["verdicts"].items():
            if verdict["score"] > verdict["ceiling"]:
                yield f"{item['id']}: the score for {use} is above its ceiling"
            follows = _decision([finding for finding in item["findings"] if finding["use"] == use])
            if verdict["verdict"] != follows:
                yield f"{item['id']}: the verdict for {use} is {verdict['verdict']}, and from the findings follows {follows}"


def _decision(findings: list[Mapping[str, Any]]) -> str:
    """As `readiness.judge.decide` decides."""
    musts = [finding for finding in findings if finding["level"] == "must" and finding["outcome"] != "not_applicable"]
    if any(finding["outcome"] == "fail" and finding.get("waived") is None for finding in musts):
        return "not ready"
    return "ready" if musts and all(finding["outcome"] != "unknown" for finding in musts) else "undetermined"
