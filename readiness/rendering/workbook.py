"""Workbooks (extra `xlsx`): opened so that no text becomes a formula, a link or a number, and two renderings are alike."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from readiness.optional_imports import optional
from readiness.rendering.text import clean

if TYPE_CHECKING:
    from xlsxwriter.workbook import Workbook as Book

#: The most characters of a cell, and rows of a sheet.
LONGEST_CELL = 32_000
_MOST_ROWS = 1_000_000
#: Points that a line of text is high: programs other than Excel find no height by themselves.
LINE = 15


def open_workbook(stream: IO[bytes], title: str, version: str, started: str) -> Book:
    """Open a workbook; its day is that of the runs, not of the rendering. Raises UsageError where xlsxwriter is missing."""
    with optional("xlsx", "a workbook", place="-f xlsx"):
        import xlsxwriter
    book = xlsxwriter.Workbook(stream, {
        "in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False,
        "nan_inf_to_errors": True,
    })  # fmt: skip
    try:
        created = datetime.datetime.fromisoformat(started).replace(tzinfo=None)
    except ValueError:
        created = datetime.datetime(2000, 1, 1)
    book.set_properties({"title": title[:250], "author": f"readiness {version}", "created": created})
    return book


def cell_text(text: str) -> str:
    """Return text that a cell can hold; line breaks stay."""
    return "\n".join(clean(line, LONGEST_CELL) for line in text.split("\n"))[:LONGEST_CELL]


class Workbook:
    """Sheets that are one table each."""

    def __init__(self, book: Book) -> None:
        self.book = book
        usual = {"text_wrap": True, "valign": "top", "border": 1}
        self.head: Any = book.add_format({"bold": True, "bg_color": "#f4f6f8", **usual})
        self.text: Any = book.add_format(usual)
        self.number: Any = book.add_format({"valign": "top", "border": 1, "num_format": "General"})

    def table(self, name: str, heads: Sequence[str], widths: Sequence[float], rows: Iterable[Sequence[Any]]) -> None:
        """Add a sheet with a row of heads that stays, a filter, and a row for each of `rows`; None is an empty cell."""
        sheet = self.book.add_worksheet(name)
        for column, (head, width) in enumerate(zip(heads, widths, strict=True)):
            sheet.set_column(column, column, width)
            sheet.write_string(0, column, cell_text(head), self.head)
        number = 0
        for number, row in enumerate(rows, 1):
            if number > _MOST_ROWS:
                break
            for column, value in enumerate(row):
                if isinstance(value, int | float):
                    sheet.write_number(number, column, value, self.number)
                else:
                    sheet.write_string(number, column, "" if value is None else cell_text(str(value)), self.text)
        sheet.freeze_panes(1, 1)
        sheet.autofilter(0, 0, max(number, 1), len(heads) - 1)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
