"""Detail rows of a check: what remedies call "the rows of operators.sweep"."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from readiness.datamodel import Assessment, Evidence, Status
from readiness.rendering import row_shapes
from readiness.rendering.accelerators import names
from readiness.rendering.charts import bytes_text, sparkline
from readiness.rendering.curves import numbers
from readiness.rendering.row_shapes import SHAPE
from readiness.rendering.text import clean, figure, width, wrap

_LONGEST_CELL = 500
#: Longer lists of numbers are drawn as a curve.
_LONGEST_LIST = 8


def of_check(assessment: Assessment, check: str) -> dict[str, Evidence]:
    """Return the evidence of a check, by accelerator id."""
    return {
        item.facts.id: evidence for item in assessment.accelerators for evidence in item.evidence if evidence.check == check
    }


def checks(assessment: Assessment) -> list[str]:
    """Return every check with evidence, those with rows first."""
    found: dict[str, bool] = {}
    for item in assessment.accelerators:
        for evidence in item.evidence:
            found[evidence.check] = found.get(evidence.check, False) or bool(evidence.rows)
    return sorted(found, key=lambda id: (not found[id], id))


def as_json(found: Mapping[str, Evidence]) -> list[dict[str, Any]]:
    """One entry for each accelerator."""
    return [
        {
            "accelerator": id, "accelerators": list(evidence.accelerators), "check": evidence.check,
            "status": evidence.status.value, "reason": evidence.reason, "rows": [dict(row) for row in evidence.rows],
        }
        for id, evidence in found.items()
    ]  # fmt: skip


def for_people(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that a table can show, without those of shapes made for pictures that fit them."""
    return [row for found in rows for row in _for_people(found)]


def _for_people(row: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    if SHAPE not in row or row_shapes.problem(row) is not None:
        return [dict(row)]
    if row[SHAPE] == row_shapes.TRAINING:
        return [{key: value for key, value in row.items() if key != SHAPE}]
    if row[SHAPE] == row_shapes.SERIES:
        return [{"reading": name, "values": values} for name, values in row["columns"].items()]
    if row[SHAPE] == row_shapes.BANDWIDTH:
        sizes = ", ".join(map(bytes_text, row["bytes"]))
        return [
            {"operation": name, "ranks": row["ranks"], row["unit"]: values, "of": sizes}
            for name, values in zip(row["operations"], row["values"], strict=True)
        ]
    return []


def as_text(found: Mapping[str, Evidence], columns: int | None, *, blocks: bool = True) -> str:
    """Return a table for each accelerator, or for several with equal rows; rows wider than `columns` as lines.

    Lists of numbers are curves, drawn with `blocks` or in ASCII.
    """
    parts: dict[str, tuple[Evidence, list[str]]] = {}
    for id, evidence in found.items():
        same = json.dumps([evidence.status.value, evidence.reason, [dict(row) for row in evidence.rows]])
        parts.setdefault(same, (evidence, []))[1].append(id)
    texts = (_part(evidence, ids, columns, blocks=blocks) for evidence, ids in parts.values())
    return "\n\n".join("\n".join(lines) for lines in texts)


def _part(evidence: Evidence, ids: list[str], columns: int | None, *, blocks: bool) -> Iterable[str]:
    rows = for_people(evidence.rows)
    count = len(rows)
    reason = clean(evidence.reason or "no reason given")
    ended = "" if evidence.status is Status.MEASURED else f", {evidence.status}: {reason}"
    yield f"{clean(evidence.check, 100)} on {names(ids)}: {count or 'no'} row{'' if count == 1 else 's'}{ended}"
    if drawn := sum(not _for_people(row) for row in evidence.rows):
        yield f"and {drawn} for pictures, in the JSON and HTML reports"
    for problem in dict.fromkeys(row_shapes.problem(row) for row in evidence.rows if SHAPE in row):
        if problem is not None:
            yield from wrap(f"a row does not fit the shape that it names, and makes no picture: {problem}", columns or 1000)
    if not rows:
        return
    yield ""
    from tabulate import tabulate

    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key), blocks=blocks) for key in heads] for row in rows]
    table = tabulate(
        cells, headers=[clean(key, 60) for key in heads], tablefmt="simple", disable_numparse=True
    ).splitlines()
    if columns is None or max(map(width, table)) <= columns:
        yield from table
        return
    for row in rows:
        words = ((key, _cell(value, blocks=blocks)) for key, value in row.items())
        yield from wrap("; ".join(f"{clean(key, 60)}: {text}" for key, text in words if text), columns, rest="    ")


def _cell(value: Any, *, blocks: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return figure(value)
    if (drawn := curve(value, blocks=blocks)) is not None:
        return drawn
    return clean(value if isinstance(value, str) else json.dumps(value), _LONGEST_CELL)


def curve(value: object, *, blocks: bool = True) -> str | None:
    """Return a long list of numbers as a sparkline with its ends, None for anything else."""
    if not isinstance(value, list | tuple) or len(value) <= _LONGEST_LIST:
        return None
    found = numbers(value)
    drawn = sparkline(found, blocks=blocks)
    return f"{drawn} {figure(found[0])} to {figure(found[-1])} ({len(found)} values)" if drawn else None
