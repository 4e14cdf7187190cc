"""Markdown report of a rehearsal, for a CI step summary or documentation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from readiness import rendering
from readiness.rehearsal import text as rehearsal_text
from readiness.rehearsal.detection_matrix import DefectResult, Detection
from readiness.rehearsal.run import Rehearsal
from readiness.rendering import Section
from readiness.rendering import escape_markdown as _escape

_SIGNS = {
    Detection.CAUGHT: "✅",
    Detection.MISSED: "❌",
    Detection.UNFINISHED: "❔",
    Detection.NOT_TRIED: "➖",
    Detection.DID_NOT_ACT: "❔",
    Detection.UNTOLD: "❔",
    Detection.NOT_REQUIRED: "➖",
    Detection.NOT_CLAIMED: "➖",
}


def render(rehearsal: Rehearsal) -> str:
    """Return the text, below 64 KB; what does not fit is counted."""
    end = f"\n<sub>started {rehearsal.started}, seed {rehearsal.request.seed}</sub>\n"
    return rendering.comment(list(_sections(rehearsal)), end)


def _sections(rehearsal: Rehearsal) -> Iterator[Section]:
    lines = rehearsal.result.defects
    head = "".join(f"{line}\n" for line in _head(rehearsal))
    yield Section("beginnings", [partial(str, head)], 0.3)
    alarms = [partial(str, f"  - {_escape(alarms.text)}\n") for alarms in rehearsal_text.false_alarms(rehearsal)]
    yield Section("false alarms", alarms, 0.2)
    title = "\n| | defect | kind | severity | caught by, seconds in | not seen by |\n|---|---|---|---|---|---|\n"
    yield Section("defects", [partial(_row, line) for line in lines], 0.3, title)
    yield Section("accounts", [partial(_account, line) for line in lines], 1.0, "\n### Findings\n\n")


def _head(rehearsal: Rehearsal) -> Iterator[str]:
    yield f"## Rehearsal of {_escape(rehearsal.request.profile.name)}\n"
    yield f"> **Simulated**: {rehearsal_text.WARNING}\n"
    yield f"{_escape(rehearsal_text.head(rehearsal))}\n"
    for text in (*rehearsal_text.summary(rehearsal), *rehearsal_text.healthy(rehearsal)):
        yield f"- {_escape(text, 4000)}"


def _row(line: DefectResult) -> str:
    fault = line.fault
    cells = (
        f"{_SIGNS[line.detection]} {line.detection.value}", _escape(fault.name), _escape(fault.kind.name),
        _escape(rehearsal_text.severity(fault)), _escape(rehearsal_text.detections(line)),
        _escape(rehearsal_text.undetected(line)),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _account(line: DefectResult) -> str:
    return "".join(f"{text}\n" for text in _account_lines(line))


def _account_lines(line: DefectResult) -> Iterator[str]:
    yield f"- **{_escape(line.fault.name)}**: {_escape(line.fault.title)}"
    for catch in line.catches:
        where = rendering.names(catch.accelerators)
        yield f"  - {_escape(catch.check)}, {_escape(catch.requirement)}, {_escape(where)}: {_escape(catch.about)}"
    for text in rehearsal_text.reasons(line):
        yield f"  - {_escape(text)}"
    for source in rehearsal_text.sources(line):
        yield f"  - reported: {_escape(source)}"
