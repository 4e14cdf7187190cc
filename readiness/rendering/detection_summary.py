"""Text of the rehearsal in an assessment: which seeded faults the checks detected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from readiness.datamodel import Assessment
from readiness.rendering.text import clean, counted, duration

TITLE = "Self-test: planted defects that the checks detected"
_LONGEST = 4000
_Defects = Sequence[Mapping[str, Any]]


def detection_texts(assessment: Assessment) -> dict[str, str]:
    """Return texts for `rehearsed`, `caught`, `missed` and `false alarms`; empty without a rehearsal.

    A kind counts as caught where one of its defects was; every defect that was missed is named all the same.
    """
    return {} if assessment.rehearsal is None else describe(assessment.rehearsal)


def describe(document: Mapping[str, Any]) -> dict[str, str]:
    """Return these texts for a rehearsal's own document, or for the part of it that an assessment has.

    What was left unfinished, never tried, never acted, was not asked or could not be told was neither caught nor missed.
    """
    neither = ("not finished", "not tried", "did not act", "cannot be told", "not asked")
    defects: _Defects = [one for one in document["defects"] if one.get("result") not in neither]
    profile = document["profile"]
    name = profile["name"] if isinstance(profile, Mapping) else profile
    texts = {
        "rehearsed": (
            f"under {clean(name, 100)} on simulated chips, {duration(document['seconds'])}, "
            f"{counted(len(document['seeds']), 'seed')}"
        ),
        "caught": _caught(defects),
        "missed": _missed(defects),
        "false alarms": _false_alarms(document["false_alarms"], document["healthy_runs"]),
    }
    return {name: clean(text, _LONGEST) for name, text in texts.items()}


def _caught(defects: _Defects) -> str:
    if not defects:
        return "nothing: no defect was planted"
    kinds = {defect["kind"] for defect in defects}
    caught = {defect["kind"] for defect in defects if defect["caught"]}
    text = f"{len(caught)} of {counted(len(kinds), 'kind')} of defect"
    if len(defects) > len(kinds):
        text += f", {sum(bool(defect['caught']) for defect in defects)} of {len(defects)} planted defects"
    return text


def _missed(defects: _Defects) -> str:
    missed = [defect for defect in defects if not defect["caught"]]
    parts = [
        f"{how}: {', '.join(_name(defect) for defect in found)}"
        for how, claimed in (("although claimed", True), ("claimed by no check", False))
        if (found := [defect for defect in missed if bool(defect.get("claimed")) is claimed])
    ]
    return "; ".join(parts) or "none"


def _name(defect: Mapping[str, Any]) -> str:
    """Return the defect's name, its kind where the name differs, and the checks that claim it."""
    name, kind = clean(defect["defect"], 100), clean(defect["kind"], 60)
    by = ", ".join(clean(check, 100) for check in defect.get("missed_by") or ())
    further = [kind if kind != name else "", f"by {by}" if by and defect.get("claimed") else ""]
    text = "; ".join(part for part in further if part)
    return f"{name} ({text})" if text else name


def _false_alarms(alarms: _Defects, healthy_runs: int) -> str:
    if not healthy_runs and not alarms:
        return "unknown: no healthy chip was run"
    text = f"{len(alarms) or 'none'} over {counted(healthy_runs, 'healthy run')}"
    named = [f"{_blamed(alarm)} (seed {alarm['seed']})" for alarm in alarms]
    return f"{text}: {'; '.join(named)}" if named else text


def _blamed(alarm: Mapping[str, Any]) -> str:
    who = " for ".join(
        clean(alarm[key], 100) for key in ("check", "requirement") if alarm.get(key)
    )
    return f"{who}: {clean(alarm['about'], 200)}" if alarm.get("about") else who
