"""Text made harmless, lines of so many columns, figures.

Texts come from devices, drivers and files of other people. `clean` is for every one of them; what HTML, Markdown or XML
could misread is escaped by the report itself.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from readiness.rendering.log_commands import neutralise_anywhere

if TYPE_CHECKING:
    from readiness.datamodel import Number

# What terminals act upon: CSI and OSC (and their kin that carry text), in 7 and 8 bits, then any other short escape.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
#: A word that is too long breaks behind the last of these that fits.
_JOINTS = re.compile(r".*[-_/.,:=](?=.)")
_UNUSUAL = re.compile(r"[^ -~]")  # one by one: nearly all of a text is not


def clean(text: object, longest: int = 1000) -> str:
    """Return one line of at most `longest` characters, without what a terminal, CI log, editor or XML parser interprets.

    Escape sequences go as a whole; blanks and line breaks become one space; control, format (direction, zero width),
    private and unassigned characters and halves of surrogate pairs go; commands of pipelines are broken.
    """
    plain = str(text)
    if len(plain) <= longest and plain.isprintable():  # nearly all are: nothing in them is to go
        return neutralise_anywhere(" ".join(plain.split()))
    # Cut first, generously: a text of many megabytes is not searched to its end.
    kept = neutralise_anywhere(" ".join(_without_controls(plain[: 4 * longest + 1000]).split()))
    return kept if len(kept) <= longest else f"{kept[: longest - 3].rstrip()}..."


def message(text: str) -> str:
    """Clean several lines; their indentation stays."""
    return "\n".join(" " * (len(line) - len(line.lstrip())) + clean(line) for line in text.splitlines())


def visible(text: str) -> str:
    """Clean a text whose lines and blanks stay as they are: a table, a documentation."""
    return "\n".join(
        "".join(" " if character.isspace() else character for character in _without_controls(line)).rstrip()
        for line in text.split("\n")
    )


def _without_controls(text: str) -> str:
    """Return text without escape sequences, invisible and unassigned characters; line breaks and other blanks stay."""
    if text.isprintable():
        return text
    return _UNUSUAL.sub(_seen, _ESCAPES.sub("", text))


def _seen(match: re.Match[str]) -> str:
    """Return the character, or nothing for one that must go."""
    return match[0] if match[0].isspace() or unicodedata.category(match[0])[0] != "C" else ""


def width(text: str) -> int:
    """Return the terminal columns of a clean text: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, columns: int) -> str:
    """Cut a clean line to so many columns; `...` marks a cut."""
    text = text.rstrip()
    if width(text) <= columns:
        return text
    while width(text) > columns - 3:
        text = text[:-1]
    return f"{text.rstrip()}..."


def wrap(text: str, columns: int, *, first: str = "", rest: str | None = None) -> list[str]:
    """Wrap a clean text to `columns`: the first line starts with `first`, the others with `rest` (else blanks).

    A word that is longer than a line is broken, between its parts if it has any. The two beginnings may hold colour only if
    they take no columns.
    """
    rest = " " * width(first) if rest is None else rest
    lines: list[str] = []
    line, used, empty = first, width(first), True
    for word in _pieces(text, max(columns - max(width(first), width(rest)), 8)):
        needed = width(word) + (not empty)
        if used + needed > columns and not empty:
            lines.append(line)
            line, used, empty = rest, width(rest), True
            needed = width(word)
        line += word if empty else f" {word}"
        used, empty = used + needed, False
    return [*lines, line.rstrip()]


def _pieces(text: str, longest: int) -> Iterable[str]:
    for word in text.split():
        piece, used = "", 0
        for character in word:
            columns = _columns(character)
            if used + columns > longest:
                kept = _JOINTS.match(piece)
                done, piece = (piece[: kept.end()], piece[kept.end() :]) if kept is not None else (piece, "")
                yield done
                used = width(piece)
            piece, used = piece + character, used + columns
        yield piece


def figure(value: Number | str | None, unit: str | None = None, *, beside: str = "") -> str:
    """A measured value with its unit, short.

    `beside` is a text it stands next to: 0.99999 beside `at_least 1` keeps the digits that tell it from the limit.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        text = str(value) if abs(value) < 10**15 else _huge(value)
    elif isinstance(value, float):
        text = _float(value, beside.split())
    else:
        text = str(value)
    return text if unit in (None, "", "1") else f"{text} {clean(unit, 40)}"


def _huge(value: int) -> str:
    try:
        return f"{value:.4g}"
    except OverflowError:
        return f"{'-' if value < 0 else ''}2^{value.bit_length() - 1}"


def _float(value: float, beside: Sequence[str]) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    return next((text for digits in (4, 6, 9) if (text := f"{value:.{digits}g}") not in beside), repr(value))


def counted(count: int, word: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """`0.4 s`, `41.8 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def roughly(seconds: float) -> str:
    """Format an estimated time: `5 s`, `40 s`, `4 min`, `2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds < 10 else f"{round(seconds / 5) * 5} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.0f} h"


def memory(size: int | None) -> str:
    """`96 GiB`, `512 MiB`, `12 TiB`; empty where it is not known."""
    if size is None:
        return ""
    if size >= 2**40:
        return f"{size / 2**40:.4g} TiB"
    return f"{size / 2**30:.4g} GiB" if size >= 2**30 else f"{size / 2**20:.4g} MiB"


def escape_markdown(text: object, longest: int = 1000) -> str:
    """Escape text for Markdown: no markup, HTML, link, mention or new table cell."""
    safe = clean(text, longest).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    safe = re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", safe)
    return safe.replace("@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")
