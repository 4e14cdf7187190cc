"""HTML report of a rehearsal: one page without scripts, fonts, images or network access."""

from __future__ import annotations

from readiness import __version__, rendering
from readiness.rehearsal import text as rehearsal_text
from readiness.rehearsal.detection_matrix import DefectResult, Detection
from readiness.rehearsal.run import Rehearsal
from readiness.rendering import html

_CLASSES = {
    Detection.CAUGHT: "good", Detection.MISSED: "bad", Detection.UNFINISHED: "open", Detection.NOT_TRIED: "open",
    Detection.DID_NOT_ACT: "open", Detection.UNTOLD: "open", Detection.NOT_REQUIRED: "none", Detection.NOT_CLAIMED: "none",
}  # fmt: skip
_CELLS = {"good": "✔", "bad": "✘", "unseen": "✘", "open": "?", "": ""}


def render(rehearsal: Rehearsal) -> str:
    """Return the page. The template escapes all names and texts, which come from files."""
    lines = rehearsal.result.defects
    checks = sorted(
        {check for line in lines for check in (*line.claimed_by, *(catch.check for catch in line.catches), *line.unable)}
    )
    return html.render(
        "rehearsal.html.jinja",
        simulated=True,
        warning=rehearsal_text.WARNING,
        subject=rehearsal_text.head(rehearsal),
        sentences=(*rehearsal_text.summary(rehearsal), *rehearsal_text.healthy(rehearsal)),
        false_alarms=list(rehearsal_text.false_alarms(rehearsal)),
        checks=checks,
        rows=[_row(line, checks) for line in lines],
        foot=f"readiness {__version__}, started {rehearsal.started}, seed {rehearsal.request.seed}",
    )


def _row(line: DefectResult, checks: list[str]) -> dict[str, object]:
    fault = line.fault
    return {
        "result": line.detection.value,
        "style": _CLASSES[line.detection],
        "name": fault.name,
        "kind": rehearsal_text.kind(fault),
        "title": fault.title,
        "severity": rehearsal_text.severity(fault),
        "cells": [_cell(line, check) for check in checks],
        "catches": [
            (catch.check, catch.requirement, rendering.names(catch.accelerators), catch.about) for catch in line.catches
        ],
        "reasons": rehearsal_text.reasons(line),
        # Only these become links: a file may write anything there.
        "sources": [(source, source.startswith(("https://", "http://"))) for source in rehearsal_text.sources(line)],
    }


def _cell(line: DefectResult, check: str) -> dict[str, str]:
    caught = next((catch for catch in line.catches if catch.check == check), None)
    if caught is not None:
        return _as("good", rendering.duration(caught.seconds), caught.about)
    if check in line.missed_by:
        # What another check saw is no hole: only where all were blind does it shout.
        style = "bad" if line.detection is Detection.MISSED else "unseen"
        return _as(style, "missed", "it claims this kind, ran, and did not detect it")
    if check in line.not_met:
        return _as("", "not met", "it claims this kind and ran, but the defect never acted on its calls")
    if check in line.unable:
        return _as("open", "cannot be told" if check in line.unmeasured else "unknown", line.unable[check])
    if check in line.not_run:
        return _as("open", "not run", "the rehearsal was stopped before")
    return _as("", "", "")


def _as(style: str, text: str, hint: str) -> dict[str, str]:
    return {"style": style, "sign": _CELLS[style], "text": text, "hint": hint}
