"""Wherever a score stands, its verdict stands before it: 61 beside a blocker must not read as a good mark."""

from __future__ import annotations

import html
import json
import re

import pytest

from readiness.rendering import formats
from tests.support import build

#: Score and ceiling of `build.everything()`, as reports write them.
SCORE = re.compile(r"\b61(?:\.2)?\.\.97|\b61\.2\b")


def verdict_before(text: str) -> list[bool]:
    """For each score whether a verdict stands shortly before it."""
    return [bool(re.search(r"(?i)not.ready", text[max(0, found.start() - 80) : found.start()])) for found in SCORE.finditer(text)]


@pytest.mark.parametrize("name", ["table", "line", "markdown", "nagios"])
def test_texts(name: str) -> None:
    text = formats.render(name, build.everything())
    text = text.partition(" | ")[0] if name == "nagios" else text  # performance data: see below
    found = verdict_before(text)
    assert found
    assert all(found), name


def test_performance_data_says_first_whether_it_is_ready() -> None:
    _, _, figures = formats.render("nagios", build.everything()).partition("|")
    names = [figure.partition("=")[0] for figure in figures.split()]
    for use in ("training", "inference"):
        assert names.index(f"{use}_ready") < names.index(f"{use}_score")
    assert "training_ready=0;" in figures


def test_metrics_say_that_a_score_makes_nothing_ready() -> None:
    text = formats.render("openmetrics", build.everything())
    assert text.index("readiness_verdict{") < text.index("readiness_score{")
    (help_line,) = [line for line in text.splitlines() if line.startswith("# HELP readiness_score ")]
    assert "makes none of them ready" in help_line


def test_the_page_colours_and_names_a_score_by_its_verdict() -> None:
    page = html.unescape(formats.render("html", build.everything()))
    bars = re.findall(r'<svg class="bar of-(\w+)"[^>]*aria-label="([A-Z ]+): 61\.2', page)
    assert ("bad", "NOT READY") in bars
    assert "NOT READY, 61..97 of 100 points" in page


def test_json_says_the_verdict_before_the_score() -> None:
    document = json.loads(formats.render("json", build.everything()))
    for item in document["accelerators"]:
        for verdict in item["verdicts"].values():
            assert list(verdict).index("verdict") < list(verdict).index("score")
