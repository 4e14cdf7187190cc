"""Pictures of what was measured, made of evidence alone: each is left out where its evidence is not there.

What the evidence holds for them stands in docs/reports.md: some rows have a `shape`, a published form with a version.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from readiness.datamodel import AcceleratorAssessment, Evidence, Finding, Labels, Outcome, Status
from readiness.rendering.charts import (
    BINARY,
    BarChart,
    Cell,
    LineChart,
    Series,
    bar_chart,
    bytes_text,
    heat_style,
    line_chart,
)
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
_LONGEST_NAME = 30


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


# ---------------------------------------------------------------------------------------------------------- operators


def operator_map(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Picture]:
    """Operators by dtype and phase: counted by outcome, and each by name that is not simply right."""
    whole = [row for row in piece.rows if row.get("shape") == "operators/1"]
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
    yield Picture("Operator map", more, Grid("operator", heads, rows, style="marks"))


def _outcome(found: tuple[str, str] | None) -> Cell:
    if found is None:
        return Cell("")
    outcome, detail = found
    return Cell(_WORDS.get(outcome, outcome), _STYLES[outcome], clean(detail, 300))


def _counts(whole: Sequence[Mapping[str, Any]]) -> Iterator[Picture]:
    """A row for each dtype, a column for each outcome."""
    counted: dict[str, dict[str, int]] = {}
    for row in whole:
        codes = row.get("codes")
        if not isinstance(codes, Mapping):
            continue
        for phase in ("forward", "backward"):
            letters = str(row.get(phase, ""))
            counts = {str(name): letters.count(code) for code, name in codes.items() if isinstance(code, str) and code}
            counted[f"{clean(row.get('dtype'), 20)} {phase}"] = counts
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
        bound = _bound(finding)
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
        title = f"Error against its limit{f' in {dtype}' if dtype else ''}"
        chart = bar_chart(title, bars, limit=1.0, log=True, summary=_in_words(bars))
        if chart is not None:
            more = "Measured error as a share of what the requirement allows (dashed line), on a logarithmic scale."
            pictures.append(Picture(title, more, chart))
    return pictures


def _short(name: str, dtype: str) -> str:
    """A requirement without its dtype, which stands above."""
    name = name.removesuffix(f"-{dtype}")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _bound(finding: Finding) -> float:
    """The number of an upper limit, 0 where there is none."""
    operator, _, number = finding.limit.partition(" ")
    try:
        return float(number) if operator == "at_most" else 0.0
    except ValueError:
        return 0.0


def training_curves(piece: Evidence, findings: Sequence[Finding] = ()) -> Iterator[Picture]:
    """Losses of a training run beside those of the reference in float64."""
    for row in piece.rows:
        losses, reference = _numbers(row.get("losses")), _numbers(row.get("reference_losses", row.get("losses_alone")))
        if len(losses) < 2 or len(reference) != len(losses):
            continue
        what = " ".join(clean(row[key], 40) for key in ("mode", "dtype", "precision",
        "optimizer") if isinstance(row.get(key), str))
        name = "on one chip" if "losses_alone" in row else "reference in float64"
        allowed = _allowed(piece.check, findings, row)
        band = [(step, value * (1 - allowed), value * (1 + allowed)) for step,
        value in enumerate(reference)] if allowed else []
        title = f"Training curve, {what}" if what else "Training curve"
        chart = line_chart(
            title, [Series("measured", list(enumerate(losses))), Series(name, list(enumerate(reference)))],
            x_label="step", y_label="loss", band=band,
            summary=f"{_from_to(losses)}; the reference {_from_to(reference)}",
        )  # fmt: skip
        if chart is not None:
            shown = f" The band is what is allowed: {figure(100 * allowed)} % either way." if allowed else ""
            yield Picture(title, f"The loss at each step beside the reference.{shown}", chart)


def _from_to(values: Sequence[float]) -> str:
    return f"from {figure(values[0])} to {figure(values[-1])}"


def _allowed(check: str, findings: Iterable[Finding], row: Mapping[str, Any]) -> float:
    """Return how far a loss may be from the reference, as a share of it, by this run's requirement; 0 without one."""
    for finding in findings:
        meant = (finding.check, finding.measure) == (check, "loss_difference")
        if meant and all(row.get(key, value) == value for key, value in finding.labels.items()):
            return _bound(finding)
    return 0.0


# ----------------------------------------------------------------------------------------------------------- stability


def over_time(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Picture]:
    """Temperature, clock, power and pace over the time of a load or a soak."""
    for row in piece.rows:
        if row.get("shape") == "series/1" and isinstance(row.get("columns"), Mapping):
            columns = {clean(name, 40): _numbers(values) for name, values in row["columns"].items()}
            yield from _series(piece.check, columns)
    samples = [row for row in piece.rows if _is_number(row.get("sample_at_s"))]
    if samples:
        names = ("temperature_c", "clock_mhz", "power_w", "round_s", "loss")
        columns = {name: [_number(row.get(name)) for row in samples] for name in names}
        columns = {name: values for name, values in columns.items() if any(map(math.isfinite, values))}
        yield from _series(piece.check, {"at_s": [_number(row["sample_at_s"]) for row in samples], **columns})


_LABELS = {
    "temperature_c": ("Temperature", "°C"), "clock_mhz": ("Clock", "MHz"), "power_w": ("Power", "W"),
    "device_ms": ("Time of one matrix product", "ms"), "round_s": ("Time of one round", "s"), "loss": ("Loss", "loss"),
}  # fmt: skip
_BESIDE = {"device_ms": ("host_ms", "on the host"), "round_s": ("", "")}


def _series(check: str, columns: Mapping[str, Sequence[float]]) -> Iterator[Picture]:
    at = columns.get("at_s", ())
    if len(at) < 2:
        return
    throttled = [(moment, "throttled") for moment, flag in zip(at, columns.get("throttled", ()), strict=False) if flag == 1]
    for name, (title, unit) in _LABELS.items():
        values = columns.get(name, ())
        if len(values) != len(at) or not any(map(math.isfinite, values)):
            continue
        series = [Series("on the accelerator" if name in _BESIDE else title.lower(), list(zip(at, values, strict=True)))]
        beside, what = _BESIDE.get(name, ("", ""))
        if len(columns.get(beside, ())) == len(at):
            series.append(Series(what, list(zip(at, columns[beside], strict=True))))
        finite = [value for value in values if math.isfinite(value)]
        chart = line_chart(
            f"{title} during {check}", series, x_label="seconds", y_label=unit, marks=throttled,
            summary=f"between {figure(min(finite))} and {figure(max(finite))} {unit}",
        )  # fmt: skip
        if chart is not None:
            yield Picture(chart.title, "Dotted lines are moments at which it throttled." if throttled else "", chart)


def soak_exposure(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Picture]:
    """Return what a soak proves about the time between faults, beside what was requested."""
    exposure = next((row for row in piece.rows if _is_number(row.get("exposure_s"))), None)
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
    chart = bar_chart("Hours between faults", bars, log=True, summary=_in_words(bars))
    if chart is not None:
        work = duration(float(exposure["exposure_s"]))
        seen = f"{int(faults)} fault{'' if faults == 1 else 's'} in {work} of work; " if math.isfinite(faults) else ""
        more = f"{seen}hours between faults that this proves, on a logarithmic scale."
        yield Picture("Soak: exposure and what it proves", more, chart)


# ----------------------------------------------------------------------------------------------------------- multichip


def bandwidth_by_size(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Picture]:
    """Bus bandwidth of each collective by the size of its message, with the raw link beside it."""
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for item in piece.measurements:
        labels: Labels = item.labels
        if item.name == "bus_gbps" and labels.get("bytes", "").isdecimal() and labels.get("op"):
            group = labels.get("group", "")
            groups.setdefault(group, {}).setdefault(labels["op"], []).append((float(labels["bytes"]), float(item.value)))
    raw = _raw_rates(piece.rows)
    for group, operations in groups.items():
        if max(len(points) for points in operations.values()) < 2:
            continue
        series = [Series(clean(name, 40), sorted(points)) for name, points in sorted(operations.items())]
        title = f"Bandwidth by message size, {clean(group, 20)} ranks" if group else "Bandwidth by message size"
        rules = [(max(raw), f"raw link {figure(max(raw))} GB/s")] if raw else []
        chart = line_chart(
            title, series, x_label="size of the message", y_label="GB/s (bus)", log_x=True, log_y=True, rules=rules,
            x_text=bytes_text, x_powers=BINARY,
            summary="; ".join(f"{one.name} up to {figure(_highest(one.points))}" for one in series),
        )  # fmt: skip
        if chart is not None:
            beside = " The dashed line is what a raw copy over the link reached." if raw else ""
            yield Picture(title, f"Bytes that each link carries a second, by collective.{beside}", chart)


def _raw_rates(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    return [
        float(value) for row in rows if "link" in row
        for name, value in row.items() if str(name).startswith("raw_") and _is_number(value)
    ]  # fmt: skip


def pair_matrix(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Picture]:
    """The bandwidth between each pair of chips."""
    for row in piece.rows:
        chips, values = row.get("chips"), row.get("values")
        if row.get("shape") != "pairs/1" or not isinstance(chips, list) or not isinstance(values, list):
            continue
        count = min(len(chips), _MOST_CHIPS)
        table = [[_number(cell) for cell in _row(line, count)] for line in values[:count]]
        finite = [cell for line in table for cell in line if math.isfinite(cell)]
        if len(table) != count or not finite:
            continue
        low, high = min(finite), max(finite)
        names = tuple(clean(chip, 30) for chip in chips[:count])
        rows = tuple(
            (name, tuple(Cell(figure(cell) if math.isfinite(cell) else "", heat_style(cell, low, high)) for cell in line))
            for name, line in zip(names, table, strict=True)
        )
        unit, what = clean(row.get("unit"), 20), clean(row.get("what"), 100)
        more = f"{unit}; the darker, the faster. Between {figure(low)} and {figure(high)} {unit}."
        more += f" The first {count} of {len(chips)} chips." if count < len(chips) else ""
        yield Picture(f"Between pairs of chips: {what}", more, Grid("from, to", names, rows))


def _row(line: object, count: int) -> list[object]:
    found = list(line) if isinstance(line, list) else []
    return (found + [None] * count)[:count]


# ---------------------------------------------------------------------------------------------------------------- time


def times(item: AcceleratorAssessment) -> Picture | None:
    """Times of the checks, slowest first."""
    pieces = sorted((piece for piece in item.evidence if piece.seconds > 0), key=lambda piece: (-piece.seconds, piece.check))
    bars = [
        (clean(piece.check, 60), piece.seconds, duration(piece.seconds), piece.status in (Status.CRASHED, Status.TIMEOUT))
        for piece in pieces[:_MOST_TIMES]
    ]
    rest = pieces[_MOST_TIMES:]
    if rest:
        seconds = sum(piece.seconds for piece in rest)
        bars.append((f"{len(rest)} more", seconds, duration(seconds), False))
    title = "Where the time went"
    chart = bar_chart(title, bars, summary=_in_words(bars))
    return None if chart is None else Picture(title, "", chart)


_MAKERS = {
    "operators.sweep": (operator_map,),
    "operators.workload": (operator_map,),
    "parity.training": (training_curves,),
    "multichip.parallelism": (training_curves,),
    "multichip.bandwidth": (bandwidth_by_size, pair_matrix),
    "multichip.links": (pair_matrix,),
    "multichip.soak": (over_time, soak_exposure),
    "stability.load": (over_time,),
}


def _in_words(bars: Iterable[tuple[str, float, str, bool]]) -> str:
    """Bars in words, for those who cannot see them."""
    return "; ".join(f"{name} {text}" for name, _, text, _ in bars)


def _highest(points: Sequence[tuple[float, float]]) -> float:
    return max(y for _, y in points)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float:
    """A number of a row; NaN for what is none, by its name or because it is missing."""
    if isinstance(value, str):
        return {"Infinity": math.inf, "-Infinity": -math.inf}.get(value, math.nan)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _numbers(values: object) -> list[float]:
    return list(map(_number, values)) if isinstance(values, list | tuple) else []
