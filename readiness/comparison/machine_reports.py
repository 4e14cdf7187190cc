"""A comparison of machines in words: as text for a terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from readiness import rendering
from readiness.comparison.machines import Cell, Comparison, Machine, Row, ranked
from readiness.datamodel import Use
from readiness.rendering import Paint, Section, clean, escape_markdown, verdicts, wrap
from readiness.rendering.text_budget import ready_parts

_MOST_ROWS = 25
_MOST_VALUES = 15
#: A cell of a table for a terminal.
_LONGEST_CELL = 28


def table(comparison: Comparison, *, colour: bool = False, width: int = 100, verbose: bool = False) -> str:
    """Lines of at most `width` columns: the answer for each use, warnings, then what differs."""
    return "\n".join(_lines(comparison, rendering.painter(colour), width, verbose)) + "\n"


def _lines(comparison: Comparison, paint: Paint, width: int, verbose: bool) -> Iterator[str]:
    for machine in comparison.machines:
        yield from wrap(f"{machine.name}: {machine.device}", width, rest="  ")
    for text in comparison.warnings:
        yield ""
        yield from wrap(text, width, first="WARNING  ", rest=" " * 9)
    for use, sentences in comparison.answers.items():
        yield ""
        yield paint(use.value, "bold")
        for sentence in sentences:
            yield from wrap(sentence, width, first="  ", rest="  ")
        for machine in ranked(comparison.machines, use):
            yield from _standing(machine, use, paint, width)
    rows = comparison.differing
    yield ""
    yield from wrap(f"{len(rows)} of {len(comparison.rows)} requirements have different outcomes", width)
    shown = rows if verbose else rows[:_MOST_ROWS]
    yield from _grid(
        ["requirement", *(machine.name for machine in comparison.machines)],
        [[_name(row), *(cell.text for cell in row.cells)] for row in shown], width,
    )  # fmt: skip
    if len(shown) < len(rows):
        yield f"and {len(rows) - len(shown)} more: -v lists all"
    yield from _values(comparison, width, verbose)
    if comparison.lacks:
        yield ""
        yield from wrap("Not measured on every machine", width)
        for lack in comparison.lacks:
            names = (machine.name for machine in comparison.machines)
            statements = "; ".join(f"{name} {text}" for name, text in zip(names, lack.statements, strict=True))
            yield from wrap(f"{lack.check}: {statements}", width, first="  ", rest="    ")


def _standing(machine: Machine, use: Use, paint: Paint, width: int) -> Iterator[str]:
    standing = machine.standings[use]
    word = standing.decision.value.upper()
    outcome_counts = "" if standing.verdict is None else f"  {rendering.outcome_counts(standing.verdict)}"
    line, *more = wrap(f"{machine.name}  {word}  {standing.points}{outcome_counts}", width, first="  ", rest="    ")
    yield line.replace(word, paint(word, verdicts.STYLES[standing.decision]), 1)
    yield from more
    for reason in standing.reasons:
        yield from wrap(reason, width, first="    - ", rest="      ")
    if standing.further:
        yield f"    - and {standing.further} more"


def _name(row: Row) -> str:
    return f"{row.requirement} ({row.level}, {', '.join(row.uses)})"


def _values(comparison: Comparison, width: int, verbose: bool) -> Iterator[str]:
    if not comparison.values:
        return
    yield ""
    if not verbose and any(machine.simulated for machine in comparison.machines):
        yield from wrap(f"{len(comparison.values)} speeds: -v lists them; those of simulated chips are the host's", width)
        return
    shown = comparison.values if verbose else comparison.values[:_MOST_VALUES]
    yield from wrap(f"Speeds, with their ratio to the first machine that has them: {len(comparison.values)}", width)
    yield from _grid(
        ["speed", *(machine.name for machine in comparison.machines)],
        [[row.name, *map(_ratio, row.cells)] for row in shown], width,
    )  # fmt: skip
    if len(shown) < len(comparison.values):
        yield f"and {len(comparison.values) - len(shown)} more: -v lists all"


def _ratio(cell: Cell) -> str:
    return cell.text if cell.ratio is None else f"{cell.text} ({cell.ratio:.2f}x)"


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """A table in so many columns of a terminal: where it is too narrow, a line for each cell."""
    if not rows:
        return
    cells = [[heads[0], *heads[1:]], *rows]
    others = [
        min(max(rendering.width(row[column]) for row in cells), _LONGEST_CELL) for column in range(1, len(heads))
    ]
    first = width - sum(others) - 2 * len(others)
    if first < 18:
        for row in rows:
            yield from wrap(row[0], width)
            for head, text in zip(heads[1:], row[1:], strict=True):
                yield from wrap(f"{head}: {text}", width, first="    ", rest="      ")
        return
    for row in cells:
        parts = [wrap(row[0], first), *(wrap(text, columns) for text, columns in zip(row[1:], others, strict=True))]
        for number in range(max(map(len, parts))):
            pieces = [part[number] if number < len(part) else "" for part in parts]
            padded = [
                piece + " " * (columns - rendering.width(piece))
                for piece, columns in zip(pieces, (first, *others), strict=True)
            ]
            yield "  ".join(padded).rstrip()


# --------------------------------------------------------------------------------------------------------------- Markdown



def markdown(comparison: Comparison, version: str) -> str:
    """Return the comparison as Markdown for a comment or a document, below 64 KB."""
    names = " against ".join(machine.name for machine in comparison.machines)
    warnings = (f"> **Warning**: {escape_markdown(text)}\n\n" for text in comparison.warnings)
    head = [f"## {escape_markdown(names)}\n\n", *warnings]
    columns = "| " + " | ".join(escape_markdown(machine.name) for machine in comparison.machines) + " |\n"
    rule = "|---" * len(comparison.machines) + "|\n"
    sections = [Section("notes", ready_parts(head), 0.2)]
    for use, sentences in comparison.answers.items():
        text = "".join(f"{escape_markdown(sentence)}\n" for sentence in sentences)
        points = [
            f"- {verdicts.SIGNS[machine.standings[use].decision]} **{escape_markdown(machine.name)}**: "
            f"**{machine.standings[use].decision}**, {machine.standings[use].points}\n"
            + "".join(f"  - {escape_markdown(reason)}\n" for reason in machine.standings[use].reasons)
            for machine in ranked(comparison.machines, use)
        ]
        sections.append(Section("machines", ready_parts(points), 0.2, f"\n### {use.value.capitalize()}\n\n{text}\n"))
    for title, rows, share in (
        ("Requirements with different outcomes", comparison.differing, 0.4),
        ("Other requirements", comparison.others, 0.3),
    ):
        lines = [
            f"| {escape_markdown(_name(row))}<br>{escape_markdown(row.title)} | {escape_markdown(row.limit)} | "
            + " | ".join(escape_markdown(cell.text) for cell in row.cells) + " |\n"
            for row in rows
        ]  # fmt: skip
        if lines:
            heading = f"\n### {title}\n\n| requirement | bound {columns}|---|---{rule}"
            sections.append(Section("requirements", ready_parts(lines), share, heading))
    if comparison.values:
        lines = [
            f"| {escape_markdown(row.name)} | " + " | ".join(escape_markdown(_ratio(cell)) for cell in row.cells) + " |\n"
            for row in comparison.values
        ]
        sections.append(Section("speeds", ready_parts(lines), 0.2, f"\n### Speeds\n\n| speed {columns}|---{rule}"))
    if comparison.lacks:
        lines = [
            f"| {escape_markdown(lack.check)} | " + " | ".join(map(escape_markdown, lack.statements)) + " |\n"
            for lack in comparison.lacks
        ]
        heading = f"\n### Not measured on every machine\n\n| check {columns}|---{rule}"
        sections.append(Section("checks", ready_parts(lines), 0.1, heading))
    return rendering.comment(sections, f"\n<sub>readiness {escape_markdown(version)}</sub>\n")


# ------------------------------------------------------------------------------------------------------------------- JSON


def as_json(comparison: Comparison, version: str) -> dict[str, Any]:
    """Return the comparison as JSON: `readiness.comparison/1`."""
    return {
        "schema": "readiness.comparison/1",
        "tool": {"name": "readiness", "version": version},
        "warnings": list(comparison.warnings),
        "machines": [_machine(machine) for machine in comparison.machines],
        "answers": {use.value: list(sentences) for use, sentences in comparison.answers.items()},
        "order": {
            use.value: [machine.name for machine in ranked(comparison.machines, use)] for use in comparison.answers
        },
        "requirements": [
            {
                "requirement": row.requirement, "title": row.title, "level": row.level.value,
                "uses": [use.value for use in row.uses], "limit": row.limit, "check": row.check, "alike": row.uniform,
                "machines": [
                    {"outcome": None if cell.kind is None else cell.kind.value, "text": cell.text, "value": cell.value}
                    for cell in row.cells
                ],
            }
            for row in comparison.rows
        ],
        "values": [
            {
                "name": row.name, "unit": row.unit, "better": row.better.value,
                "machines": [{"value": cell.value, "ratio": cell.ratio} for cell in row.cells],
            }
            for row in comparison.values
        ],
        "measured_on_some": [{"check": lack.check, "machines": list(lack.statements)} for lack in comparison.lacks],
        "conditions": [{"name": name, "machines": list(texts)} for name, texts in comparison.conditions],
    }  # fmt: skip


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name, "device": machine.device, "software": machine.software, "simulated": machine.simulated,
        "accelerators": len(machine.assessment.accelerators),
        "profile": {"name": clean(machine.assessment.profile_name, 100), "sha256": machine.assessment.profile_sha256},
        "uses": {
            use.value: {
                "verdict": standing.decision.value,
                "score": None if standing.verdict is None else standing.verdict.score,
                "ceiling": None if standing.verdict is None else standing.verdict.ceiling,
                "blockers": [] if standing.verdict is None else list(standing.verdict.blockers),
                "reasons": list(standing.reasons),
            }
            for use, standing in machine.standings.items()
        },
    }  # fmt: skip
