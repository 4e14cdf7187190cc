"""The workbook of a pack (extra `xlsx`): requirement by requirement, with empty columns for the vendor.

No cell is a formula and none becomes a link: texts from devices and files are written as texts, whatever they begin with.
"""

from __future__ import annotations

import datetime
import io
import math
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from readiness import rendering
from readiness.optional_imports import optional
from readiness.pack import evidence_matrix, sections
from readiness.pack.contents import Core
from readiness.pack.glossary import WORDS
from readiness.rendering import Kind
from readiness.rendering.text import clean

if TYPE_CHECKING:
    from readiness.pack.evidence_matrix import MatrixRow

_MADE = datetime.datetime(1980, 1, 1)
_LONGEST_CELL = 32_000
_HEADS = (
    ("assessment", 16), ("requirement", 34), ("in words", 40), ("level", 8), ("use", 18), ("accelerators", 18),
    ("required", 22), ("measured", 26), ("value", 12), ("unit", 8), ("ratio", 12), ("spread", 16), ("outcome", 14),
    ("reason", 44), ("source of the bound", 40), ("evidence", 36),
    ("vendor's answer", 30), ("vendor's commitment", 24), ("committed value", 16),
)  # fmt: skip
#: Keys of a row of verdicts, and what stands above them.
_VERDICTS = (
    ("subject", "assessment"), ("accelerators", "accelerators"), ("device", "device"), ("use", "use"),
    ("decision", "verdict"), ("score", "score..ceiling"),
    ("outcome_counts", "what stands in the way"), ("profile", "profile"), ("started", "started"),
)  # fmt: skip
#: Columns of the sheet about maturity.
_MATURITY = (("assessment", 16), ("accelerators", 18), ("area", 18), ("what", 30), ("standing", 60), ("why", 50))
_COLOURS = {
    Kind.PASSED: "#D9F2DE", Kind.BLOCKER: "#FBDCDC", Kind.LIMIT: "#FFE5D0", Kind.UNKNOWN: "#FDEEC6", Kind.WAIVED: "#FFE5D0",
    Kind.INFORMATION: "#DCEBFB", Kind.NOT_APPLICABLE: "#E8EBEE",
}  # fmt: skip
_LARGEST_MEMBER_BYTES = 2**28
#: Points of a line of text, and what a row can have at most.
_LINE, _HIGHEST_ROW = 15.0, 400.0


def refuse_missing() -> None:
    """Raises UsageError, which names the extra, where it is not installed."""
    with optional("xlsx", "--workbook"):
        import xlsxwriter  # noqa: F401


def render(core: Core) -> bytes:
    """The workbook. The same pack gives the same bytes with the same versions of xlsxwriter and zlib."""
    refuse_missing()
    import xlsxwriter

    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {
        "in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False,
    })  # fmt: skip
    book.set_properties({"title": "Requirements and evidence", "created": _MADE, "comments": "readiness"})
    formats: dict[Any, Any] = {
        "head": book.add_format({"bold": True, "text_wrap": True, "bg_color": "#F4F6F8", "border": 1, "valign": "top"}),
        "text": book.add_format({"text_wrap": True, "valign": "top", "num_format": "@"}),
        "number": book.add_format({"valign": "top", "num_format": "General"}),
        "empty": book.add_format({"text_wrap": True, "valign": "top", "border": 1, "bg_color": "#FFFFF0", "locked": False}),
        "title": book.add_format({"bold": True, "font_size": 14}),
        "notice": book.add_format({"bold": True, "bg_color": "#FDEEC6", "text_wrap": True, "valign": "top"}),
        **{
            kind: book.add_format({"bg_color": colour, "valign": "top", "num_format": "@"})
            for kind, colour in _COLOURS.items()
        },
    }  # fmt: skip
    _summary(book, formats, core)
    _requirements(book, formats, core)
    _maturity(book, formats, core)
    _glossary(book, formats)
    book.close()
    return buffer.getvalue()


def is_same(content: bytes, core: Core) -> bool:
    """Return whether a workbook has the content of one made now, however compressed. Raises UsageError."""
    try:
        return _members(content) == _members(render(core))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError):
        return False


def _members(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(entry.file_size > _LARGEST_MEMBER_BYTES for entry in archive.infolist()):
            raise ValueError("a member is too large")
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def _text(sheet: Any, row: int, column: int, value: object, style: Any) -> None:
    sheet.write_string(row, column, clean(value, _LONGEST_CELL), style)


def _fit(sheet: Any, row: int, values: Sequence[object], widths: Sequence[float]) -> None:
    """Give a row the height of its longest cell: some readers do not look for themselves how far a text wraps."""
    lengths = (len(clean(value, _LONGEST_CELL)) for value in values)
    lines = max(math.ceil(length / (0.9 * width)) for length, width in zip(lengths, widths, strict=False))
    sheet.set_row(row, min(_LINE * max(lines, 1), _HIGHEST_ROW))


def _summary(book: Any, formats: dict[Any, Any], core: Core) -> None:
    sheet = book.add_worksheet("Verdicts")
    cover = core.pack["cover"]
    _text(sheet, 0, 0, f"Acceptance: {cover['subject'] or 'subject not stated'}", formats["title"])
    lines = [
        ("operator", cover["operator"] or "not stated"), ("status of the system", sections.STATUS[cover["status"]]),
        ("made by", f"readiness {core.pack['tool']['version']}"),
    ]
    if core.is_simulated:
        lines.append(("notice", "a simulated chip is in it: a rehearsal, not a measurement of a product"))
    for number, (name, value) in enumerate(lines, start=1):
        _text(sheet, number, 0, name, formats["text"])
        if name == "notice":
            sheet.merge_range(number, 1, number, 3, "", formats["notice"])
        _text(sheet, number, 1, value, formats["notice" if name == "notice" else "text"])
    start = len(lines) + 2
    widths = [26.0, 30.0, 40.0, *[18.0] * (len(_VERDICTS) - 3)]
    widths[[key for key, _ in _VERDICTS].index("outcome_counts")] = 40.0
    for column, (_, name) in enumerate(_VERDICTS):
        _text(sheet, start, column, name, formats["head"])
    rows = [row for subject in core.subjects for row in sections.verdict_rows(subject)]
    for number, row in enumerate(rows, start=start + 1):
        for column, (key, _) in enumerate(_VERDICTS):
            _text(sheet, number, column, row[key], formats["text"])
        _fit(sheet, number, [row[key] for key, _ in _VERDICTS], widths)
    for column, width in enumerate(widths):
        sheet.set_column(column, column, width)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.freeze_panes(start + 1, 0)


def _requirements(book: Any, formats: dict[Any, Any], core: Core) -> None:
    sheet = book.add_worksheet("Requirements")
    for column, (name, width) in enumerate(_HEADS):
        _text(sheet, 0, column, name, formats["head"])
        sheet.set_column(column, column, width)
    rows = [row for one in core.subjects for row in evidence_matrix.rows(one, core.profiles[one.profile_path])]
    for number, row in enumerate(rows, start=1):
        _requirement(sheet, formats, number, row)
    sheet.freeze_panes(1, 2)
    sheet.autofilter(0, 0, max(len(rows), 1), len(_HEADS) - 1)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)


def _requirement(sheet: Any, formats: dict[Any, Any], number: int, row: MatrixRow) -> None:
    cells: Sequence[object] = (
        row.subject, row.requirement, row.title, row.level, row.uses, row.accelerators, row.required,
        row.measured or "nothing", row.value, row.unit, row.ratio, row.spread, row.outcome, row.reason, row.source,
        f"{row.path}: {row.check}",
    )
    for column, value in enumerate(cells):
        if isinstance(value, float):
            sheet.write_number(number, column, value, formats["number"])
        else:
            style = formats[row.outcome if value is row.outcome else "text"]
            _text(sheet, number, column, value or "", style)
    _fit(sheet, number, cells, [width for _, width in _HEADS])
    for column in range(len(cells), len(_HEADS)):
        sheet.write_blank(number, column, None, formats["empty"])


def _maturity(book: Any, formats: dict[Any, Any], core: Core) -> None:
    """A sheet with what PyTorch users rely on: the share that is there and right, and a row for all that is not."""
    rows: list[tuple[str, ...]] = []
    for subject in core.subjects:
        for one in rendering.maturity_texts(subject.assessment):
            rows.append((subject.name, one.group.title(), "all", "", one.line, one.stated or ""))
            rows += [(subject.name, one.group.title(), *row) for row in one.rows]
    if not rows:
        return
    sheet = book.add_worksheet("Maturity")
    for column, (name, width) in enumerate(_MATURITY):
        _text(sheet, 0, column, name, formats["head"])
        sheet.set_column(column, column, width)
    for number, row in enumerate(rows, start=1):
        for column, value in enumerate(row):
            _text(sheet, number, column, value, formats["text"])
        _fit(sheet, number, row, [width for _, width in _MATURITY])
    sheet.freeze_panes(1, 0)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)


def _glossary(book: Any, formats: dict[Any, Any]) -> None:
    sheet = book.add_worksheet("Glossary")
    for number, (word, meaning) in enumerate(WORDS):
        _text(sheet, number, 0, word, formats["head"])
        _text(sheet, number, 1, meaning, formats["text"])
    sheet.set_column(0, 0, 22)
    sheet.set_column(1, 1, 110)
