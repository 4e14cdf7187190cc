"""The published JSON Schemas, and the first thing that is wrong with a document under one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

NAMES = ("profile", "waivers", "assessment", "chip", "rehearsal", "workload")
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
def _validator(name: str, part: str | None) -> Any:
    from jsonschema import Draft202012Validator

    whole = json.loads(text(name))
    return Draft202012Validator(whole if part is None else {"$ref": f"#/$defs/{part}", "$defs": whole["$defs"]})


def first_problem(name: str, document: Any, part: str | None = None) -> Problem | None:
    """The most telling violation of the schema of this name, or of a part that it defines, or None."""
    from jsonschema.exceptions import best_match

    try:
        problem = best_match(_validator(name, part).iter_errors(document))
    except RecursionError:
        return Problem((), "it is nested too deeply")
    if problem is None:
        return None
    return Problem(tuple(problem.absolute_path), _shorten(problem.message))


def _shorten(message: str, longest: int = 300) -> str:
    return message if len(message) <= longest else f"{message[: longest - 60]} ... {message[-50:]}"
