"""A comparison of machines as a workbook: what people score and sort. Every text is written as text, never as a formula."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from readiness.comparison.machines import Comparison, ranked
from readiness.rendering import Kind, verdicts
from readiness.rendering.workbook import LINE, cell_text, open_workbook

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.workbook import Workbook

_COLOURS = {
    "good": ("#0f5323", "#d9f2de"), "bad": ("#8a0f14", "#fbdcdc"), "open": ("#634200", "#fdeec6"),
    "warn": ("#7a3500", "#ffe5d0"),
}  # fmt: skip
_OF_KIND = {
    Kind.PASSED: "good", Kind.BLOCKER: "bad", Kind.LIMIT: "warn", Kind.UNKNOWN: "open", Kind.WAIVED: "warn",
    Kind.INFORMATION: "warn",
}  # fmt: skip


def render(comparison: Comparison, version: str) -> bytes:
    """The file. Two renderings give the same bytes. Raises UsageError where xlsxwriter is not installed."""
    stream = io.BytesIO()
    started = max(machine.assessment.started for machine in comparison.machines)
    names = " against ".join(machine.name for machine in comparison.machines)
    book = open_workbook(stream, names, version, started)
    sheets = _Sheets(book)
    sheets.answers(comparison)
    sheets.requirements(comparison)
    sheets.values(comparison)
    sheets.rest(comparison)
    book.close()
    return stream.getvalue()


class _Sheets:
    def __init__(self, book: Workbook) -> None:
        self.book = book
        usual = {"text_wrap": True, "valign": "top", "border": 1}
        self.head: Format = book.add_format({"bold": True, "bg_color": "#f4f6f8", **usual})
        self.plain: Format = book.add_format(usual)
        self.number: Format = book.add_format({"valign": "top", "border": 1, "num_format": "General"})
        self.warning: Format = book.add_format({"text_wrap": True, "valign": "top", "bold": True, "bg_color": "#fdeec6"})
        self.styles: dict[str, Format] = {
            name: book.add_format({
                "font_color": text, "bg_color": back, "text_wrap": True, "valign": "top", "border": 1,
            })
            for name, (text, back) in _COLOURS.items()
        }  # fmt: skip

    def _sheet(self, name: str, heads: Sequence[str], widths: Sequence[float], first: int = 0) -> Any:
        sheet = self.book.add_worksheet(name)
        for column, (head, width) in enumerate(zip(heads, widths, strict=True)):
            sheet.set_column(column, column, width)
            sheet.write_string(first, column, cell_text(head), self.head)
        sheet.set_row(first, 2 * LINE)
        sheet.freeze_panes(first + 1, 1)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(first)
        return sheet

    def answers(self, comparison: Comparison) -> None:
        """Warnings, then for each use the machines in their order."""
        heads = ["use", "place", "machine", "verdict", "score", "ceiling", "blockers", "limits", "unknown", "why"]
        lines = [*comparison.warnings]
        widths = [12, 7, 24, 16, 9, 9, 10, 9, 10, 80]
        sheet = self._sheet("Answer", heads, widths, first=len(lines) + (1 if lines else 0))
        for row, text in enumerate(lines):
            sheet.merge_range(row, 0, row, len(heads) - 1, "", self.warning)
            sheet.write_string(row, 0, cell_text(f"WARNING: {text}"), self.warning)
            sheet.set_row(row, LINE * (1 + len(text) // 170))
        row = len(lines) + (1 if lines else 0)
        for use in comparison.answers:
            for place, machine in enumerate(ranked(comparison.machines, use), 1):
                row += 1
                standing = machine.standings[use]
                sheet.write_string(row, 0, use.value, self.plain)
                sheet.write_number(row, 1, place, self.number)
                sheet.write_string(row, 2, cell_text(machine.name), self.plain)
                sheet.write_string(row, 3, standing.decision.value, self.styles[verdicts.STYLES[standing.decision]])
                verdict = standing.verdict
                for column, value in enumerate(
                    ("", "", "", "", "") if verdict is None else (
                        verdict.score, verdict.ceiling, len(verdict.blockers), len(verdict.limits), len(verdict.unknown),
                    ), 4,
                ):  # fmt: skip
                    if isinstance(value, str):
                        sheet.write_string(row, column, value, self.plain)
                    else:
                        sheet.write_number(row, column, value, self.number)
                more = [f"and {standing.further} more"] if standing.further else []
                sheet.write_string(row, 9, cell_text("\n".join([*standing.reasons, *more])), self.plain)
                sheet.set_row(row, LINE * max(sum(1 + len(text) // 90 for text in (*standing.reasons, *more)), 1))
        row += 2
        for use, sentences in comparison.answers.items():
            for sentence in sentences:
                sheet.write_string(row, 0, use.value)
                sheet.write_string(row, 2, cell_text(sentence))
                row += 1

    def requirements(self, comparison: Comparison) -> None:
        """One row each, with the figure of each machine in a column of its own."""
        names = [machine.name for machine in comparison.machines]
        heads = ["requirement", "what holds where it is met", "level", "use", "check", "bound", "alike"]
        heads += [part for name in names for part in (name, f"{name}: measured")]
        widths = [34, 50, 9, 20, 24, 34, 8, *(w for _ in names for w in (26, 14))]
        sheet = self._sheet("Requirements", heads, widths)
        rows = [*comparison.differing, *comparison.others]
        for number, row in enumerate(rows, 1):
            texts = (
                row.requirement, row.title, row.level.value, ", ".join(row.uses), row.check, row.limit,
                "yes" if row.uniform else "no",
            )  # fmt: skip
            for column, text in enumerate(texts):
                sheet.write_string(number, column, cell_text(text), self.plain)
            for place, cell in enumerate(row.cells):
                style = self.styles.get(_OF_KIND.get(cell.kind, ""), self.plain) if cell.kind is not None else self.plain
                sheet.write_string(number, len(texts) + 2 * place, cell_text(cell.text), style)
                self._figure(sheet, number, len(texts) + 2 * place + 1, cell.value)
        sheet.autofilter(0, 0, max(len(rows), 1), len(heads) - 1)

    def values(self, comparison: Comparison) -> None:
        """Speeds and their ratios."""
        names = [machine.name for machine in comparison.machines]
        heads = ["speed", "unit", "better", *(part for name in names for part in (name, f"{name}: ratio"))]
        sheet = self._sheet("Speeds", heads, [70, 10, 10, *(w for _ in names for w in (16, 12))])
        for number, row in enumerate(comparison.values, 1):
            for column, text in enumerate((row.name, row.unit, row.better.value)):
                sheet.write_string(number, column, cell_text(text), self.plain)
            for place, cell in enumerate(row.cells):
                self._figure(sheet, number, 3 + 2 * place, cell.value)
                self._figure(sheet, number, 4 + 2 * place, cell.ratio)
        sheet.autofilter(0, 0, max(len(comparison.values), 1), len(heads) - 1)

    def rest(self, comparison: Comparison) -> None:
        """Write the sheets of checks measured on some machines only, and of what was assessed."""
        names = [machine.name for machine in comparison.machines]
        sheet = self._sheet("Not on all", ["check", *names], [30, *(44 for _ in names)])
        for number, lack in enumerate(comparison.lacks, 1):
            for column, text in enumerate((lack.check, *lack.statements)):
                sheet.write_string(number, column, cell_text(text), self.plain)
        sheet = self._sheet("Machines", ["", *names], [18, *(44 for _ in names)])
        for number, (name, texts) in enumerate(comparison.conditions, 1):
            for column, text in enumerate((name, *texts)):
                sheet.write_string(number, column, cell_text(text), self.plain)

    def _figure(self, sheet: Any, row: int, column: int, value: float | None) -> None:
        if value is None:
            sheet.write_string(row, column, "", self.plain)
        else:
            sheet.write_number(row, column, value, self.number)
