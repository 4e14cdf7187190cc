"""Pictures of what was measured, made of evidence alone: each is left out where its evidence is not there.

What the evidence holds for them stands in docs/reports.md: some rows have a `shape`, a published form with a version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from readiness.datamodel import AcceleratorAssessment, Evidence, Finding, Outcome, Status
from readiness.rendering import curves, row_shapes
from readiness.rendering.charts import BarChart, Cell, LineChart, bar_chart, heat_style, line_chart
from readiness.rendering.curves import is_number, number, upper_limit
from readiness.rendering.row_shapes import SHAPE
from readiness.rendering.text import clean, duration, figure

#: Of these outcomes of an operator there is nothing to report.
_CLEAN = ("native", "decomposed")
_STYLES = {
    "native": "good", "decomposed": "info", "CPU fallback": "warn", "missing": "bad", "wrong": "bad", "crash": "bad",
    "hang": "bad", "nondeterministic": "warn", "cannot be judged": "none",
}  # fmt: skip
_WORDS = {"CPU fallback": "on host", "cannot be judged": "not judged", "nondeterministic": "varies"}
_MOST_OPERATORS = 60
_MOST_BARS = 40
_MOST_TIMES = 12
_MOST_CHIPS = 24
_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Grid:
    """A map: names above, and rows of a name and its cells."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    style: str = "heat"
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: a chart or a map, with its title and a sentence on how to read it."""

    title: str
    more: str
    chart: LineChart | BarChart | Grid

    @property
    def kind(self) -> str:
        """The macro that draws it."""
        return {LineChart: "lines", BarChart: "bars", Grid: "grid"}[type(self.chart)]


def of_families(item: AcceleratorAssessment) -> dict[str, list[Picture]]:
    """All pictures that the evidence of an accelerator gives, by the family of checks that they belong to."""
    by_check = {piece.check: piece for piece in item.evidence}
    found: dict[str, list[Picture]] = {}
    for check, makers in _MAKERS.items():
        family = check.partition(".")[0]
        for maker in makers:
            if (piece := by_check.get(check)) is not None:
                found.setdefault(family, []).extend(maker(piece, item.findings))
    found.setdefault("parity", []).extend(errors_against_limits(item.findings))
    return {family: pictures for family, pictures in found.items() if pictures}


def left_out(item: AcceleratorAssessment) -> dict[str, list[str]]:
    """Return a sentence for each check with rows that do not fit the shape that they name, by family."""
    found: dict[str, list[str]] = {}
    for piece in item.evidence:
        odd = [(row, texts) for row in piece.rows if SHAPE in row and (texts := row_shapes.problem(row)) is not None]
        if not odd:
            continue
        row, texts = odd[0]
        first = f"{clean(piece.check, 60)}: a row of the shape {clean(row[SHAPE], 60)} makes no picture: {texts}"
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        found.setdefault(piece.check.partition(".")[0], []).append(first + more)
    return found


# ---------------------------------------------------------------------------------------------------------- operators


def operator_map(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Picture]:
    """Operators by dtype and phase: counted by outcome, and each by name that is not simply right."""
    whole = list(row_shapes.of(piece.rows, row_shapes.OPERATORS))
    if whole:
        yield from _counts(whole)
    outcomes: dict[str, dict[tuple[str, str], tuple[str, str]]] = {}
    for row in piece.rows:
        operator, outcome = row.get("operator"), row.get("outcome")
        if isinstance(operator, str) and outcome in _STYLES and outcome not in (*_CLEAN, "cannot be judged"):
            place = str(row.get("dtype", "")), str(row.get("phase", ""))
            outcomes.setdefault(operator, {})[place] = str(outcome), str(row.get("detail", ""))
    if not outcomes:
        return
    columns = sorted({place for places in outcomes.values() for place in places}, key=lambda place: (place[0],
    place[1] != "forward"))
    shown = sorted(outcomes, key=lambda name: (-len(outcomes[name]), name))[:_MOST_OPERATORS]
    rows = tuple((clean(name, 60), tuple(_outcome(outcomes[name].get(place)) for place in columns)) for name in shown)
    left_out = len(outcomes) - len(shown)
    more = "Operators that are missing, wrong, slow by design or not repeatable; all others that were tried are right."
    if left_out:
        more += f" {left_out} further ones are in the rows of {piece.check}."
    heads = tuple(clean(f"{dtype} {phase}", 40) for dtype, phase in columns)
    title = "Operator map of the model" if piece.check == "operators.workload" else "Operator map"
    yield Picture(title, more, Grid("operator", heads, rows, style="marks"))


def _outcome(found: tuple[str, str] | None) -> Cell:
    if found is None:
        return Cell("")
    outcome, detail = found
    return Cell(_WORDS.get(outcome, outcome), _STYLES[outcome], clean(detail, 300))


def _counts(whole: Sequence[Mapping[str, Any]]) -> Iterator[Picture]:
    """A row for each dtype, a column for each outcome."""
    counted: dict[str, dict[str, int]] = {}
    for row in whole:
        for phase in ("forward", "backward"):
            counts = {name: row[phase].count(code) for code, name in row["codes"].items()}
            if any(counts.get(name) for name in _STYLES):  # integers have no gradients
                counted[f"{clean(row['dtype'], 20)} {phase}"] = counts
    outcomes = [name for name in _STYLES if any(counts.get(name) for counts in counted.values())]
    if not outcomes:
        return
    rows = tuple(
        (name, tuple(Cell(str(counts[one]), _STYLES[one]) if counts.get(one) else Cell("") for one in outcomes))
        for name, counts in counted.items()
    )
    heads = tuple(_WORDS.get(name, name) for name in outcomes)
    more = "How many operators fared how; native has a kernel of its own, decomposed is made of other operators."
    yield Picture("Operators counted", more, Grid("dtype and phase", heads, rows, style="marks"))


# -------------------------------------------------------------------------------------------------------------- parity


def errors_against_limits(findings: Iterable[Finding]) -> list[Picture]:
    """Errors of numerical checks as a share of what is allowed, one picture for each dtype."""
    by_dtype: dict[str, dict[str, tuple[float, Finding]]] = {}
    for finding in findings:
        if finding.measure not in ("bound_ratio", "relative_error", "gradient_error", "forward_error", "logit_error"):
            continue
        bound = upper_limit(finding)
        if finding.outcome in (Outcome.PASS, Outcome.FAIL) and isinstance(finding.value, int | float) and bound:
            dtype = finding.labels.get("dtype", "")
            share = float(finding.value) / bound if math.isfinite(float(finding.value)) else math.inf
            by_dtype.setdefault(clean(dtype, 40), {})[clean(finding.requirement, 200)] = share, finding
    pictures = []
    for dtype, shares in sorted(by_dtype.items()):
        worst = sorted(shares.items(), key=lambda entry: -entry[1][0])[:_MOST_BARS]
        bars = [
            (_short(name, dtype), share, figure(share) if math.isfinite(share) else figure(finding.value),
             finding.outcome is Outcome.FAIL)
            for name, (share, finding) in worst
        ]
        title = f"Error against its bound{f' in {dtype}' if dtype else ''}"
        chart = bar_chart(title, bars, limit=1.0, log=True)
        if chart is not None:
            more = "Measured error as a share of what the requirement allows (dashed line), on a logarithmic scale."
            pictures.append(Picture(title, more, chart))
    return pictures


def _short(name: str, dtype: str) -> str:
    """A requirement without its dtype, which stands above."""
    name = name.removesuffix(f"-{dtype}")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


# ----------------------------------------------------------------------------------------------------------- stability


def soak_exposure(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Picture]:
    """Return a chart of what a soak proves about the time between faults, beside the requirement."""
    exposure = next((row for row in piece.rows if is_number(row.get("exposure_s"))), None)
    bounds = [
        (item.name, float(item.value)) for item in piece.measurements
        if item.name in ("chip_mtbf_h", "host_mtbf_h", "job_mtbf_h") and math.isfinite(float(item.value))
    ]  # fmt: skip
    if exposure is None or not bounds:
        return
    hours = next((float(item.value) for item in piece.measurements if item.name == "exposure_chip_hours"), math.nan)
    faults = next((float(item.value) for item in piece.measurements if item.name == "faults"), math.nan)
    words = {"chip_mtbf_h": "one chip", "host_mtbf_h": "one host", "job_mtbf_h": "the job"}
    bars = [("observed (chip hours)", hours, f"{figure(hours)} h", False)] if math.isfinite(hours) else []
    bars += [(f"proven, {words[name]}", value, f"{figure(value)} h", False) for name, value in bounds]
    chart = bar_chart("Hours between faults", bars, log=True)
    if chart is not None:
        work = duration(float(exposure["exposure_s"]))
        seen = f"{int(faults)} fault{'' if faults == 1 else 's'} in {work} of work; " if math.isfinite(faults) else ""
        more = f"{seen}hours between faults that this proves, on a logarithmic scale."
        yield Picture("Soak: exposure and what it proves", more, chart)


# ----------------------------------------------------------------------------------------------------------- multichip


def pair_matrix(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Picture]:
    """The bandwidth between each pair of chips."""
    for row in row_shapes.of(piece.rows, row_shapes.PAIRS):
        chips = row["chips"]
        count = min(len(chips), _MOST_CHIPS)
        table = [[number(cell) for cell in line[:count]] for line in row["values"][:count]]
        finite = [cell for line in table for cell in line if math.isfinite(cell)]
        if not finite:
            continue
        low, high = min(finite), max(finite)
        names = tuple(clean(chip, 30) for chip in chips[:count])
        rows = tuple(
            (name, tuple(Cell(figure(cell) if math.isfinite(cell) else "", heat_style(cell, low, high)) for cell in line))
            for name, line in zip(names, table, strict=True)
        )
        unit, what = clean(row["unit"], 20), clean(row["what"], 100)
        more = f"{unit}; the darker, the faster. Between {figure(low)} and {figure(high)} {unit}."
        more += f" The first {count} of {len(chips)} chips." if count < len(chips) else ""
        yield Picture(f"Between pairs of chips, {piece.check}: {what}", more, Grid("from, to", names, rows))


# ---------------------------------------------------------------------------------------------------------------- time


def times(item: AcceleratorAssessment) -> Picture | None:
    """Times of the checks, slowest first."""
    pieces = [piece for piece in item.evidence if piece.all_tries_s > 0]
    pieces.sort(key=lambda piece: (-piece.all_tries_s, piece.check))
    bars = [
        (
            clean(piece.check, 60), piece.all_tries_s, duration(piece.all_tries_s),
            piece.status in (Status.CRASHED, Status.TIMEOUT),
        )
        for piece in pieces[:_MOST_TIMES]
    ]  # fmt: skip
    rest = pieces[_MOST_TIMES:]
    if rest:
        seconds = sum(piece.all_tries_s for piece in rest)
        bars.append((f"{len(rest)} more", seconds, duration(seconds), False))
    title = "Where the time went"
    chart = bar_chart(title, bars)
    return None if chart is None else Picture(title, "", chart)


Maker = Callable[[Evidence, Sequence[Finding]], Iterator[Picture]]


def _drawn(maker: curves.Maker) -> Maker:
    """Return the maker of pictures of the curves that `maker` finds."""

    def make(piece: Evidence, findings: Sequence[Finding]) -> Iterator[Picture]:
        for curve in maker(piece, findings):
            chart = line_chart(
                curve.title, curve.series, x_label=curve.x_label, y_label=curve.y_label, log_x=curve.log_x,
                log_y=curve.log_y, band=curve.band, rules=curve.rules, marks=curve.marks, summary=curve.summary,
                x_text=curve.x_text, x_powers=curve.x_powers,
            )  # fmt: skip
            if chart is not None:
                yield Picture(chart.title, curve.more, chart)

    return make


_MAKERS: Mapping[str, tuple[Maker, ...]] = {
    "operators.sweep": (operator_map,),
    "operators.workload": (operator_map,),
    "parity.training": (_drawn(curves.training_curves),),
    "multichip.parallelism": (_drawn(curves.training_curves),),
    "multichip.bandwidth": (_drawn(curves.bandwidth_by_size), pair_matrix),
    "multichip.links": (pair_matrix,),
    "multichip.soak": (_drawn(curves.over_time), soak_exposure),
    "stability.load": (_drawn(curves.over_time),),
}
