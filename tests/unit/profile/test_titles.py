"""Titles of requirements: a few plain words that every finding begins with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from readiness.datamodel import Evidence, Finding, Measurement, Status
from readiness.documents import assessment, files
from readiness.errors import BadFileError
from readiness.judging import judge
from readiness.profile import loader, shipped
from readiness.rendering.formats import render
from tests.support import build, checks
from tests.unit.profile.test_loader import CHECKLIST, HEAD, REQUIREMENT, load, write


@pytest.mark.parametrize("name", shipped.names())
def test_every_requirement_of_a_shipped_profile_has_a_plain_title_of_its_own(name: str) -> None:
    titles = {item.id: item.title for item in loader.load(name, checks()).requirements}
    for id, title in titles.items():
        assert 10 <= len(title) <= 60, id
        assert title[0].isupper() or title.startswith("torchrun"), id
        assert not title.endswith((".", "?", "!")), id
        assert "_" not in title, id
        assert "=" not in title, id
    assert [title for title, count in Counter(titles.values()).items() if count > 1] == []


def test_a_title_is_taken_as_it_stands_and_is_no_demand(tmp_path: Path) -> None:
    plain = load(tmp_path, HEAD + REQUIREMENT)
    titled = load(tmp_path, HEAD + REQUIREMENT + 'title = "  Errors\\n are small "\n')
    assert titled.requirements[0].title == "Errors are small"
    assert titled.sha256 == plain.sha256


def test_without_a_title_one_is_made_of_the_check_and_the_measure(tmp_path: Path) -> None:
    text = HEAD + REQUIREMENT.replace("error", "speed") + 'where = { dtype = "bfloat16" }\n'
    assert load(tmp_path, text).requirements[0].title == "A topic (speed, dtype=bfloat16)"


@pytest.mark.parametrize("title", ['""', '"   "', "5", f'"{"x" * 101}"', '["a"]'])
def test_what_is_no_title_is_refused_with_its_line(tmp_path: Path, title: str) -> None:
    with pytest.raises(BadFileError, match=r"test\.toml:9: .*title"):
        load(tmp_path, HEAD + REQUIREMENT + f"title = {title}\n")


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ('level = "info"', True), ("at_most = 7", True), ('where = { dtype = "float32", op = "mm" }', True),
        ('check = "family.topic"', True), ('where = { dtype = "bfloat16" }', False), ('where = { op = "mm" }', False),
        ('measure = "speed"', False),
    ],
)  # fmt: skip
def test_a_child_with_another_limit_does_not_inherit_the_title(tmp_path: Path, change: str, kept: bool) -> None:
    write(tmp_path, HEAD + REQUIREMENT + 'title = "Errors are small"\nwhere = { dtype = "float32" }\n', "base.toml")
    (requirement,) = load(tmp_path, HEAD + f'extends = ["base"]\n[[require]]\nid = "one"\n{change}\n').requirements
    assert (requirement.title == "Errors are small") is kept
    if not kept:
        assert requirement.title.startswith("A topic (")


def test_findings_carry_it_into_the_assessment_and_back(tmp_path: Path) -> None:
    chosen = load(tmp_path, HEAD + REQUIREMENT + 'title = "Errors are small"\n')
    evidence = Evidence("family.topic", Status.MEASURED, measurements=(Measurement("error", 3.0, {}, "1"),))
    judged = judge.judge(chosen, build.facts(), [evidence])
    document = files.parse_json(render("json", build.assessment(judged)))
    assert {finding["title"] for finding in document["accelerators"][0]["findings"]} == {"Errors are small"}
    again = assessment.from_json(document, "here")
    assert {finding.title for finding in again.accelerators[0].findings} == {"Errors are small"}
    for finding in document["accelerators"][0]["findings"]:
        del finding["title"]
    early = assessment.from_json(document, "here")  # as early versions wrote it
    assert {finding.title for finding in early.accelerators[0].findings} == {""}
    assert "error is 3, bound at most 1" in render("table", early)


def finding(**changes: Any) -> Finding:
    return build.failed("matmul-bfloat16", title="Matrix products are right in bfloat16", **changes)


def test_reports_begin_a_finding_with_its_title_then_its_id() -> None:
    made = build.assessment(build.accelerator((finding(),), facts_=build.facts("cuda:0")))
    for name in ("table", "markdown", "junit", "summary"):
        text = render(name, made)
        assert "Matrix products are right in bfloat16" in text, name
        assert "matmul-bfloat16" in text, name
    table = render("table", made)
    assert "\n  Matrix products are right in bfloat16\n    matmul-bfloat16  (training; parity.matmul)\n" in table
    assert "- **Matrix products are right in bfloat16** (`matmul-bfloat16`) on `cuda:0`" in render("markdown", made)
    assert 'message="Matrix products are right in bfloat16: relative_error is 0.031' in render("junit", made)


def test_unknown_findings_of_one_cause_have_their_titles() -> None:
    few = tuple(build.unknown(f"open-{number}", title=f"Thing {number} holds") for number in range(2))
    text = render("table", build.assessment(build.accelerator(few)))
    assert "\n  Thing 0 holds  open-0\n  Thing 1 holds  open-1\n    (must; training)\n" in text
    many = tuple(build.unknown(f"open-{number}", title=f"Thing {number} holds") for number in range(9))
    text = " ".join(render("table", build.assessment(build.accelerator(many))).split())
    assert "Thing 0 holds open-0 and 8 more: open-1, open-2, " in text


def test_a_hostile_title_stays_text() -> None:
    made = build.assessment(build.accelerator((build.failed("x", title=build.HOSTILE), build.unknown("y", title=build.HOSTILE))))
    for name in ("table", "markdown", "junit", "summary", "line"):
        text = render(name, made)
        assert not set(text) & {"\x1b", "\u202e", "\x07"}, name
        assert "<script>alert" not in text.replace("&lt;", "") or name in ("table", "summary"), name


def test_the_check_registry_of_these_tests_is_complete() -> None:
    assert CHECKLIST["family.topic"].title == "A topic"
