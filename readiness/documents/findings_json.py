"""Findings, verdicts and their basis as JSON and back: a part of `readiness.documents.assessment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from readiness.datamodel import Action, Basis, Decision, Diagnosis, Finding, Level, Outcome, Remedy, Use, Verdict, Waiver
from readiness.documents.strict_json import Json, number_from_json, number_to_json, plain
from readiness.judging.maturity import Maturity
from readiness.judging.verdict import decide

_MOST_SUBJECTS = 1000


def _remedy_to_json(remedy: Remedy | None) -> Json | None:
    return None if remedy is None else {"text": remedy.text, "action": remedy.action.value}


def finding_to_json(finding: Finding) -> Json:
    """One finding."""
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
        **({"source": finding.source} if finding.source else {}),
        "remedy": _remedy_to_json(finding.remedy),
        "waived": None if finding.waived is None else asdict(finding.waived),
        "expired_waiver": None if finding.expired_waiver is None else asdict(finding.expired_waiver),
    }


def finding_from_json(document: Mapping[str, Any]) -> Finding:
    """The inverse of `finding_to_json`; the document has been validated."""
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
        earned=document.get("earned", 1.0 if document["outcome"] == Outcome.PASS else 0.0),
        reason=document.get("reason"),
        why=document.get("why", ""),
        title=document.get("title", ""),
        source=document.get("source", ""),
        remedy=Remedy(remedy["text"], Action(remedy["action"])) if remedy else None,
        waived=Waiver(**waived) if waived else None,
        expired_waiver=Waiver(**expired) if expired else None,
    )


def verdict_to_json(verdict: Verdict) -> Json:
    """One verdict."""
    return {
        "verdict": verdict.decision.value,
        "score": verdict.score,
        "ceiling": verdict.ceiling,
        **{name: list(getattr(verdict, name)) for name in ("blockers", "limits", "unknown", "waived")},
    }


def verdict_from_json(document: Mapping[str, Any], findings: Sequence[Finding]) -> Verdict:
    """The inverse of `verdict_to_json`; early versions left out which of the findings are waived."""
    complete = document if "waived" in document else {**document, "waived": decide(findings).waived}
    return Verdict(
        decision=Decision(document["verdict"]),
        score=document["score"],
        ceiling=document["ceiling"],
        **{name: tuple(complete[name]) for name in ("blockers", "limits", "unknown", "waived")},
    )


def diagnosis_to_json(diagnosis: Diagnosis) -> Json:
    """One defect that explains several failures."""
    return {
        "rule": diagnosis.rule,
        "sentence": diagnosis.sentence,
        "accelerators": list(diagnosis.accelerators),
        "requirements": list(diagnosis.requirements),
        "blockers": list(diagnosis.blockers),
        "stops": [use.value for use in diagnosis.stops],
        "remedy": {"text": diagnosis.remedy.text, "action": diagnosis.remedy.action.value},
        "subject": {name: list(values[:_MOST_SUBJECTS]) for name, values in diagnosis.subject.items()},
    }


def maturity_to_json(found: Maturity) -> Json:
    """Return what of PyTorch is there and right on a stack, and what others state of it; no key if nothing is known."""
    if found.share is None:
        return {}
    document = {
        "share": round(found.share, 4),
        "known": len(found.known),
        "areas": [
            {"area": area, "share": None if share is None else round(share, 4), "known": known, "features": count}
            for area, share, known, count in found.areas()
        ],
        "features": [
            {
                "area": one.feature.area, "name": one.feature.name, "check": one.feature.check,
                "standing": one.standing.value, "credit": round(one.credit, 4), "reason": plain(one.reason),
            }
            for one in found.features
        ],
        "stated": None if found.stated is None else asdict(found.stated),
    }  # fmt: skip
    return {"maturity": document}


def basis_to_json(basis: Basis | None) -> Json:
    """Return the keys of the basis in `profile`; none for a profile that was never in a file."""
    if basis is None or not basis.demands:
        return {}
    found: Json = {"demands": basis.demands, "settings": plain(basis.settings)}
    if basis.lasting:
        found["lasting"] = dict(basis.lasting)
    if basis.files:
        found["files"] = dict(basis.files)
    if basis.places:
        found["places"] = {id: plain(place) for id, place in basis.places.items()}
    return found


def basis_from_json(profile: Mapping[str, Any]) -> Basis | None:
    """The inverse of `basis_to_json`; None if an early version did not write it."""
    if "demands" not in profile:
        return None
    parts = (profile.get(name, {}) for name in ("settings", "lasting", "files", "places"))
    return Basis(profile["demands"], *parts)
