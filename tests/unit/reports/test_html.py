"""The HTML report: whole, self-contained, the same bytes twice; hostile text stays text; pictures come from rows alone."""

from __future__ import annotations

import html.parser
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from readiness.datamodel import Evidence, Measurement, Status
from readiness.rendering import pictures
from readiness.rendering.formats import formats, render
from readiness.rendering.html import SIMULATED
from tests import goldens
from tests.support import build, saved
from tests.support.pages import without_tools
from tests.unit.judging.test_diagnosis import chip

VOID = {"meta", "br", "wbr", "img", "link", "hr", "input"}
SVG_ALONE = {"path", "rect", "line", "circle"}


class Page(html.parser.HTMLParser):
    """Reads a page strictly: every element is closed, and no attribute runs or fetches anything."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.levels: list[int] = []
        self.text = ""
        self.feed(without_tools(text))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "action", "formaction", "poster", "data"), (tag, name)
            assert name != "href" or (value or "").startswith("#"), value
            if name == "id":
                self.ids.append(value or "")
        if tag == "th":
            assert dict(attrs).get("scope") in ("col", "row")
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_ALONE, tag
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open[:3]):
            self.text += data


SITUATIONS = {
    "everything": build.everything, "hostile": build.hostile, "nothing": build.nothing, "interrupted": build.interrupted,
    "simulated": build.simulated, "one use": build.one_use, "half blind": build.half_blind,
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_page_is_complete_requests_nothing_and_is_reproducible(situation: str) -> None:
    made = SITUATIONS[situation]()
    text = render("html", made)
    page = Page(text)
    assert render("html", SITUATIONS[situation]()) == text
    assert not {"script", "iframe", "object", "embed", "img", "link", "form", "base"} & set(page.tags)
    assert not re.search(r"url\((?!#)|@import|javascript:", without_tools(text))
    assert len(set(page.ids)) == len(page.ids)
    assert page.levels[0] == 1
    assert page.levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.levels, page.levels[1:], strict=False))
    assert text.startswith("<!DOCTYPE html>")
    assert (SIMULATED in page.text) is (situation == "simulated")


def test_what_is_hostile_is_shown_as_text() -> None:
    nasty = "<script>alert(1)</script>]]>\x1b[31m\u202e\"'<img src=x onerror=alert(1)>{{ 7 * 7 }}{% raw %}"
    made = replace(build.everything(), profile_title=nasty)
    findings = tuple(
        replace(finding, reason=nasty, why=nasty, source=nasty, title=nasty, unit=nasty, labels={nasty: nasty})
        for finding in made.accelerators[0].findings
    )
    rows: tuple[dict[str, Any], ...] = (
        {"operator": nasty, "outcome": "wrong", "dtype": nasty, "phase": nasty, "detail": nasty},
        {"shape": "operators/1", "dtype": nasty, "codes": {nasty: nasty, "w": "wrong"}, "operators": [nasty], "forward": "w"},
        {"shape": "pairs/1", "what": nasty, "unit": nasty, "chips": [nasty, nasty], "values": [[None, 1.0], [1.0, None]]},
        {"shape": "series/1", "columns": {"at_s": [1.0, 2.0], "device_ms": [1.0, 2.0], nasty: [1.0, 2.0]}},
        {"losses": [2.0, 1.0], "reference_losses": [2.0, 1.0], "dtype": nasty, "mode": nasty},
    )
    evidence = tuple(Evidence(check, Status.MEASURED, rows=rows, seconds=1.0) for check in pictures._MAKERS)
    item = replace(made.accelerators[0], findings=findings, evidence=evidence)
    text = render("html", replace(made, accelerators=(item,)))
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not {"\x1b", "\u202e"} & set(text)


def test_the_first_screen_answers_in_words() -> None:
    page = Page(render("html", chip("nan")))
    assert "Not ready to train" in page.text
    assert page.text.index("Not ready to train") < page.text.index("attention (scaled_dot_product_attention) yields NaN")
    assert page.text.index("attention (scaled_dot_product_attention) yields NaN") < page.text.index("Blockers")


def test_every_requirement_and_its_source_is_in_the_page(tmp_path: Path) -> None:
    made = saved.small(tmp_path)
    first = made.accelerators[0]
    findings = tuple(replace(finding, source=f"source of {finding.requirement}") for finding in first.findings)
    page = Page(render("html", replace(made, accelerators=(replace(first, findings=findings),))))
    for finding in findings:
        assert finding.requirement in page.text
        assert f"source of {finding.requirement}" in page.text
    assert "The model does not use it." in page.text


def test_thousands_of_accelerators_and_findings_make_a_page_of_bounded_size() -> None:
    lead = build.accelerator(tuple(build.failed(f"bad-{number}") for number in range(30)))
    items = tuple(
        replace(lead, facts=replace(lead.facts, id=f"npu:{number}", model=f"model {number % 500}")) for number in range(1000)
    )
    text = render("html", build.assessment(*items))
    assert len(text) < 2_000_000
    assert "further" in Page(text).text


def rows_of(check: str, *rows: dict[str, Any], measurements: tuple[Measurement, ...] = ()) -> Any:
    evidence = (Evidence(check, Status.MEASURED, rows=rows, measurements=measurements, seconds=1.0),)
    return replace(build.accelerator(()), evidence=evidence)


def titles(item: Any) -> list[str]:
    return [picture.title for drawn in pictures.of_families(item).values() for picture in drawn]


def test_each_picture_is_made_of_its_rows_and_left_out_without() -> None:
    assert pictures.of_families(replace(build.accelerator(()), evidence=())) == {}
    letters = {"shape": "operators/1", "dtype": "float32", "codes": {"n": "native", "w": "wrong"}, "operators": ["add", "mm"],
               "forward": "nw", "backward": "nn"}  # fmt: skip
    wrong = {"operator": "mm", "dtype": "float32", "phase": "forward", "outcome": "wrong", "detail": "off by one"}
    assert titles(rows_of("operators.sweep", letters, wrong)) == ["Operators counted", "Operator map"]
    curve = {"dtype": "float32", "losses": [3.0, 2.0], "reference_losses": [3.0, 2.1]}
    assert titles(rows_of("parity.training", curve)) == ["Training curve, float32"]
    series = {"shape": "series/1", "columns": {"at_s": [1.0, 2.0], "device_ms": [1.0, 2.0], "temperature_c": [40.0, None],
                                               "throttled": [0, 1]}}  # fmt: skip
    assert titles(rows_of("stability.load", series)) == ["Temperature during stability.load", "Time of one matrix product during stability.load"]
    pairs = {"shape": "pairs/1", "what": "one way", "unit": "GB/s", "chips": ["a", "b"], "values": [[None, 3.0], [3.0, None]]}
    assert titles(rows_of("multichip.links", pairs)) == ["Between pairs of chips, multichip.links: one way"]
    sizes = tuple(
        Measurement("bus_gbps", float(size), {"op": "all_reduce", "group": "4", "bytes": str(size)}) for size in (1024, 4096)
    )
    raw = {"link": "a, b", "raw_socket_gigabytes_a_second": 9.0}
    assert titles(rows_of("multichip.bandwidth", raw, measurements=sizes)) == ["Bandwidth by message size, 4 ranks"]
    soak = (Measurement("chip_mtbf_h", 5.0), Measurement("faults", 0), Measurement("exposure_chip_hours", 15.0))
    assert titles(rows_of("multichip.soak", {"exposure_s": 60.0}, measurements=soak)) == ["Soak: exposure and what it proves"]


@pytest.mark.parametrize("check", list(pictures._MAKERS))
def test_rows_of_another_form_make_no_picture_and_no_fault(check: str) -> None:
    values: list[Any] = [None, 3, "x", [], [[]], {"at_s": "x"}, {"at_s": [1], "device_ms": ["NaN"]}, [1, None, "NaN"]]
    odd: list[dict[str, Any]] = [
        {"shape": shape, "columns": value, "codes": value, "chips": value, "values": value, "dtype": value, "forward": value}
        for shape in ("operators/1", "pairs/1", "series/1", "unknown/9", 7)
        for value in values
    ]
    odd += [{"losses": value, "reference_losses": value} for value in (None, [], ["NaN"], ["NaN", "Infinity"], [1e308, -1e308], 10**400)]
    odd += [{"sample_at_s": 10**400}, {"sample_at_s": True}, {"exposure_s": "NaN"}, {"operator": "x", "outcome": "wrong", "phase": None}]
    render("html", build.assessment(rows_of(check, *odd)))


def test_the_training_curve_stands_in_the_band_that_is_allowed() -> None:
    curve = {"dtype": "float32", "losses": [3.0, 2.0], "reference_losses": [3.0, 2.1]}
    finding = build.finding("curve", check="parity.training", measure="loss_difference", limit="at_most 0.1", labels={"dtype": "float32"})
    item = replace(rows_of("parity.training", curve), findings=(finding,))
    (picture,) = pictures.of_families(item)["parity"]
    assert picture.kind == "lines"
    assert picture.chart.band  # type: ignore[union-attr]
    assert "10 % either way" in picture.more


def test_it_is_one_of_the_formats() -> None:
    assert formats()["html"].suffix == ".html"


def test_the_page_is_as_it_was(tmp_path: Path) -> None:
    """`python -m tests.goldens` writes it anew, for a change on purpose."""
    assert goldens.page(tmp_path) == (goldens.FOLDER / "report.html").read_text()


def test_one_requirement_is_one_point_however_many_accelerators_say_it_differently() -> None:
    items = [
        build.accelerator((build.failed("norms", reason=f"rank {number} is off"),), facts_=build.facts(f"npu:{number}"))
        for number in range(2, 9)
    ]
    text = " ".join(Page(render("html", build.assessment(*items))).text.split())
    blockers = text.partition("Blockers (1)")[2].partition("Details")[0]
    assert blockers.count("is off") == 3
    assert "and 4 more like these, in the tables below" in text
