"""TOML files of people (profiles, waivers), read so that a mistake can be shown with its line.

`tomllib` gives values without places; `Lines` finds the line of a key by reading the headers and keys again. Some texts of a
mebibyte take `tomllib` minutes (a key of many parts, a number of many digits): they are refused before it sees them.
"""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readiness.documents import files, schema
from readiness.errors import BadFileError

#: Such files are written by hand; nobody writes a mebibyte.
LARGEST_FILE_BYTES = 2**20
#: A key has at most so many parts, and a number so many digits: as many hexadecimal ones are still a float.
_DEEPEST, _LONGEST_NUMBER = 30, 250

#: A string or a comment, to its end, or to the end of the line or the text where it has none. Each alternative always
#: matches once it has begun, and gives nothing back: the whole text is read once.
_OPAQUE = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}|\Z)'
    r"|'''(?:[^']|'(?!''))*+(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+",
    re.DOTALL,
)
#: What follows stands in a text whose strings hold nothing but `x` and whose comments are gone (`_skeleton`).
_KEY = r"""(?:[A-Za-z0-9_-]++|"x*+"|'x*+')"""
_DOT = r"[ \t]*+\.[ \t]*+"
_HEADER = re.compile(rf"[ \t]*+(\[\[?)[ \t]*+({_KEY}(?:{_DOT}{_KEY})*+)[ \t]*+\]")
_ASSIGNMENT = re.compile(rf"[ \t]*+({_KEY}(?:{_DOT}{_KEY})*+)[ \t]*+=")
_DEEP_KEY = re.compile(rf"(?<![A-Za-z0-9_\"'-])(?:{_KEY}{_DOT}){{{_DEEPEST}}}")
_LONG_NUMBER = re.compile(rf"(?<![\w\"'-])[+-]?(?:0x|[0-9])[0-9a-fA-F_.]{{{_LONGEST_NUMBER},}}+")
Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """The line of each table and key of a TOML text, by path."""

    by_path: dict[Path_, int]

    def line(self, path: Sequence[str | int]) -> int:
        """The line of this path or of the nearest thing around it; 1 for the whole file."""
        for length in range(len(path), 0, -1):
            found = self.by_path.get(tuple(path[:length]))
            if found is not None:
                return found
        return 1


def _skeleton(text: str) -> str:
    """Return the text with blanked strings and comments; all positions stay the same."""

    def blank(match: re.Match[str]) -> str:
        found = match[0]
        if found[0] == "#":
            return " " * len(found)
        quote = found[:3] if found[:3] in ('"""', "'''") else found[0]
        inside = re.sub(r"[^\n]", "x", found[len(quote) : -len(quote)])
        return found if len(found) < 2 * len(quote) else quote + inside + found[-len(quote) :]

    return _OPAQUE.sub(blank, text)


def _split(dotted: str, skeleton: str) -> list[str]:
    """Return the parts of a key, located by the skeleton."""
    parts = [dotted[match.start() : match.end()] for match in re.finditer(_KEY, skeleton)]
    return [part[1:-1] if part[0] in "\"'" else part for part in parts]


def lines_of(text: str, skeleton: str | None = None) -> Lines:
    """Return the line of each table header and key of a valid TOML text. Keys within inline tables have the table's line.

    The inline tables of an array stand where they stand, if each begins a line.
    """
    by_path: dict[Path_, int] = {}
    counts: dict[Path_, int] = {}
    table: Path_ = ()
    array: Path_ = ()  # the key whose array of inline tables we may be in
    items = 0
    skeletons = (_skeleton(text) if skeleton is None else skeleton).split("\n")
    for number, (line, bare) in enumerate(zip(text.split("\n"), skeletons, strict=True), start=1):
        if header := _HEADER.match(bare):
            table = _enter(header[1] == "[[", _split(line[header.start(2) : header.end(2)], header[2]), counts)
            by_path.setdefault(table, number)
        elif bare.lstrip().startswith("{"):
            by_path.setdefault((*array, items), number)
            items += 1
        elif assignment := _ASSIGNMENT.match(bare):
            keys = _split(line[assignment.start(1) : assignment.end(1)], assignment[1])
            array, items = (*table, *keys), 0
            by_path.setdefault(array, number)
    return Lines(by_path)


def _enter(array: bool, keys: list[str], counts: dict[Path_, int]) -> Path_:
    path: Path_ = ()
    for position, key in enumerate(keys):
        path = (*path, key)
        last = position == len(keys) - 1
        if last and array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def read(file: Path, name: str) -> tuple[dict[str, Any], Lines]:
    """Read a TOML file that fits the named schema, with the lines of its keys.

    Raises BadFileError with `file:line` and the remedy.
    """
    try:
        text = files.read_bytes(file, largest_bytes=LARGEST_FILE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise BadFileError(
            f"it is not UTF-8 text (byte {problem.start})", place=str(file), remedy="give a TOML file"
        ) from None
    skeleton = _skeleton(text)
    _refuse_before_parsing(skeleton, file)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        what, line = _syntax(str(problem), text)
        raise BadFileError(f"not TOML: {what}", place=f"{file}:{line}", remedy="correct the syntax there") from None
    except (RecursionError, ValueError) as problem:
        what = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise BadFileError(f"not TOML: {what}", place=str(file), remedy=f"write it as the schema of a {name} says") from None
    lines = lines_of(text, skeleton)
    found = schema.first_problem(name, document)
    if found is not None:
        remedy = f"{found.hint} " if found.hint else ""
        if isinstance(value := _at(document, found.path), datetime.date | datetime.time):
            remedy = f'give a text, in quotes: "{value}"; '
        raise BadFileError(
            f"{found.path_text}: {found.message}",
            place=f"{file}:{lines.line(found.path)}",
            remedy=f"{remedy}write it as `readiness schema {name}` says",
        )
    _refuse_infinity(document, file, lines)
    return document, lines


def _at(document: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        document = document[step]
    return document


def _refuse_before_parsing(skeleton: str, file: Path) -> None:
    """Refuse input that would take `tomllib` too long."""
    for pattern, what, remedy in (
        (_DEEP_KEY, f"a key of more than {_DEEPEST} parts", "use the key names of the schema"),
        (_LONG_NUMBER, f"a number of more than {_LONGEST_NUMBER} digits", "write a shorter number"),
    ):
        if match := pattern.search(skeleton):
            line = skeleton.count("\n", 0, match.start()) + 1
            raise BadFileError(what, place=f"{file}:{line}", remedy=remedy)


def _refuse_infinity(document: Any, file: Path, lines: Lines, path: Path_ = ()) -> None:
    """Refuse NaN and infinity, which pass the ranges of a schema."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        if isinstance(value, float) and not math.isfinite(value):
            place = f"{file}:{lines.line((*path, key))}"
            name = schema.Problem((*path, key), "").path_text
            raise BadFileError(f"{name}: it is {value}", place=place, remedy="give a finite number")
        if isinstance(value, dict | list):
            _refuse_infinity(value, file, lines, (*path, key))


def _syntax(message: str, text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    return (f"{match[1]} (column {match[3]})", int(match[2])) if match else (message, text.count("\n") + 1)
