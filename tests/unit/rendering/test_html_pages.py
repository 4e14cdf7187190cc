"""The environment of HTML pages and the charts that they draw."""

from __future__ import annotations

import math
import re

import pytest

from readiness.rendering import charts, html
from tests.support.pages import without_tools

HOSTILE = "<script>alert(1)</script> ]]> \x1b[31mred\x07 \u202eevil\u200b \"quote' &amp; ::error::x"


def page(source: str, **values: object) -> str:
    text = '{% extends "page.html.jinja" %}{% import "parts.html.jinja" as parts with context %}'
    text += '{% import "charts.html.jinja" as drawn with context %}{% block title %}t{% endblock %}{% block head %}{% endblock %}'
    template = html.environment().from_string(f"{text}{{% block main %}}{source}{{% endblock %}}")
    return template.render(ids=iter(map(str, range(1000))).__next__, simulated=False, **values)


def test_every_value_is_escaped_and_cleaned_in_every_template() -> None:
    text = page('<p title="{{ said }}">{{ said }}</p>{{ parts.table(said, [said], [[said, {"text": said, "style": "bad"}]]) }}'
                '{{ parts.grid(said, said, [said], [(said, [{"text": said, "style": "h1", "hint": said}])]) }}', said=HOSTILE)
    assert "<script" not in without_tools(text)
    assert not set("\x1b\x07\u202e\u200b") & set(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert 'title="&lt;script' in text
    assert "&#34;quote&#39;" in text


def test_a_page_requests_nothing_and_runs_nothing_but_our_script() -> None:
    text = without_tools(page(""))
    assert "default-src 'none'" in text
    assert not re.search(r"<script|<link|<img|<iframe|url\(http|@import| on\w+=", text)


def test_the_script_asks_for_nothing_and_makes_no_markup_of_texts() -> None:
    script = (html.FOLDER / "tools.js").read_text()
    assert not re.search(r"fetch|XMLHttp|import|innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(|https?:|cookie|Storage", script)
    assert "</" not in script
    assert len(script) < 5000


def test_what_the_script_adds_is_on_screens_alone() -> None:
    """Rows that a search hides are printed, and so is nothing that it adds: without it the page has neither."""
    style = page("")
    assert "@media screen { tr.off { display: none; } }" in style
    printed = style[style.index("@media print"):]
    assert re.search(r"\.skip, \.tools, th button::after \{ display: none; \}", printed)
    assert 'class="tools"' not in without_tools(style)


def test_a_misspelt_name_is_no_empty_text() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        page("{{ mispelt }}")


def test_pages_of_simulated_chips_are_marked_on_screen_and_on_every_printed_page() -> None:
    template = html.environment().from_string('{% extends "page.html.jinja" %}{% block title %}t{% endblock %}{% block head %}{% endblock %}{% block main %}{% endblock %}')
    marked, plain = (template.render(ids=None, simulated=simulated) for simulated in (True, False))
    assert marked.count(html.SIMULATED) == 2
    assert "@top-center" in marked
    assert html.SIMULATED not in plain


def test_lines_of_a_chart_keep_their_order_and_gaps() -> None:
    chart = charts.line_chart(
        "t", [charts.Series("a", [(1, 1.0), (2, math.nan), (3, 3.0)]), charts.Series("empty", [(1, math.inf)])],
        x_label="x", y_label="y", rules=[(5.0, "limit")], marks=[(2, "throttled"), (9, "outside")],
    )  # fmt: skip
    assert chart is not None
    assert [line.name for line in chart.lines] == ["a"]
    assert chart.lines[0].path.count("M") == 2  # a gap is no line through it
    assert chart.notes == ("a: not finite, or missing, at x 2, 1 of 3 points", "empty: not finite, or missing, at x 1, 1 of 1 points")
    (_, low), (_, high) = chart.lines[0].dots
    assert low > high > chart.rules[0].at  # y grows downwards on a screen
    assert [mark.text for mark in chart.marks] == ["throttled"]
    assert all(chart.top <= tick.at <= chart.bottom for tick in chart.y_ticks)
    assert all(chart.left <= tick.at <= chart.right for tick in chart.x_ticks)


def test_a_chart_without_a_point_is_none() -> None:
    assert charts.line_chart("t", [charts.Series("a", [])], x_label="", y_label="") is None
    assert charts.bar_chart("t", []) is None


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0], [-3.0, 7.0], [1e-300, 1e299], [1e15, 1e15 + 1]])
@pytest.mark.parametrize("log", [False, True])
def test_axes_have_round_ticks_whatever_the_values(values: list[float], log: bool) -> None:
    chart = charts.line_chart("t", [charts.Series("a", list(enumerate(values, 1)))], x_label="", y_label="", log_y=log, log_x=log)
    assert chart is not None
    assert len(chart.y_ticks) <= 6
    assert len(chart.x_ticks) <= 9
    for x, y in chart.lines[0].dots:
        assert chart.left <= x <= chart.right
        assert chart.top <= y <= chart.bottom


def test_ticks_of_nearly_equal_values_differ() -> None:
    chart = charts.line_chart("t", [charts.Series("a", [(1, 5.08201), (2, 5.08202)])], x_label="", y_label="")
    assert chart is not None
    assert len({tick.text for tick in chart.y_ticks}) == len(chart.y_ticks) >= 2


def test_many_points_are_thinned_and_no_spike_is_lost() -> None:
    points = [(float(n), 1.0) for n in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    chart = charts.line_chart("t", [charts.Series("a", points)], x_label="", y_label="")
    assert chart is not None
    heights = [float(pair.split(" ")[1]) for pair in re.split("[ML]", chart.lines[0].path)[1:]]
    assert len(heights) < 1000
    assert min(heights) < min(sorted(heights)[1:]) - 100


def test_lines_beyond_the_styles_are_counted() -> None:
    chart = charts.line_chart("t", [charts.Series(str(n), [(1, n)]) for n in range(9)], x_label="", y_label="")
    assert chart is not None
    assert len(chart.lines) == charts.MOST_LINES
    assert chart.notes == ("3 further lines are in the JSON assessment",)


def test_bars_of_what_is_not_finite_or_zero() -> None:
    chart = charts.bar_chart("t", [("nan", math.nan, "NaN", True), ("none", 0.0, "0", False), ("one", 1.0, "1", False)], limit=2.0, log=True)
    assert chart is not None
    assert [bar.length for bar in chart.bars][:2] == [240.0, 0.0]
    assert chart.rule == chart.width


def test_sparklines() -> None:
    assert charts.sparkline([1, 2, 3, 4]) == "▁▃▆█"
    assert charts.sparkline([5.0, 5.0]) == "▁▁"
    assert charts.sparkline([1.0, math.nan, 2.0]) == "▁ █"
    assert charts.sparkline([math.inf]) == ""
    assert len(charts.sparkline(range(1000))) == 24


def test_cells_of_a_heat_map() -> None:
    assert [charts.heat_style(value, 0.0, 10.0) for value in (0.0, 5.0, 10.0, None, math.nan)] == ["h0", "h2", "h4", "", ""]
    assert charts.heat_style(3.0, 3.0, 3.0) == "h4"


def test_sizes_in_bytes_have_ticks_at_powers_of_two() -> None:
    points = [(float(2**power), 1.0) for power in range(12, 31, 3)]
    chart = charts.line_chart(
        "t", [charts.Series("a", points)], x_label="", y_label="", log_x=True, x_text=charts.bytes_text, x_powers=charts.BINARY
    )
    assert chart is not None
    assert [tick.text for tick in chart.x_ticks] == ["4 KiB", "64 KiB", "1 MiB", "16 MiB", "256 MiB"]
