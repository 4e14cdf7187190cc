"""Sparklines, and the curves of an accelerator as lines of a terminal."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import pytest

from readiness.datamodel import Evidence, Measurement, Status
from readiness.rendering import curves, formats, width
from readiness.rendering.charts import shows_blocks, sparkline
from readiness.rendering.formats import Request, render
from tests.support import build

STEPS = [5.0, 4.0, 3.2, 2.6, 2.1, 1.7, 1.4, 1.2, 1.1, 1.0]
TRAINING = {"shape": "training/1", "dtype": "bfloat16", "precision": "autocast", "losses": STEPS, "reference_losses": STEPS}
READINGS = {
    "shape": "series/1",
    "columns": {
        "at_s": [1, 2, 3, 4], "device_ms": [2.0, 2.0, 2.5, 9.0], "temperature_c": [40, 55, None, 80], "clock_mhz": [1980, 1980, 1410, 1200],
        "throttled": [0, 0, 1, 1],
    },
}  # fmt: skip
SIZES = tuple(
    Measurement("bus_gbps", rate, {"op": "all_reduce", "group": "4", "bytes": str(size)})
    for size, rate in ((1024, 0.1), (65536, 2.0), (4194304, 11.0))
)


def chip(*modes: str) -> Any:
    evidence = (
        Evidence("parity.training", Status.MEASURED, rows=(TRAINING, *({**TRAINING, "mode": mode} for mode in modes))),
        Evidence("stability.load", Status.MEASURED, rows=(READINGS,)),
        Evidence("multichip.bandwidth", Status.MEASURED, measurements=SIZES),
    )
    return replace(build.accelerator(()), evidence=evidence)


def test_a_sparkline_keeps_its_ends_its_spikes_and_its_gaps() -> None:
    assert sparkline([0.0, 1.0, 2.0, 3.0]) == "▁▃▆█"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([0.0, math.nan, 3.0, math.inf]) == "▁ █ "
    assert sparkline([]) == sparkline([math.nan, math.inf]) == ""
    spike = [1.0] * 1000
    spike[500] = 9.0
    assert sparkline(spike).count("█") == 1
    assert len(sparkline(spike)) == 24
    assert sparkline([1e308, -1e308, 0.0]) != ""


def test_in_ascii_it_has_as_many_steps() -> None:
    plain = sparkline([float(step) for step in range(8)], blocks=False)
    assert plain.isascii()
    assert len(set(plain)) == 8


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", True), ("UTF8", True), ("ascii", False), ("latin-1", False), (None, False), ("no-such", False)])
def test_an_encoding_shows_blocks_or_not(encoding: str | None, shown: bool) -> None:
    assert shows_blocks(encoding) is shown


@pytest.mark.parametrize("columns", [58, 78, 98])
def test_each_curve_is_a_line_that_fits(columns: int) -> None:
    lines = curves.lines(chip(), columns)
    assert [line.split()[0].rstrip(",") for line in lines] == ["temperature", "clock", "time", "loss", "all_reduce"]
    assert all(width(line) <= columns for line in lines)
    assert any("▁▄ █" in line for line in lines)


def test_the_table_has_the_first_curves_and_all_with_verbose() -> None:
    made = build.assessment(chip(*(f"mode {number}" for number in range(20))))
    short, whole = render("table", made), render("table", made, verbose=True)
    assert "CURVES" in short
    assert "40 to 80 °C, throttled 2 of 4 times" in short
    assert "and 17 more; -v shows them" in short
    assert "all_reduce bandwidth, 4 ranks" in whole
    assert "up to 11 GB/s at 4 MiB" in whole
    assert "5 to 1 against 1" in whole
    assert whole.count("loss, ") == 21
    assert all(width(line) <= 100 for line in whole.splitlines())


def test_no_curve_no_section() -> None:
    assert "CURVES" not in render("table", build.everything())


@pytest.mark.parametrize(("encoding", "drawn"), [("utf-8", "█"), ("ascii", "#")])
def test_a_stream_without_blocks_gets_ascii(encoding: str, drawn: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    formats.write(Request("table"), build.assessment(chip()), False, stream)
    stream.seek(0)
    text = stream.read()
    assert drawn in text[text.index("CURVES"):]
    assert "\\u258" not in text
