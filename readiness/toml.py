"""TOML files of people (profiles, waivers), read so that a mistake can be shown with its line.

`tomllib` gives values without places; `Lines` finds the line of a key by reading the headers and keys again.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readiness import files, schema
from readiness.errors import BadFileError

#: Such files are written by hand; nobody writes a mebibyte.
LARGEST_FILE_BYTES = 2**20
_DEEPEST, _LONGEST_BITS = 30, 10_000

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
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


def _split(dotted: str) -> list[str]:
    return [key[1:-1] if key[0] in "\"'" else key for key in re.findall(_KEY, dotted)]


def lines_of(text: str) -> Lines:
    """Where each table header and key of this (valid) TOML text stands. Keys within inline tables stand at their table.

    The inline tables of an array stand where they stand, if each begins a line.
    """
    by_path: dict[Path_, int] = {}
    counts: dict[Path_, int] = {}
    table: Path_ = ()
    inside: str | None = None  # the delimiter of the multi-line string that we are in
    array: Path_ = ()  # the key whose array of inline tables we may be in
    items = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if inside is None:
            if header := _HEADER.match(line):
                table = _enter(header[1] == "[[", _split(header[2]), counts)
                by_path.setdefault(table, number)
            elif line.lstrip().startswith("{"):
                by_path.setdefault((*array, items), number)
                items += 1
            elif assignment := _ASSIGNMENT.match(line):
                array, items = (*table, *_split(assignment[1])), 0
                by_path.setdefault(array, number)
        inside = _string_state(line, inside)
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


def _string_state(line: str, inside: str | None) -> str | None:
    """The delimiter of the multi-line string that is open after this line, or None."""
    position = 0
    while position < len(line):
        if inside is not None:
            end = line.find(inside, position)
            if end < 0:
                return inside
            position, inside = end + 3, None
            continue
        rest = line[position:]
        if rest.startswith(('"""', "'''")):
            inside = rest[:3]
            position += 3
        elif rest[0] == "#":
            return None
        elif match := re.match(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', rest):
            position += match.end()
        else:
            position += 1
    return inside


def read(file: Path, name: str) -> tuple[dict[str, Any], Lines]:
    """A TOML file that fits the schema of this name, and where its keys stand.

    Raises BadFileError with `file:line` and the remedy.
    """
    try:
        text = files.read_bytes(file, largest_bytes=LARGEST_FILE_BYTES).decode("utf-8-sig")
        document = tomllib.loads(text)
    except UnicodeDecodeError as problem:
        raise BadFileError(
            f"it is not UTF-8 text (byte {problem.start})", place=str(file), remedy="give a TOML file"
        ) from None
    except tomllib.TOMLDecodeError as problem:
        what, line = _syntax(str(problem), text)
        raise BadFileError(f"not TOML: {what}", place=f"{file}:{line}", remedy="mend the syntax there") from None
    except (RecursionError, ValueError) as problem:
        what = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise BadFileError(f"not TOML: {what}", place=str(file), remedy=f"write it as a {name} is written") from None
    lines = lines_of(text)
    _refuse_monsters(document, file, lines)
    found = schema.first_problem(name, document)
    if found is not None:
        raise BadFileError(
            f"{found.path_text}: {found.message}",
            place=f"{file}:{lines.line(found.path)}",
            remedy=f"write it as `readiness schema {name}` says",
        )
    return document, lines


def _refuse_monsters(document: Any, file: Path, lines: Lines, path: Path_ = ()) -> None:
    """Numbers and tables that nobody wrote by hand, and that cannot even be quoted to say what is wrong with them."""
    place = f"{file}:{lines.line(path)}"
    if len(path) > _DEEPEST:
        raise BadFileError("it is nested too deeply", place=place, remedy=f"{_DEEPEST} tables in each other are enough")
    if isinstance(document, int) and document.bit_length() > _LONGEST_BITS:
        raise BadFileError(f"a number of {document.bit_length()} bits", place=place, remedy="write one that means something")
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in items:
        _refuse_monsters(value, file, lines, (*path, key))


def _syntax(message: str, text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    return (f"{match[1]} (column {match[3]})", int(match[2])) if match else (message, max(len(text.splitlines()), 1))
