"""Markdown: verdicts first, nothing of a device's text is markup, and it fits a step summary."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from readiness.datamodel import Assessment, Level, Outcome
from readiness.rendering.formats import render
from tests.support import build


def plain(text: str) -> str:
    """The text as a reader of the rendered page sees it, roughly."""
    text = re.sub(r"\\([\\`*_\[\]#|~$])", r"\1", text).replace("**", "")
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&#64;", "@").replace("&#58;", ":").replace("&amp;", "&")


def cells(row: str) -> int:
    """How many cells a table row has."""
    return len(re.findall(r"(?<!\\)\|", row)) - 1


def test_the_verdicts_come_first_then_what_stands_in_the_way() -> None:
    text = render("markdown", build.everything())
    order = [
        "| accelerator | use | verdict |", "| `cuda:0` | training | ❌ **not ready** | 61..97 |",
        "### Blockers", "### Limits", "### Not measured", "### Waived", "<details>",
    ]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_every_finding_that_is_no_pass_is_shown_with_its_remedy() -> None:
    assessment = build.everything()
    text = plain(render("markdown", assessment))
    for item in assessment.accelerators:
        for finding in item.findings:
            assert finding.requirement in text
            if finding.outcome in (Outcome.FAIL, Outcome.UNKNOWN) and finding.requirement != "curiosity" and finding.remedy:
                assert f"do: {finding.remedy.text}" in text


def test_folds_are_balanced_and_stand_alone() -> None:
    text = render("markdown", build.everything())
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") >= 2


@pytest.mark.parametrize(
    "made",
    [build.everything, build.hostile, build.one_use, build.interrupted, build.nothing, build.many, build.simulated],
)
def test_every_table_has_as_many_cells_in_each_row(made: Any) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", render("markdown", made()), re.MULTILINE):
        assert len({cells(row) for row in table.splitlines()}) == 1, table


def test_hostile_texts_stay_texts() -> None:
    text = render("markdown", build.hostile())
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "@root" not in text
    assert "http://" not in text
    assert not re.search(r"(?<!\\)\[a\]", text)
    assert set(re.findall(r"<[^>]*>", text)) <= {
        "<details>", "</details>", "<summary>", "</summary>", "<sub>", "</sub>",
    }  # fmt: skip


def test_names_from_a_profile_are_escaped_too() -> None:
    bad = "<img src=x onerror=alert(1)>|`x`"
    assessment = replace(build.everything(), profile_name=bad, profile_title=bad)
    item = build.accelerator((build.failed(bad, check=bad, measure=bad, limit=bad),), facts_=build.facts(id=bad))
    text = render("markdown", replace(assessment, accelerators=(item,)))
    assert "<img" not in text


def huge(chips: int) -> Assessment:
    """More than any comment holds of everything: verdicts, blockers, limits, unknown ones, waivers, rows."""
    items = []
    for chip in range(chips):
        findings = [
            *(build.failed(f"bad-{n}", reason=f"水{chip} " * 200, why="x" * 900) for n in range(300)),
            *(build.failed(f"slow-{n}", level=Level.SHOULD, reason="y" * 900) for n in range(300)),
            *(build.unknown(f"open-{n}", reason=f"cause {n} {chip}") for n in range(300)),
            *(build.failed(f"lived-with-{n}", waived=build.waiver(f"lived-with-{n}")) for n in range(300)),
        ]
        rows = tuple({"operator": f"add_{number}", "error": 0.5} for number in range(60))
        items.append(build.accelerator(tuple(findings), (build.evidence(rows=rows),), facts_=build.facts(f"npu:{chip}")))
    return build.assessment(*items)


@pytest.mark.parametrize("chips", [1, 8])
def test_a_comment_fits_and_names_omitted_parts(chips: int) -> None:
    """GitHub refuses more than 65,536 characters."""
    text = render("markdown", huge(chips))
    assert 40_000 < len(text.encode()) <= 65_536
    assert text.startswith("## Readiness for")
    places = [text.index(part) for part in ("**not ready**", "### Blockers", "### Limits", "### Not measured", "### Waived")]
    assert places == sorted(places)
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") >= 2
    (left_out,) = re.findall("Left out here, to stay below 64 KB: (.*)\\. The JSON report has all of it", text)
    for kind in ("blockers", "limits", "causes of unknown results", "waived failures", "tables"):
        gone, total = map(int, re.findall(rf"(\d+) of (\d+) {kind}", left_out)[0])
        assert 0 < gone < total or kind == "tables"
        if kind == "blockers":
            assert text.count("- **bad-") == total - gone
    assert text.endswith("took 41.8 s</sub>\n")


def test_beyond_the_first_ones_blockers_are_folded_and_none_is_left_out() -> None:
    findings = [build.failed(f"bad-{number}", reason=f"word {number}") for number in range(40)]
    text = render("markdown", build.assessment(build.accelerator(tuple(findings))))
    open_part, _, folded = text.partition("<details><summary>30 further blockers</summary>")
    assert open_part.count("- **bad-") == 10
    assert folded.partition("</details>")[0].count("- **bad-") == 30
    assert "Left out" not in text


def test_long_tables_are_split() -> None:
    findings = [build.finding(f"requirement-{number}") for number in range(300)]
    text = render("markdown", build.assessment(build.accelerator(tuple(findings))))
    assert "(201 to 300 of 300)" in text


def test_columns_of_detail_that_are_left_out_are_counted() -> None:
    rows = tuple({**{f"column_{letter}": letter for letter in "abcdefghijklmn"}, "empty": None} for _ in range(3))
    item = build.accelerator((build.failed("x"),), (build.evidence(rows=rows),))
    text = plain(render("markdown", build.assessment(item)))
    assert "rows of detail: 3, 12 of 14 columns" in text
    assert "empty" not in text


def test_the_detail_behind_a_failure_is_there() -> None:
    rows = tuple({"operator": f"add_{number}", "error": 0.5, "ok": None} for number in range(60))
    item = build.accelerator((build.failed("x"),), (build.evidence(rows=rows), build.evidence("driver.copy", rows=rows)))
    text = plain(render("markdown", build.assessment(item)))
    assert "parity.matmul, rows of detail: 50 of 60" in text
    assert "add_49" in text
    assert "add_50" not in text
    assert "driver.copy, " not in text


def test_odd_cells_do_not_break_it() -> None:
    rows: Any = ({"a": 10**400, "b": [1, {"c": float("nan")}], "": float("inf"), 3: True}, {})
    item = build.accelerator((build.failed("x"),), (build.evidence(rows=rows),))
    assert "2^1328" in render("markdown", build.assessment(item)).replace("\\", "")


def test_special_situations_are_reported() -> None:
    assert "**cuda**: its accelerators could not be listed" in render("markdown", build.half_blind())
    assert "No accelerator was assessed" in render("markdown", build.nothing())
    assert "**Interrupted**" in render("markdown", build.interrupted())
    assert "| training |" not in render("markdown", build.one_use())


def test_a_renderer_sees_text_where_a_device_wrote_markup() -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark").enable("table").enable("strikethrough")
    page = parser.render(render("markdown", build.hostile()))
    assert "<script" not in page
    assert "<a " not in page
    assert "<em>" not in page
    assert "&lt;script&gt;alert('x')&lt;/script&gt;" in page
    assert "[a](http://evil.example)" in page  # as text
    assert "\\" not in page
    assert page.count("<table>") == 5  # with what of PyTorch is wrong


def test_identical_accelerators_are_merged_and_the_odd_one_is_named() -> None:
    text = render("markdown", build.simulated())
    assert "| `sim:0`, `sim:1`, `sim:3` (3 identical, simulated) | training | ❌ **not ready** | 58..97 to 61..97 |" in text
    assert "- **softmax-bfloat16** on `sim:2` only (training, inference; `operators.sweep`): " in text
    shared = "- **collectives-correct** on `sim:0` to `sim:3` (training, inference; `multichip.collectives` on sim:0 to sim:3 together)"
    assert text.count("**collectives-correct**") == text.count(shared) == 1
    assert "  - softmax in bfloat16, strided input: 3 of 1200 calls differed, first after 31 s\n" in text


def test_what_a_blocker_is_about_is_no_markup() -> None:
    item = build.accelerator((build.failed("x", reason="<b>mm</b> `in` *bfloat16* \x1b[2J| a"),))
    text = render("markdown", build.assessment(item))
    assert "&lt;b&gt;mm&lt;/b&gt; \\`in\\` \\*bfloat16\\* \\| a" in text


def test_where_words_differ_each_accelerator_has_its_own() -> None:
    items = [
        build.accelerator((build.failed("x", reason=f"op {number}"),), facts_=build.facts(f"npu:{number}"))
        for number in range(2)
    ]
    text = plain(render("markdown", build.assessment(*items)))
    for number in range(2):
        assert f"  - npu:{number}: relative_error is 0.031, bound at most 0.01 (dtype=bfloat16); op {number}\n" in text


def test_a_simulated_chip_and_a_rehearsal_are_reported() -> None:
    text = plain(render("markdown", build.simulated()))
    assert text.index("> Simulated: sim:0 to sim:3, simulated chip ascend-as-reported: a rehearsal") < text.index("| accel")
    assert "### Self-test: planted defects that the checks detected" in text
    assert "- caught: 2 of 3 kinds of defect" in text
    assert "imulated" not in render("markdown", build.everything())
