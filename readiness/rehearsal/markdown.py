"""A rehearsal in Markdown, for a CI step summary or a page of documentation."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import telling
from readiness.rehearsal import words
from readiness.rehearsal.matrix import Line, Word
from readiness.rehearsal.play import Rehearsal
from readiness.telling import escape_markdown as _escape

_SIGNS = {Word.CAUGHT: "✅", Word.MISSED: "❌", Word.UNFINISHED: "❔", Word.NOT_TRIED: "➖", Word.NOT_CLAIMED: "➖"}


def render(rehearsal: Rehearsal) -> str:
    """The whole text."""
    return "".join(f"{line}\n" for line in _lines(rehearsal))


def _lines(rehearsal: Rehearsal) -> Iterator[str]:
    yield f"## Rehearsal of {_escape(rehearsal.request.profile.name)}\n"
    yield f"> **Simulated**: {words.WARNING}\n"
    yield f"{_escape(words.head(rehearsal))}\n"
    for text in (*words.summary(rehearsal), *words.healthy(rehearsal)):
        yield f"- {_escape(text, 4000)}"
    for accused in words.accusations(rehearsal):
        yield f"  - {_escape(accused.text)}"
    if rehearsal.result.lines:
        yield "\n| | defect | kind | severity | caught by, seconds in | not seen by |\n|---|---|---|---|---|---|"
        for line in rehearsal.result.lines:
            yield _row(line)
        yield "\n### What was said\n"
        for line in rehearsal.result.lines:
            yield from _said(line)
    yield f"\n<sub>started {rehearsal.started}, seed {rehearsal.request.seed}</sub>"


def _row(line: Line) -> str:
    plant = line.plant
    cells = (
        f"{_SIGNS[line.word]} {line.word.value}", _escape(plant.name), _escape(plant.kind.name),
        _escape(words.severity(plant)), _escape(words.seen(line)), _escape(words.unseen(line)),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _said(line: Line) -> Iterator[str]:
    yield f"- **{_escape(line.plant.name)}**: {_escape(line.plant.title)}"
    for catch in line.catches:
        where = telling.names(catch.accelerators)
        yield f"  - {_escape(catch.check)}, {_escape(catch.requirement)}, {_escape(where)}: {_escape(catch.about)}"
    for text in words.reasons(line):
        yield f"  - {_escape(text)}"
    for source in words.sources(line):
        yield f"  - reported: {_escape(source)}"
