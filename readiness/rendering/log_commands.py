"""Neutralise commands that a pipeline's log would run: text of a device or a file stays text.

GitHub reads `::error::` behind blanks at the start of a line, and `##[error]` anywhere; Azure `##vso[task...]` and TeamCity
`##teamcity[...]` anywhere; Buildkite `--- `, `+++ `, `~~~ ` and `^^^ ` at the start of a line.
"""

from __future__ import annotations

import re

_COLOUR = r"\x1b\[[\d;]*m"
#: Each of the three ends before the character that would make it a command: there it is broken.
_COMMAND = re.compile(
    rf"(?:^|(?<=\r))(?:[^\S\r\n]|{_COLOUR})*:(?=:)"
    r"|##[\w.-]{0,40}(?=\[)"
    rf"|(?:^|(?<=\r))(?:{_COLOUR})*(?P<rule>---|\+\+\+|~~~|\^\^\^)(?=[ \t])",
    re.MULTILINE,
)
#: What becomes a command wherever lines are broken: between words.
_COMMAND_OF_A_WORD = re.compile(r"(?<!\S):(?=:)|##[\w.-]{0,40}(?=\[)")
_KEPT = 64  # longer than what a command begins with


def neutralise(text: str) -> str:
    """The text without commands: `: :error`, `##vso [`, `---- `. Everything else in it stays as it is."""
    return _COMMAND.sub(_break, text)


def neutralise_anywhere(text: str) -> str:
    """Break commands in text that is not yet wrapped into lines: it keeps its width."""
    if "::" not in text and "##" not in text:  # nearly all texts: the search costs ten times as much
        return text
    return _COMMAND_OF_A_WORD.sub(lambda match: f"{match[0]} ", text)


def _break(match: re.Match[str]) -> str:
    return match[0] + (match["rule"][0] if match["rule"] else " ")


class Neutraliser:
    """Break commands in a stream, whose lines may be written in pieces."""

    def __init__(self) -> None:
        self._line = ""  # what of the present line has been written, as far as it matters

    def __call__(self, text: str) -> str:
        """Return the next piece with its commands broken."""
        # A command is broken before its last character: what was written earlier never holds a whole one.
        whole = neutralise(self._line + text)
        written = whole[len(self._line) :]
        line = re.sub(_COLOUR, "", re.split(r"[\r\n]", whole)[-1])
        if line.isspace():
            line = " "
        self._line = line if len(line) <= _KEPT else f"x{line[-_KEPT:]}"
        return written
