"""The table of the tool's own cost: lines, ratios, what fails or is not installed, and its place in a document."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import own_cost
from benchmarks.own_cost import BEGIN, END, Case, Cost

PASS, FAIL = (sys.executable, "-c", "pass"), (sys.executable, "-c", "raise SystemExit('no such thing')")


def lines(*cases: Case, rounds: int = 1) -> list[str]:
    with own_cost.workspace() as places:
        return [line for line in own_cost.table(cases, rounds, places) if line.startswith("|")][2:]


def test_a_line_has_both_sides_and_their_ratios() -> None:
    (line,) = lines(Case("mine", PASS, "`pass`", PASS), rounds=2)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert (cells[0], cells[2]) == ("mine", "`pass`")
    assert cells[1].endswith("MiB")
    assert all(float(ratio) > 0 for ratio in cells[4:])


def test_medians_count() -> None:
    line = own_cost._line(Case("mine", PASS, "other", PASS), Cost([1.0, 9.0, 2.0], 2**21), Cost([4.0], 2**20))
    assert line == "| mine | 2.00 s, 2 MiB | other | 4.00 s, 1 MiB | 0.50 | 2.00 |"


def test_what_fails_and_what_is_not_installed_is_named() -> None:
    failed, absent = lines(Case("mine", FAIL, "other", PASS), Case("mine", PASS, "other", PASS, needs="no_such_package"))
    assert "failed with 1: no such thing" in failed
    assert "not installed here" in absent


def test_the_table_stands_between_its_marks() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = own_cost.replaced(document, "| new |")
    assert once == f"before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"
    assert own_cost.replaced(once, "| new |") == once
    with pytest.raises(SystemExit, match="no place"):
        own_cost.replaced("nothing", "| new |")


def test_the_record_has_a_place_for_it_and_every_alternative_is_named() -> None:
    text = (Path(own_cost.ROOT) / "docs" / "validation.md").read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)
    for case in own_cost.cases():
        assert case.alternative
        assert case.ours[0] == case.other[0] == sys.executable
