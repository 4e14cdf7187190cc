"""Machines side by side: best verdicts first, loud warnings, and no text of a device becomes anything else than text."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from jsonschema import Draft202012Validator

from readiness.cli.compare import names
from readiness.comparison import comparable_values, machine_page, machine_reports, machine_workbook
from readiness.comparison.machines import Comparison, compare, ranked
from readiness.datamodel import Assessment, Better, Decision, Level, Measurement, Outcome, Use
from readiness.documents import assessment as documents
from readiness.documents import schema
from readiness.errors import UsageError
from tests.support import build, checks
from tests.support.pages import without_tools

DIRECTIONS = {**comparable_values.directions(checks()), ("parity.matmul", "speed"): Better.HIGHER}


def machine(*findings: Any, speed: float = 100.0, settings: dict[str, Any] | None = None, **changes: Any) -> Assessment:
    """One accelerator with a speed."""
    figures = (Measurement("speed", speed, {}, "GB/s"),)
    piece = build.evidence(measurements=figures, settings=settings or {})
    facts = build.facts(**changes.pop("facts", {}))
    return build.assessment(build.accelerator(findings, (piece,), facts_=facts, score=changes.pop("score", 90.0)), **changes)


def good() -> Assessment:
    return machine(*build.on(build.BOTH, build.finding, "right"))


def bad() -> Assessment:
    return machine(
        build.failed("right", title="Products are right"), build.finding("right", Use.INFERENCE), speed=50.0,
        facts={"model": "Other", "vendor": "Else"},
    )  # fmt: skip


def unsure() -> Assessment:
    return machine(*build.on(build.BOTH, build.unknown, "right"), facts={"model": "Third"})


def compared(**assessments: Assessment) -> Comparison:
    return compare(list(assessments.items()), DIRECTIONS)


def everything() -> Comparison:
    return compared(bad=bad(), all=build.everything(), simulated=build.simulated(), good=good(), unsure=unsure())


def test_machines_are_ordered_by_verdict_first() -> None:
    rich = machine(build.failed("right"), build.failed("right", Use.INFERENCE), score=99.0)
    comparison = compared(rich=rich, bad=bad(), unsure=unsure(), good=good())
    assert [one.name for one in comparison.machines] == ["good", "bad", "unsure", "rich"]
    assert [one.name for one in ranked(comparison.machines, Use.TRAINING)] == ["good", "unsure", "rich", "bad"]
    assert [one.name for one in ranked(comparison.machines, Use.INFERENCE)] == ["good", "bad", "unsure", "rich"]


def test_the_answer_names_the_machine_and_the_reason() -> None:
    comparison = compared(bad=bad(), good=good(), unsure=unsure())
    first, *others = comparison.answers[Use.TRAINING]
    assert first == "good is ready to train; no other is."
    assert others[0].startswith("unsure is undetermined")
    assert others[1].startswith("bad is not ready: 1 mandatory requirement is not met. ")
    assert comparison.answers[Use.INFERENCE][0].startswith("good and bad are ready to serve; their points")
    standing = next(one for one in comparison.machines if one.name == "bad").standings[Use.TRAINING]
    assert standing.decision is Decision.NOT_READY
    assert standing.reasons
    assert next(one for one in comparison.machines if one.name == "bad").standings[Use.INFERENCE].reasons == ()


def test_nothing_is_recommended_that_was_not_shown_to_be_ready() -> None:
    comparison = compared(unsure=unsure(), bad=bad())
    assert comparison.answers[Use.TRAINING][0].startswith("None is shown to be ready to train")


def test_of_several_accelerators_the_worst_stands_for_the_machine() -> None:
    both = build.assessment(good().accelerators[0], replace(bad().accelerators[0], facts=build.facts("cuda:1")))
    comparison = compared(both=both, good=good())
    standing = next(one for one in comparison.machines if one.name == "both").standings[Use.TRAINING]
    assert (standing.decision, standing.applies_to) == (Decision.NOT_READY, "cuda:1")
    (row,) = [row for row in comparison.rows if Use.TRAINING in row.uses]
    assert [cell.text.partition(":")[0] for cell in row.cells] == ["met", "not met"]


def test_a_machine_without_a_verdict_is_undetermined() -> None:
    comparison = compared(nothing=build.nothing(), good=good())
    standing = next(one for one in comparison.machines if one.name == "nothing").standings[Use.TRAINING]
    assert (standing.decision, standing.points) == (Decision.UNDETERMINED, "0..100")


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"profile_sha256": "1" * 64}, "The profiles differ"),
        ({"version": "9.9"}, "The versions of readiness differ"),
        ({"uses": (Use.TRAINING,)}, "They were judged for different uses"),
        ({"interrupted": True}, "the run was stopped before its end"),
        ({"host": {"failed_stacks": {"cuda": "too old"}}}, "accelerators of cuda could not be listed"),
    ],
)
def test_what_makes_no_fair_comparison_is_a_warning(changes: dict[str, Any], warning: str) -> None:
    assert compared(a=good(), b=good()).warnings == ()
    comparison = compared(a=good(), b=replace(good(), **changes))
    assert any(warning in text for text in comparison.warnings)
    assert "WARNING" in machine_reports.table(comparison)
    assert "**Warning**" in machine_reports.markdown(comparison, "1")
    assert "Warning:" in machine_page.render(comparison, "1")


def test_simulated_chips_numbers_and_settings_are_warned_of() -> None:
    warnings = " ".join(compared(a=build.simulated(), b=good()).warnings)
    assert "Simulated: a" in warnings
    assert "The numbers of accelerators differ" in warnings
    other = compared(a=good(), b=machine(*build.on(build.BOTH, build.finding, "right"), settings={"rounds": 9}))
    assert "Measured with different settings, and not compared by value: parity.matmul" in other.warnings[0]
    assert other.values == ()


def test_ratios_are_to_the_first_machine() -> None:
    (row,) = compared(good=good(), bad=bad()).values
    assert [(cell.value, cell.ratio) for cell in row.cells] == [(100.0, 1.0), (50.0, 0.5)]


def test_what_differs_stands_apart_and_failures_come_first() -> None:
    common = build.on(build.BOTH, build.finding, "same")
    one = machine(*common, build.failed("z-worse"), build.unknown("a-open"), build.finding("n-a"))
    other = machine(
        *common, build.finding("z-worse"), build.finding("a-open"),
        build.finding("n-a", outcome=Outcome.NOT_APPLICABLE, value=None),
    )  # fmt: skip
    comparison = compared(one=one, other=other)
    assert [row.requirement for row in comparison.differing] == ["z-worse", "a-open"]
    assert [row.requirement for row in comparison.others] == ["n-a", "same"]
    assert comparison.others[1].uses == build.BOTH


def test_requirements_with_different_limits_are_marked() -> None:
    comparison = compared(a=machine(build.finding("right")), b=machine(build.finding("right", limit="at_most 9")))
    assert [row.limit for row in comparison.differing] == ["differs: at_most 0.01; at_most 9"]
    only = compared(a=machine(build.finding("right")), b=machine(build.finding("left")))
    assert [[cell.text for cell in row.cells][1] for row in only.rows if row.requirement == "right"] == ["not asked"]


def test_what_was_measured_on_one_only_is_listed() -> None:
    lost = replace(good().accelerators[0], evidence=())
    comparison = compared(a=good(), b=build.assessment(lost))
    assert [(lack.check, sorted(lack.statements)) for lack in comparison.lacks] == [("parity.matmul", ["measured", "not run"])]


# ---------------------------------------------------------------------------------------------------------------- reports


def hostile() -> Comparison:
    formula = machine(
        build.failed("=1+1", title="=HYPERLINK(\"http://evil.example\")", reason="=cmd|'/c calc'!A1", level=Level.MUST),
        facts={"model": "=2+2", "vendor": "+3"},
    )  # fmt: skip
    return compare([("=names()", formula), (build.HOSTILE, build.hostile())], DIRECTIONS)


def workbook(comparison: Comparison) -> Any:
    return openpyxl.load_workbook(io.BytesIO(machine_workbook.render(comparison, "1.0")))


def test_a_workbook_as_another_program_reads_it() -> None:
    comparison = everything()
    book = workbook(comparison)
    assert book.sheetnames == ["Answer", "Requirements", "Speeds", "Not on all", "Machines"]
    rows = list(book["Requirements"].values)
    assert rows[0][:3] == ("requirement", "what holds where it is met", "level")
    assert [row[0] for row in rows[1:]] == [row.requirement for row in [*comparison.differing, *comparison.others]]
    answers = [row for row in book["Answer"].values if row[0] in ("training", "inference") and isinstance(row[1], int)]
    assert [row[2] for row in answers if row[0] == "training"] == [
        one.name for one in ranked(comparison.machines, Use.TRAINING)
    ]
    assert {row[3] for row in answers} == {"ready", "not ready", "undetermined"}


def test_no_cell_is_a_formula_or_a_link() -> None:
    book = workbook(hostile())
    cells = [cell for sheet in book for row in sheet for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n"}
    assert not [cell for cell in cells if cell.hyperlink]
    assert any(cell.value == "=names()" for cell in cells)
    assert not [
        character for cell in cells for character in str(cell.value or "")
        if character != "\n" and unicodedata.category(character)[0] == "C"
    ]  # fmt: skip


def test_without_the_extra_a_workbook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(UsageError, match=r"readiness\[xlsx\]"):
        machine_workbook.render(compared(a=good(), b=bad()), "1.0")


class Page(HTMLParser):
    """What a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("made", [everything, hostile])
def test_a_page_loads_and_runs_nothing(made: Any) -> None:
    text = machine_page.render(made(), "1.0")
    page = Page()
    page.feed(without_tools(text))
    assert not {"script", "img", "iframe", "object", "link"} & set(page.tags)
    assert [target for target in page.loaded if not target.startswith("#")] == []
    assert page.handlers == []
    assert page.tags.count("h1") == 1
    assert not [c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"]


def test_a_page_has_a_line_for_each_machine() -> None:
    def with_sizes(scale: float) -> Assessment:
        figures = tuple(
            Measurement("bus_gbps", scale * size, {"op": "all_reduce", "bytes": str(size)}, "GB/s") for size in (1024, 4096, 65536)
        )
        piece = build.evidence("multichip.bandwidth", measurements=figures)
        return build.assessment(build.accelerator(build.on(build.BOTH, build.finding, "right"), (piece,)))

    text = machine_page.render(compared(one=with_sizes(1.0), two=with_sizes(0.5)), "1.0")
    assert "multichip.bandwidth bus_gbps (op=all_reduce)" in text
    assert len(re.findall(r'<path class="line k\d"', text)) == 2
    assert "two beside one" in text
    assert "0.50x" in text


def test_texts_fit_their_places_and_stay_text() -> None:
    for made in (everything(), hostile()):
        for columns in (60, 80, 200):
            text = machine_reports.table(made, width=columns, verbose=True)
            assert max(len(line) for line in text.splitlines()) <= columns
            assert not [c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"]
        page = machine_reports.markdown(made, "1.0")
        assert "<script" not in page
        assert len(page.encode()) < 65_536


@pytest.mark.parametrize("write", [machine_page.render, machine_reports.markdown, machine_workbook.render])
def test_the_same_machines_give_the_same_bytes(write: Any) -> None:
    assert write(everything(), "1.0") == write(everything(), "1.0")


def test_a_comparison_as_json_fits_its_schema() -> None:
    fits = Draft202012Validator(json.loads(schema.text("comparison")))
    for comparison in (everything(), hostile(), compared(a=good(), b=build.nothing())):
        document = json.loads(documents.dumps(machine_reports.as_json(comparison, "1.0")))
        fits.validate(document)
        assert schema.first_problem("comparison", document) is None
        assert all(len(row["machines"]) == len(document["machines"]) for row in document["requirements"])


def test_files_give_machines_their_names() -> None:
    assert names([Path("a.json"), Path("b.json")]) == ["a", "b"]
    assert names([Path("/x/a/run.json"), Path("/x/b/run.json")]) == ["a/run", "b/run"]
    assert names([Path("a.json"), Path("a.json")]) == ["a (1)", "a (2)"]
