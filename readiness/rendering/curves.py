"""Curves that the evidence holds: losses over steps, sensors over time, bandwidth over sizes; for pictures and terminals.

A curve is made of rows of a published shape (`readiness.rendering.row_shapes`), of older rows that have none, or of
measurements; where its evidence is not there, or is no curve, there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from readiness.datamodel import AcceleratorAssessment, Evidence, Finding, Labels
from readiness.rendering import row_shapes
from readiness.rendering.charts import BINARY, DECIMAL, Series, bytes_text, sparkline
from readiness.rendering.row_shapes import SHAPE, Row
from readiness.rendering.text import clean, cut, figure, width

#: A curve of fewer points says no more than its ends; a longer name is cut; wider sparklines would leave no room for words.
_FEWEST_POINTS, _LONGEST_NAME, _SPARKS = 3, 36, 24


@dataclass(frozen=True, slots=True)
class Curve:
    """Curve: lines over an axis. `band` is (x, low, high), `rules` horizontal limits, `marks` moments, `more` a sentence.

    `name` and `words` are for one line of a terminal: what the first series is, and between which values it runs.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str
    y_label: str
    name: str = ""
    words: str = ""
    more: str = ""
    summary: str = ""
    log_x: bool = False
    log_y: bool = False
    band: tuple[tuple[float, float, float], ...] = ()
    rules: tuple[tuple[float, str], ...] = ()
    marks: tuple[tuple[float, str], ...] = ()
    x_text: Callable[[float], str] = figure
    x_powers: Sequence[float] = DECIMAL


# -------------------------------------------------------------------------------------------------------------- parity


def training_curves(piece: Evidence, findings: Sequence[Finding] = ()) -> Iterator[Curve]:
    """Yield the losses of each training run beside those of the reference in float64."""
    for row in piece.rows:
        if SHAPE in row and (row[SHAPE] != row_shapes.TRAINING or row_shapes.problem(row) is not None):
            continue
        losses, reference = numbers(row.get("losses")), numbers(row.get("reference_losses", row.get("losses_alone")))
        if len(losses) < 2 or len(reference) != len(losses):
            continue
        cells = ("mode", "dtype", "precision", "optimizer")
        what = " ".join(clean(row[key], 40) for key in cells if isinstance(row.get(key), str))
        name = "on one chip" if "losses_alone" in row else "reference in float64"
        allowed = _allowed(piece.check, findings, row)
        band = ((step, value * (1 - allowed), value * (1 + allowed)) for step, value in enumerate(reference))
        shown = f" The band is what is allowed: {figure(100 * allowed)} % either way." if allowed else ""
        yield Curve(
            f"Training curve, {what}" if what else "Training curve",
            (Series("measured", list(enumerate(losses))), Series(name, list(enumerate(reference)))),
            x_label="step", y_label="loss", band=tuple(band) if allowed else (),
            more=f"The loss at each step beside the reference.{shown}",
            summary=f"{_from_to(losses)}; the reference {_from_to(reference)}",
            name=f"loss, {what}" if what else "loss",
            words=f"{figure(losses[0])} to {figure(losses[-1])} against {figure(reference[-1])}",
        )  # fmt: skip


def _from_to(values: Sequence[float]) -> str:
    return f"from {figure(values[0])} to {figure(values[-1])}"


def _allowed(check: str, findings: Iterable[Finding], row: Row) -> float:
    """Return how far a loss may be from the reference, as a share of it, by this run's requirement; 0 without one."""
    for finding in findings:
        meant = (finding.check, finding.measure) == (check, "loss_difference")
        if meant and all(row.get(key, value) == value for key, value in finding.labels.items()):
            return upper_limit(finding)
    return 0.0


def upper_limit(finding: Finding) -> float:
    """Return the number of an upper limit, 0 if there is none."""
    operator, _, number_text = finding.limit.partition(" ")
    try:
        return float(number_text) if operator == "at_most" else 0.0
    except ValueError:
        return 0.0


# ----------------------------------------------------------------------------------------------------------- stability


def over_time(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Curve]:
    """Yield temperature, clock, power and pace over the time of a load or a soak."""
    for row in row_shapes.of(piece.rows, row_shapes.SERIES):
        yield from _over_time(piece.check, {clean(name, 40): numbers(values) for name, values in row["columns"].items()})
    samples = [row for row in piece.rows if SHAPE not in row and is_number(row.get("sample_at_s"))]
    if samples:
        names = ("temperature_c", "clock_mhz", "power_w", "round_s", "loss")
        columns = {name: [number(row.get(name)) for row in samples] for name in names}
        columns = {name: values for name, values in columns.items() if any(map(math.isfinite, values))}
        yield from _over_time(piece.check, {"at_s": [number(row["sample_at_s"]) for row in samples], **columns})


_LABELS = {
    "temperature_c": ("Temperature", "°C"), "clock_mhz": ("Clock", "MHz"), "power_w": ("Power", "W"),
    "device_ms": ("Time of one matrix product", "ms"), "round_s": ("Time of one round", "s"), "loss": ("Loss", "loss"),
}  # fmt: skip
_BESIDE = {"device_ms": ("host_ms", "on the host"), "round_s": ("", "")}


def _over_time(check: str, columns: Mapping[str, Sequence[float]]) -> Iterator[Curve]:
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
        low, high = _ends(values)
        moments = f", throttled {len(throttled)} of {len(at)} times" if throttled else ""
        yield Curve(
            f"{title} during {check}", tuple(series), x_label="seconds", y_label=unit, marks=tuple(throttled),
            summary=f"between {low} and {high} {unit}",
            more="Dotted lines are moments at which it throttled." if throttled else "",
            name=f"{title.lower().replace('matrix ', '')}, {check.rpartition('.')[2]}",
            words=f"{low} to {high} {unit}{moments}",
        )  # fmt: skip


def _ends(values: Sequence[float]) -> tuple[str, str]:
    finite = [value for value in values if math.isfinite(value)]
    return figure(min(finite)), figure(max(finite))


# ----------------------------------------------------------------------------------------------------------- multichip


def bandwidth_by_size(piece: Evidence, _: Sequence[Finding] = ()) -> Iterator[Curve]:
    """Yield the bus bandwidth of each collective by the size of its message, with the raw link beside it."""
    rows = list(row_shapes.of(piece.rows, row_shapes.BANDWIDTH))
    for row in rows:
        operations = {
            name: [(number(size), number(value)) for size, value in zip(row["bytes"], values, strict=True)]
            for name, values in zip(row["operations"], row["values"], strict=True)
        }
        raw = number(row.get("raw"))
        yield from _bandwidth(operations, str(row["ranks"]), clean(row["unit"], 20), raw, clean(row.get("raw_kind", ""), 40))
    if rows:
        return
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}  # of older assessments
    for item in piece.measurements:
        labels: Labels = item.labels
        if item.name == "bus_gbps" and labels.get("bytes", "").isdecimal() and labels.get("op"):
            group = labels.get("group", "")
            groups.setdefault(group, {}).setdefault(labels["op"], []).append((float(labels["bytes"]), float(item.value)))
    for group, operations in groups.items():
        yield from _bandwidth(operations, group, "GB/s", max(_raw_rates(piece.rows), default=math.nan), "")


def _bandwidth(
    operations: Mapping[str, Sequence[tuple[float, float]]], group: str, unit: str, raw: float, raw_kind: str
) -> Iterator[Curve]:
    finite = {
        name: sorted(point for point in points if math.isfinite(point[1])) for name, points in sorted(operations.items())
    }
    if max(map(len, finite.values()), default=0) < 2:
        return
    series = tuple(Series(clean(name, 40), points) for name, points in finite.items() if points)
    ranks = f", {clean(group, 20)} ranks" if group else ""
    transfer = f"raw {raw_kind or 'transfer'}"
    beside = f" The dashed line is what a {transfer} over the link reached." if raw > 0 else ""
    yield Curve(
        f"Bandwidth by message size{ranks}", series, x_label="size of the message", y_label=f"{unit} (bus)",
        log_x=True, log_y=True, x_text=bytes_text, x_powers=BINARY,
        rules=((raw, f"{transfer} {figure(raw)} {unit}"),) if raw > 0 else (),
        more=f"Bytes that each link carries a second, by collective.{beside}",
        summary="; ".join(f"{one.name} up to {figure(max(y for _, y in one.points))}" for one in series),
        name=f"bandwidth{ranks}",
    )  # fmt: skip


def _raw_rates(rows: Iterable[Row]) -> list[float]:
    return [
        float(value) for row in rows if "link" in row
        for name, value in row.items() if str(name).startswith("raw_") and is_number(value)
    ]  # fmt: skip


Maker = Callable[[Evidence, Sequence[Finding]], Iterator[Curve]]
#: What each check's evidence holds, in the order in which a terminal shows it.
MAKERS: Mapping[str, Maker] = {
    "stability.load": over_time,
    "parity.training": training_curves,
    "multichip.soak": over_time,
    "multichip.bandwidth": bandwidth_by_size,
    "multichip.parallelism": training_curves,
}


# ------------------------------------------------------------------------------------------------------------ terminal


def lines(item: AcceleratorAssessment, columns: int, *, blocks: bool = True) -> list[str]:
    """Return a line for each curve: its name, a sparkline, and between which values it runs; `blocks` as in `sparkline`."""
    by_check = {piece.check: piece for piece in item.evidence}
    entries = [
        entry for check, maker in MAKERS.items() if check in by_check
        for curve in maker(by_check[check], item.findings) for entry in _entries(curve)
        if len(entry[1]) >= _FEWEST_POINTS
    ]  # fmt: skip
    column = min(max((width(name) for name, _, _ in entries), default=0), _LONGEST_NAME, 2 * columns // 5)
    sparks = min(_SPARKS, columns // 6)
    drawn = [(cut(name, column), sparkline(values, sparks, blocks=blocks), words) for name, values, words in entries]
    widest = max((width(curve) for _, curve, _ in drawn), default=0)
    return [
        cut(f"{name}{' ' * (column - width(name))}  {curve}{' ' * (widest - width(curve))}  {words}", columns)
        for name, curve, words in drawn
    ]


def _entries(curve: Curve) -> Iterator[tuple[str, Sequence[float], str]]:
    """Yield name, values and words of each line: of the first series, or of several of one kind each."""
    if curve.words:
        yield curve.name, _heights(curve, curve.series[0]), curve.words
        return
    for one in curve.series:
        x, y = max(one.points, key=lambda point: point[1])
        unit = curve.y_label.partition(" ")[0]
        yield f"{one.name} {curve.name}", _heights(curve, one), f"up to {figure(y)} {unit} at {curve.x_text(x)}"


def _heights(curve: Curve, series: Series) -> list[float]:
    """Return the values as high as the picture draws them."""
    values = [y for _, y in series.points]
    return [math.log(y) if 0 < y < math.inf else math.nan for y in values] if curve.log_y else values




# ------------------------------------------------------------------------------------------------------------- figures


def is_number(value: object) -> bool:
    """Return True if a cell of a row is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value: object) -> float:
    """Return a number of a row; NaN for what is none, by its name or because it is missing."""
    if isinstance(value, str):
        return {"Infinity": math.inf, "-Infinity": -math.inf}.get(value, math.nan)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def numbers(values: object) -> list[float]:
    """Return the numbers of a cell that is a list; none if it is no list."""
    return list(map(number, values)) if isinstance(values, list | tuple) else []
