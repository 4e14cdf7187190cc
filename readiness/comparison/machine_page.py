"""A comparison of machines as one HTML page: who is ready for what and why, then pictures with a line for each machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from readiness import rendering
from readiness.comparison.machines import Cell, Comparison, Machine, Row, ranked
from readiness.datamodel import Better, Decision, Use
from readiness.rendering import charts, html, verdicts

#: Pictures beyond these would be scrolled past.
_MOST_CHARTS = 6
_MOST_BARS = 24
#: What the room before a bar holds.
_LONGEST_NAME = 60
_NAME = re.compile(r"(?P<check>\S+) (?P<measure>\S+)(?: \((?P<labels>.*)\))?")
_LABEL = re.compile(r"(\w+)=([^,]*)")
_BYTES = re.compile(r"\bbytes=(\d{1,15})(?:, )?")


def render(comparison: Comparison, version: str) -> str:
    """The page; needs no script and no request. Two renderings give the same bytes."""
    names = [machine.name for machine in comparison.machines]
    return html.render(
        "compare.html.jinja",
        simulated=any(machine.simulated for machine in comparison.machines),
        names=names,
        machines=[(machine.name, machine.device) for machine in comparison.machines],
        profiles=list(dict.fromkeys(_profile(machine) for machine in comparison.machines)),
        warnings=comparison.warnings,
        answers=[_answer(comparison, use) for use in comparison.answers],
        bandwidth=list(_line_charts(comparison)),
        ratios=list(_ratio_charts(comparison)),
        differing=[_row(row) for row in comparison.differing],
        others=[_row(row) for row in comparison.others],
        values=[[row.name, *(_ratio(cell) for cell in row.cells)] for row in comparison.values],
        lacks=[[lack.check, *map(_lack, lack.statements)] for lack in comparison.lacks],
        conditions=[[name, *texts] for name, texts in comparison.conditions],
        foot=f"readiness {version}",
    )


def _profile(machine: Machine) -> str:
    name, title = machine.assessment.profile_name, machine.assessment.profile_title
    return name if title in ("", name) else f"{name}: {title}"


_TO = {Use.TRAINING: "To train", Use.INFERENCE: "To serve"}


def _answer(comparison: Comparison, use: Use) -> dict[str, Any]:
    standings = [(machine, machine.standings[use].decision) for machine in ranked(comparison.machines, use)]
    ready = [machine.name for machine, decision in standings if decision is Decision.READY]
    best = max((decision for _, decision in standings), key=verdicts.WORST_FIRST.index)
    none = "none is shown to be ready" if best is Decision.UNDETERMINED else "none of these"
    return {
        "use": use.value, "to": _TO[use], "choice": " or ".join(ready) or none, "style": html.STYLES[best],
        "sentences": comparison.answers[use],
        "machines": [_standing(machine, use) for machine in ranked(comparison.machines, use)],
    }


def _standing(machine: Machine, use: Use) -> dict[str, Any]:
    standing = machine.standings[use]
    verdict = standing.verdict
    return {
        "name": machine.name, "decision": standing.decision.value, "style": html.STYLES[standing.decision],
        "points": standing.points, "score": 0.0 if verdict is None else verdict.score,
        "ceiling": 100.0 if verdict is None else verdict.ceiling, "reasons": standing.reasons, "further": standing.further,
        "outcome_counts": "" if verdict is None else rendering.outcome_counts(verdict), "applies_to": standing.applies_to,
    }  # fmt: skip


def _row(row: Row) -> list[Any]:
    name = f"{row.title} ({row.requirement})" if row.title else row.requirement
    return [
        name, f"{row.level}, {' and '.join(row.uses)}", row.limit,
        *({"text": cell.text, "style": "" if cell.kind is None else html.STYLES[cell.kind]} for cell in row.cells),
    ]  # fmt: skip


def _ratio(cell: Cell) -> dict[str, Any]:
    text = cell.text if cell.ratio is None else f"{cell.text} ({cell.ratio:.2f}x)"
    return {"text": text, "number": cell.value is not None}


def _lack(text: str) -> dict[str, Any]:
    return {"text": text, "style": "good" if text == "measured" else "open"} if len(text) < 20 else {"text": text}


def _line_charts(comparison: Comparison) -> Iterator[charts.LineChart]:
    """Speeds that were measured at several sizes, against the size, a line for each machine."""
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    units: dict[str, str] = {}
    for row in comparison.values:
        match = _BYTES.search(row.name)
        if match is None:
            continue
        name = row.name.replace(match[0], "").replace(", )", ")").replace(" ()", "")
        units[name] = row.unit
        for number, cell in enumerate(row.cells):
            if cell.value is not None:
                found.setdefault(name, {}).setdefault(number, []).append((float(match[1]), cell.value))
    made = 0
    for name, lines in found.items():
        several = {number: sorted(points) for number, points in lines.items() if len(points) > 1}
        if len(several) < 2 or made == _MOST_CHARTS:
            continue
        chart = charts.line_chart(
            name, [charts.Series(comparison.machines[number].name, points) for number, points in several.items()],
            x_label="bytes", y_label=units[name], log_x=True, x_text=charts.bytes_text,
        )  # fmt: skip
        if chart is not None:
            made += 1
            yield chart


def _ratio_charts(comparison: Comparison) -> Iterator[tuple[str, charts.BarChart]]:
    """Return charts of each machine's speed relative to the first one: above 1 is better, whichever direction is."""
    for number, machine in enumerate(comparison.machines[1:], 1):
        bars = []
        for row in comparison.values:
            ratio = row.cells[number].ratio
            if ratio is None or row.cells[0].value is None or not ratio:
                continue
            better = ratio if row.better is Better.HIGHER else 1 / ratio
            bars.append((row.name, better, f"{better:.2f}x", better < 1))
        bars.sort(key=lambda bar: bar[1])
        if len(bars) > _MOST_BARS:
            half = _MOST_BARS // 2
            bars = [*bars[:half], *bars[-half:]]
        names = _short([name for name, _, _, _ in bars])
        short = [(name, value, text, bad) for name, (_, value, text, bad) in zip(names, bars, strict=True)]
        chart = charts.bar_chart(f"{machine.name} beside {comparison.machines[0].name}", short, limit=1.0)
        if chart is not None:
            yield machine.name, chart


def _short(names: Sequence[str]) -> list[str]:
    """Return names that fit before a bar: the measure, and the values of the labels that are not the same in all."""
    parts = [_NAME.fullmatch(name) for name in names]
    labels = [dict(_LABEL.findall(part["labels"] or "")) if part is not None else {} for part in parts]
    same = {key for key in labels[0] if len({one.get(key) for one in labels}) == 1} if labels else set()
    found = []
    for name, part, own in zip(names, parts, labels, strict=True):
        values = [_bytes(value) if key == "bytes" else value for key, value in own.items() if key not in same]
        shown = name if part is None else " ".join([part["measure"], *values])
        found.append(shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 1]}…")
    return found


def _bytes(value: str) -> str:
    return charts.bytes_text(float(value)) if value.isdecimal() and len(value) < 16 else value
