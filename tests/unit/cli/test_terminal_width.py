"""`list`, `devices`, `fit` and `explain` on a terminal: no line is wider than it, and no word is cut."""

from __future__ import annotations

import io

import pytest

from readiness.cli import explain, fit, listing, options
from readiness.datamodel import Limit, Operator, Requirement, Use
from readiness.rendering import formats


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, rows: list[dict[str, object]]) -> list[str]:
    stream = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setitem(listing._GATHER, listing.What.CHECKS, lambda: rows)
    listing.listing(listing.What.CHECKS)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(("columns", "lines"), [(60, 6), (80, 5), (200, 4)])
def test_a_list_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, lines: int) -> None:
    words = "Sums, means and maxima agree with float64, forward and backward"
    rows = [{"id": "parity.reductions", "title": words, "seconds": 0.5}, {"id": "a.b", "title": "Short", "seconds": 180}]
    found = lines_on_a_terminal(monkeypatch, columns, rows)
    assert len(found) == lines
    assert all(len(line) <= columns for line in found)
    assert {*words.split()} <= {*" ".join(found).split()}


def test_beside_a_very_long_id_a_title_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lines_on_a_terminal(monkeypatch, 60, [{"id": f"own.{'x' * 90}", "title": "Reductions are right", "seconds": 1}])
    assert "Reductions are right" in found[2]


def test_the_widest_column_of_a_table_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("cpu:0", "a vendor", "torch 2.13.0, kernel 6.18.44 and a driver of eleven words"), ("cpu:1", "another", "torch")]
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert options.widths(rows) is None
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "70")
    assert options.widths(rows) == [None, None, 53]
    assert options.widths(rows, ("id", "vendor", "a stack")) == [None, None, 53]
    assert options.widths(rows, ("id", "a long heading", "stack")) == [None, None, 45]
    monkeypatch.setenv("COLUMNS", "90")
    assert options.widths(rows) is None


def test_documentation_is_wrapped_for_a_narrow_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{'word ' * 20}\n{'next ' * 20}".replace(" \n", "\n").rstrip() + "\n\n- an item\n- another one"
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert explain._fitted(text) == text
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "70")
    fitted = explain._fitted(text)
    assert fitted.split() == text.split()
    assert max(map(len, fitted.splitlines())) <= 70 == formats.columns(Terminal())
    assert fitted.endswith("\n\n- an item\n- another one")


def test_a_requirement_is_as_wide_as_the_terminal_and_no_word_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    where = {"dtype": "bfloat16", "precision": "autocast", "phase": "backward"}
    requirement = Requirement(
        "gradients-of-a-long-name", tuple(Use), "parity.training", "loss_difference", Limit(Operator.AT_MOST, 0.01),
        where=where, why="A plug-in that a vendor ships for its own torch-like stack may differ in ahead-of-time builds.",
    )
    expression = "parity.training: loss_difference dtype=bfloat16 precision=autocast phase=backward at_most 0.01"
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert f"  {expression}" in explain._requirement(requirement).splitlines()
    monkeypatch.setattr("sys.stdout", Terminal())
    for columns in (60, 62, 64, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        found = explain._requirement(requirement)
        assert max(map(len, found.splitlines())) <= columns
        assert {*expression.split(), *requirement.why.split()} <= {*found.split()}


def test_a_fit_is_wrapped_behind_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "serving on 8 chips: fits\n  optimizer state   11.442 GiB = 8,190,735,360 / 8 parameters x (4 + 8) bytes\n  fewest chips: 1"
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert fit._fitted(text) == text
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    assert fit._fitted(text).splitlines() == [
        "serving on 8 chips: fits",
        "  optimizer state   11.442 GiB = 8,190,735,360 / 8",
        "      parameters x (4 + 8) bytes",
        "  fewest chips: 1",
    ]
