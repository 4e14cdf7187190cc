"""Whether a saved assessment still agrees with itself: no schema can say that a verdict follows from its findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from readiness import decision
from readiness.errors import BadFileError
from readiness.model import Level, Outcome


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
            follows = decision.of(
                (Level(finding["level"]), Outcome(finding["outcome"]), finding.get("waived") is not None)
                for finding in item["findings"]
                if finding["use"] == use
            )
            if verdict["verdict"] != follows:
                yield f"{item['id']}: the verdict for {use} is {verdict['verdict']}, and from the findings follows {follows}"
