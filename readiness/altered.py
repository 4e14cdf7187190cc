"""Whether a saved assessment still agrees with itself: no schema can say that a verdict follows from its findings."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.decision import decide
from readiness.errors import BadFileError
from readiness.model import AcceleratorAssessment, Assessment, Use


def refuse(assessment: Assessment, place: str) -> None:
    """Raises BadFileError for an assessment that says different things in different places."""
    for what in _contradictions(assessment):
        raise BadFileError(what, place=place, remedy="give the file as readiness wrote it")


def _contradictions(assessment: Assessment) -> Iterator[str]:
    ids = [item.facts.id for item in assessment.accelerators]
    if len(set(ids)) != len(ids):
        yield "two accelerators share an id"
    for item in assessment.accelerators:
        yield from (f"{item.facts.id}: {what}" for what in _of_one(item, assessment.uses))


def _of_one(item: AcceleratorAssessment, uses: tuple[Use, ...]) -> Iterator[str]:
    checks = [evidence.check for evidence in item.evidence]
    keys = [(finding.requirement, finding.use) for finding in item.findings]
    for what, each in (("pieces of evidence", checks), ("findings", keys)):
        if len(set(each)) != len(each):
            yield f"two {what} speak of the same"
    for use in dict.fromkeys([*uses, *item.verdicts]):
        findings = [finding for finding in item.findings if finding.use is use]
        verdict = item.verdicts.get(use)
        if verdict is None and findings:
            yield f"there are findings for {use}, and no verdict"
        if verdict is None:
            continue
        if verdict.score > verdict.ceiling:
            yield f"the score for {use} is above its ceiling"
        if verdict.decision is not (follows := decide(findings).decision):
            yield f"the verdict for {use} is {verdict.decision}, and from the findings follows {follows}"
