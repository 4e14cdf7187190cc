"""Detail rows of a check: what remedies call "the rows of operators.sweep"."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from readiness.datamodel import Assessment, Evidence, Status
from readiness.rendering.accelerators import names
from readiness.rendering.text import clean, figure, width, wrap

_LONGEST_CELL = 500
#: The cell of rows that are made for pictures and programs (docs/reports.md): too wide for a table.
SHAPE = "shape"


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


def as_text(found: Mapping[str, Evidence], columns: int | None) -> str:
    """Return a table for each accelerator, or for several with equal rows; rows wider than `columns` as lines."""
    parts: dict[str, tuple[Evidence, list[str]]] = {}
    for id, evidence in found.items():
        same = json.dumps([evidence.status.value, evidence.reason, [dict(row) for row in evidence.rows]])
        parts.setdefault(same, (evidence, []))[1].append(id)
    return "\n\n".join("\n".join(_part(evidence, ids, columns)) for evidence, ids in parts.values())


def _part(evidence: Evidence, ids: list[str], columns: int | None) -> Iterable[str]:
    rows = [row for row in evidence.rows if SHAPE not in row]
    count = len(rows)
    reason = clean(evidence.reason or "no reason given")
    ended = "" if evidence.status is Status.MEASURED else f", {evidence.status}: {reason}"
    yield f"{clean(evidence.check, 100)} on {names(ids)}: {count or 'no'} row{'' if count == 1 else 's'}{ended}"
    if drawn := len(evidence.rows) - count:
        yield f"and {drawn} for pictures, in the JSON and HTML reports"
    if not rows:
        return
    yield ""
    from tabulate import tabulate

    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key)) for key in heads] for row in rows]
    table = tabulate(
        cells, headers=[clean(key, 60) for key in heads], tablefmt="simple", disable_numparse=True
    ).splitlines()
    if columns is None or max(map(width, table)) <= columns:
        yield from table
        return
    for row in rows:
        text = "; ".join(f"{clean(key, 60)}: {_cell(value)}" for key, value in row.items() if _cell(value))
        yield from wrap(text, columns, rest="    ")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return figure(value)
    return clean(value if isinstance(value, str) else json.dumps(value), _LONGEST_CELL)
