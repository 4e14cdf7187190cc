"""Escapes in JSON text for characters that a terminal, editor or CI log would interpret."""

from __future__ import annotations

import json
import re
import unicodedata

#: Outside of strings JSON has none of these. The first sign of `##vso[` and `##[error]` is enough: see `log_commands`.
_UNSAFE = re.compile(r"[\x7f-\U0010ffff]+|#(?=#[\w.-]*\[)")
_KEPT_CATEGORIES = ("Zs", "Cs")  # blanks; halves of surrogate pairs, which become question marks where text is written


def escaped(text: str) -> str:
    """Return the document with control, format, private and unassigned characters as escapes; letters stay."""
    if text.isascii() and "\x7f" not in text and "##" not in text:  # nearly all documents; megabytes are not searched then
        return text
    return _UNSAFE.sub(_of_run, text)


def _of_run(match: re.Match[str]) -> str:
    run = match[0]
    if run == "#":
        return "\\u0023"
    return run if run.isprintable() else "".join(map(_of_character, run))


def _of_character(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) in _KEPT_CATEGORIES:
        return character
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
