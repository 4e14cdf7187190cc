"""Charts laid out: where each line, tick, bar and cell of a picture stands. Templates draw them; nothing else is needed.

Coordinates are rounded to a tenth, so that one assessment always gives the same bytes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from readiness.rendering.text import figure

Point = tuple[float, float]
_WIDTH, _HEIGHT = 576.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 546.0, 22.0, 216.0
DECIMAL = (2.0, 10.0, 1e3, 1e6)
BINARY = (2.0, 4.0, 16.0, 64.0, 1024.0)
#: So many lines have a style of their own.
MOST_LINES = 6
_MOST_POINTS = 400
_MOST_DOTS = 60
_BAR_WIDTH, _BAR_STEP = 240.0, 22.0
_FARTHEST = 1e300
#: A smaller range of values, as a share of them, is drawn as none.
_LEAST_RANGE = 2e-3


@dataclass(frozen=True, slots=True)
class Series:
    """One line: points by their x. Not finite ones leave a gap."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and what stands there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line laid out: an SVG path, and dots where the points are few. `style` is its number among the styles of lines."""

    name: str
    style: int
    path: str
    dots: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines over an x axis. `band` is an SVG path; `rules` are limits, `marks` moments."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str = ""
    band: str = ""
    rules: tuple[Tick, ...] = ()
    marks: tuple[Tick, ...] = ()
    notes: tuple[str, ...] = ()
    width: float = field(default=_WIDTH, init=False)
    height: float = field(default=_HEIGHT, init=False)
    left: float = field(default=_LEFT, init=False)
    right: float = field(default=_RIGHT, init=False)
    top: float = field(default=_TOP, init=False)
    bottom: float = field(default=_BOTTOM, init=False)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, its figure, how long it is. `style` is the class that fills it."""

    name: str
    text: str
    length: float
    style: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars from zero, one below the other, each `width` wide and `step` high. `rule` is where a limit stands, if any."""

    title: str
    bars: tuple[Bar, ...]
    rule: float | None = None
    width: float = field(default=_BAR_WIDTH, init=False)
    step: float = field(default=_BAR_STEP, init=False)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a map. `style` is its class, `hint` what is said of it where one points at it."""

    text: str
    style: str = ""
    hint: str = ""


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    band: Sequence[tuple[float, float, float]] = (),
    rules: Sequence[tuple[float, str]] = (),
    marks: Sequence[tuple[float, str]] = (),
    summary: str = "",
    notes: Sequence[str] = (),
    x_text: Callable[[float], str] = figure,
    y_text: Callable[[float], str] = figure,
    x_powers: Sequence[float] = DECIMAL,
) -> LineChart | None:
    """Lines, a band (x, low, high), horizontal limits and vertical marks; None where there is no point to draw.

    More lines than there are styles are counted in a note. `x_powers` are the numbers whose powers may be ticks where it
    is logarithmic, from which the first is taken that gives few enough.
    """
    shown = [one for one in series if any(map(_finite, one.points))][:MOST_LINES]
    if not shown:
        return None
    points = [point for one in shown for point in one.points if _finite(point)]
    sides = [(x, side) for x, low, high in band for side in (low, high) if _finite((x, side))]
    horizontal = _Scale([x for x, _ in (*points, *sides)], _LEFT, _RIGHT, log=log_x, text=x_text, powers=x_powers)
    heights = [y for _, y in (*points, *sides)] + [at for at, _ in rules if abs(at) < _FARTHEST]
    vertical = _Scale(heights, _BOTTOM, _TOP, log=log_y, text=y_text, margin=True)
    left_out = len([one for one in series if any(map(_finite, one.points))]) - len(shown)
    further = [f"{left_out} further lines are in the JSON assessment"] if left_out else []
    gaps = [text for one in series if (text := _gap(one, x_label, x_text)) is not None][:MOST_LINES]
    return LineChart(
        title=title, x_label=x_label, y_label=y_label, summary=summary, notes=(*notes, *gaps, *further),
        lines=tuple(_line(one, number, horizontal, vertical) for number, one in enumerate(shown)),
        x_ticks=horizontal.ticks(7), y_ticks=vertical.ticks(5),
        band=_band([(x, low, high) for x, low, high in band if _finite((low, high))], horizontal, vertical),
        rules=tuple(Tick(vertical(at), text) for at, text in rules if abs(at) < _FARTHEST),
        marks=tuple(Tick(horizontal(at), text) for at, text in marks if horizontal.covers(at)),
    )  # fmt: skip


def bar_chart(
    title: str, bars: Iterable[tuple[str, float, str, bool]], *, limit: float | None = None, log: bool = False
) -> BarChart | None:
    """Bars of name, value, text and whether it failed; what is not finite takes the whole width. None without bars."""
    entries = list(bars)
    if not entries:
        return None
    finite = [value for _, value, _, _ in entries if math.isfinite(value) and value > 0]
    most = max([*finite, *([limit] if limit else [])], default=1.0)
    least = min([*finite, *([limit] if limit else [])], default=1.0) / 2

    def share(value: float) -> float:
        if not math.isfinite(value):
            return 1.0
        if value <= 0:
            return 0.0
        return math.log(value / least) / math.log(most / least) if log and most > least else value / most

    return BarChart(
        title=title,
        rule=None if limit is None else round(_BAR_WIDTH * share(limit), 1),
        bars=tuple(
            Bar(name, text, round(_BAR_WIDTH * min(max(share(value), 0.0), 1.0), 1), "fail" if bad else "d0")
            for name, value, text, bad in entries
        ),
    )


def heat_style(value: float | None, low: float, high: float) -> str:
    """The class of a cell by where its value lies between the lowest and the highest; empty where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    share = (value - low) / (high - low) if high > low else 1.0
    return f"h{min(int(share * 5), 4)}"


_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"


def shows_blocks(encoding: str | None) -> bool:
    """Return True if a stream of this encoding takes what `sparkline` draws with blocks."""
    try:
        _BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def sparkline(values: Sequence[float], columns: int = 24, *, blocks: bool = True) -> str:
    """Return a curve as one line of a terminal, `▁▂▅█`; empty where nothing is finite. What is not finite shows as a blank.

    Of more values than `columns` each column shows the one of its stretch that lies furthest from the middle, so that no
    spike is lost. Without `blocks` it is drawn in ASCII.
    """
    finite = [value for value in values if abs(value) < _FARTHEST]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    steps = _BLOCKS if blocks else _ASCII
    if len(values) > columns:
        edges = [number * len(values) // columns for number in range(columns + 1)]
        middle = (low + high) / 2
        stretches = ([value for value in values[start:end] if abs(value) < _FARTHEST] for start, end in pairwise(edges))
        values = [max(stretch, key=lambda value: abs(value - middle), default=math.nan) for stretch in stretches]
    return "".join(
        steps[min(int((value - low) / (high - low) * len(steps)), len(steps) - 1) if high > low else 0]
        if abs(value) < _FARTHEST else " "
        for value in values
    )


def bytes_text(size: float) -> str:
    """`4 KiB`, `16 MiB`."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 2**power:
            return f"{size / 2**power:.3g} {unit}"
    return f"{size:.3g} B"


def _finite(point: Point) -> bool:
    """Return whether a point is finite: infinities have no position."""
    return abs(point[0]) < _FARTHEST and abs(point[1]) < _FARTHEST


def _gap(series: Series, x_label: str, x_text: Callable[[float], str]) -> str | None:
    """Return a sentence about the points of a line that are not finite, so that nobody takes a gap for no evidence."""
    odd = [x for x, y in series.points if not math.isfinite(y)]
    if not odd:
        return None
    where = f"{'at' if len(odd) == 1 else 'first at'} {x_label} {x_text(odd[0])}, {len(odd)} of {len(series.points)} points"
    return f"{series.name}: not finite, or missing, {where}"


def _line(series: Series, number: int, horizontal: _Scale, vertical: _Scale) -> Line:
    points = _thinned(list(series.points))
    path, joined = "", False
    dots = []
    for point in points:
        if not _finite(point):
            joined = False
            continue
        x, y = horizontal(point[0]), vertical(point[1])
        path += f"{'L' if joined else 'M'}{x} {y}"
        joined = True
        dots.append((x, y))
    return Line(series.name, number, path, tuple(dots) if len(dots) <= _MOST_DOTS else ())


def _thinned(points: list[Point]) -> list[Point]:
    """At most so many points; the lowest and the highest of each stretch stay, so that no spike is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    stretch = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        finite = [point for point in part if _finite(point)]
        low = min(finite, key=lambda point: point[1], default=part[0])
        high = max(finite, key=lambda point: point[1], default=part[0])
        kept += sorted({low, high})
    return kept


def _band(edges: Sequence[tuple[float, float, float]], horizontal: _Scale, vertical: _Scale) -> str:
    if not edges:
        return ""
    upper = [f"{horizontal(x)} {vertical(high)}" for x, _, high in edges]
    lower = [f"{horizontal(x)} {vertical(low)}" for x, low, _ in reversed(edges)]
    return f"M{'L'.join([*upper, *lower])}Z"


class _Scale:
    """From values to places between two ends, linear or logarithmic."""

    def __init__(
        self,
        values: Sequence[float],
        begin: float,
        end: float,
        *,
        log: bool,
        text: Callable[[float], str],
        margin: bool = False,
        powers: Sequence[float] = DECIMAL,
    ) -> None:
        self.begin, self.end, self.text, self.bases = begin, end, text, powers
        self.log = log and min(values) > 0
        low, high = (self._of(pick(values)) for pick in (min, max))
        if high - low <= _LEAST_RANGE * abs(high) and not self.log:  # the four digits of a tick tell less apart no more
            slack = abs(low) * 0.1 or 1.0
            low, high = low - slack, high + slack
        elif low == high:
            low, high = low - 1.0, high + 1.0
        elif margin:
            slack = (high - low) * 0.06
            low, high = (low if low == 0 else low - slack), high + slack
            if not self.log and min(values) >= 0:
                low = max(low, 0.0)
        self.low, self.high = low, high

    def _of(self, value: float) -> float:
        return math.log10(max(value, sys.float_info.min)) if self.log else value

    def covers(self, value: float) -> bool:
        """Return whether a point lies within the axis."""
        return math.isfinite(value) and (value > 0 or not self.log) and self.low <= self._of(value) <= self.high

    def __call__(self, value: float) -> float:
        share = (self._of(value) - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)

    def ticks(self, most: int) -> tuple[Tick, ...]:
        """Round values, at most so many."""
        values = self._powers(most) if self.log else self._steps(most)
        return tuple(Tick(self(value), self.text(value)) for value in values)

    def _powers(self, most: int) -> list[float]:
        powers = range(0)
        for base in self.bases:
            step = math.log10(base)
            powers = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
            if len(powers) <= most:
                break
        if len(powers) < 2:
            return [10.0 ** min(end, 308.0) for end in (self.low, self.high)]
        ends = (10.0 ** min(power * step, 308.0) for power in powers[:: math.ceil(len(powers) / most)])
        return [float(f"{end:.12g}") for end in ends]

    def _steps(self, most: int) -> list[float]:
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [round(number * step, 12) for number in range(first, math.floor(self.high / step + 1e-9) + 1)]
