"""Reading and validating what people and other programs hand in: JSON strictly, and both JSON and TOML by JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from readiness.errors import BadFileError

NAMES = ("profile", "waivers", "assessment")
_FOLDER = Path(__file__).with_name("schemas")


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing wrong with a document: where in it, and what."""

    path: tuple[str | int, ...]
    message: str

    @property
    def path_text(self) -> str:
        """The path as people write it: `require[3].weight`, or `the top`."""
        text = ""
        for step in self.path:
            text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
        return text or "the top"


@cache
def text(name: str) -> str:
    """The published schema of this name (see NAMES) as it is shipped."""
    return (_FOLDER / f"{name}.json").read_text(encoding="utf-8")


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(text(name)))


def first_problem(name: str, document: Any) -> Problem | None:
    """The most telling violation of the schema of this name, or None."""
    from jsonschema.exceptions import best_match

    problem = best_match(_validator(name).iter_errors(document))
    if problem is None:
        return None
    return Problem(tuple(problem.absolute_path), _shorten(problem.message))


def _shorten(message: str, longest: int = 300) -> str:
    return message if len(message) <= longest else f"{message[: longest - 60]} ... {message[-50:]}"


def read_bytes(file: Path, *, largest_bytes: int) -> bytes:
    """The content of a regular file of bounded size. Raises BadFileError with the remedy."""
    try:
        if not file.is_file():
            what = "this is not a file" if file.exists() else "there is no such file"
            raise BadFileError(what, place=str(file), remedy="correct the path")
        with file.open("rb") as stream:
            content = stream.read(largest_bytes + 1)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        raise BadFileError(f"it cannot be read: {problem}", place=repr(str(file)), remedy="correct the path") from None
    if len(content) > largest_bytes:
        raise BadFileError(
            f"it is larger than {largest_bytes // 2**10} KiB, the most such a file may have",
            place=str(file),
            remedy="give the file that was meant",
        )
    return content


def read_json(file: Path, *, largest_bytes: int) -> Any:
    """A JSON file read strictly: no NaN, no infinity, no key twice. Raises BadFileError with the line."""
    try:
        content = read_bytes(file, largest_bytes=largest_bytes).decode("utf-8")
        return parse_json(content)
    except UnicodeDecodeError as problem:
        raise BadFileError(
            f"it is not UTF-8 text (byte {problem.start})", place=str(file), remedy="give a JSON file"
        ) from None
    except json.JSONDecodeError as problem:
        raise BadFileError(
            f"not JSON: {problem.msg} (column {problem.colno})",
            place=f"{file}:{problem.lineno}",
            remedy="give the file as it was written; it may have been cut short",
        ) from None
    except (ValueError, RecursionError) as problem:
        what = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise BadFileError(f"not JSON: {what}", place=str(file), remedy="give the file as it was written") from None


def parse_json(content: str) -> Any:
    """JSON text read strictly. Raises ValueError (JSONDecodeError where the place is known) or RecursionError."""

    def no_constant(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON number")

    def no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for name, value in pairs:
            if name in keys:
                raise ValueError(f"the key {name!r} stands twice in one object")
            keys[name] = value
        return keys

    return json.loads(content, parse_constant=no_constant, object_pairs_hook=no_duplicates)
