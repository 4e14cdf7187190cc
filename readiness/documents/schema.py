"""The published JSON Schemas, and the first violation in a document."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readiness.errors import BadFileError, InternalError, did_you_mean

if TYPE_CHECKING:
    from readiness.documents.compiled_schema import Table, Violation

NAMES = (
    "profile", "waivers", "assessment", "baseline", "difference", "comparison", "chip", "rehearsal", "workload", "pack",
    "rows", "host", "fit",
)  # fmt: skip
_FOLDER = Path(__file__).parent.parent / "schemas"
#: Of a value that is wrong so much is quoted.
_MOST_ITEMS, _LONGEST_TEXT = 5, 100


@dataclass(frozen=True, slots=True)
class Problem:
    """The first violation in a document: its place and a message. `hint` names what was probably meant."""

    path: tuple[str | int, ...]
    message: str
    hint: str | None = None

    @property
    def path_text(self) -> str:
        """The path as people write it: `require[3].weight`, or `the top`."""
        text = ""
        for step in self.path:
            text += f"[{step}]" if isinstance(step, int) else f".{_name(step)}" if text else _name(step)
        return text or "the top"


@cache
def text(name: str) -> str:
    """The published schema of this name (see NAMES) as it is shipped."""
    return (_FOLDER / f"{name}.json").read_text(encoding="utf-8")


@cache
def _table(name: str, part: str | None) -> Table:
    from readiness.documents.compiled_schema import compiled

    whole = json.loads(text(name))
    return compiled(whole if part is None else {"$ref": f"#/$defs/{part}", "$defs": whole["$defs"]})


def first_problem(name: str, document: Any, part: str | None = None) -> Problem | None:
    """Return the first violation of this schema, or of a part that it defines, or None."""
    try:
        found = _table(name, part).first(document)
    except RecursionError:
        return Problem((), "it is nested too deeply")
    if found is None:
        return None
    return Problem(found.path, _shorten(_words(found)), _hint(found))


def refuse_other(name: str, document: Any, place: str, *, kind: str, written_by: str) -> None:
    """Refuse a document that does not fit this schema. Raises BadFileError: `not KIND`, and which command writes one."""
    if (problem := first_problem(name, document)) is not None:
        remedy = f"give a file that `{written_by}` wrote; `readiness schema {name}` shows its form"
        raise BadFileError(
            f"not {kind}: {problem.message}",
            place=f"{place}, at {problem.path_text}",
            remedy=remedy if problem.hint is None else f"{problem.hint} {remedy}",
        )


def must_fit(name: str, document: Any, what: str, remedy: str = "report this bug") -> None:
    """Make sure that what is about to be written fits its schema. Raises InternalError."""
    if (problem := first_problem(name, document)) is not None:
        raise InternalError(f"{what} does not fit its own schema at {problem.path_text}: {problem.message}", remedy=remedy)


def _words(found: Violation) -> str:
    """Return the message. It comes from `jsonschema`, for the violated keyword and an excerpt of the value."""
    value, limit = found.value, found.schema.get(found.keyword)
    match found.keyword:
        case "required":
            return f"{value!r} is a required property"
        case "additionalProperties":
            return f"Additional properties are not allowed ({_excerpt(value)!r} was unexpected)"
        case "maxLength":
            return f"a text of {len(value)} characters is too long: the maximum is {limit}"
        case "maxItems" | "maxProperties":
            return f"a list of {len(value)} items is too long: the maximum is {limit}"
        case "minItems" | "minLength" | "minProperties" if value:
            return f"{_excerpt(value)!r} is too short: the minimum is {limit}"
        case "uniqueItems":
            return f"{_excerpt(value)!r} has non-unique elements"
        case "anyOf":
            return f"{_excerpt(value)!r} is not valid under any of the given schemas"
    from jsonschema import Draft202012Validator

    problem = next(Draft202012Validator({found.keyword: limit}).iter_errors(_excerpt(value)), None)
    return problem.message if problem is not None else f"{_excerpt(value)!r} is not valid"


def _name(step: str) -> str:
    """Return a key, cleaned for display."""
    return step if len(step) <= _LONGEST_TEXT and step.isprintable() and " " not in step else repr(step[:_LONGEST_TEXT])


def _excerpt(value: Any) -> Any:
    """Return the start of a value: a message has no room for a list of a million items."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}..."
    if isinstance(value, list):
        return [_excerpt(item) for item in value[:_MOST_ITEMS]]
    if isinstance(value, dict):
        return {name: _excerpt(item) for name, item, _ in zip(value, value.values(), range(_MOST_ITEMS), strict=False)}
    return value


def _hint(found: Violation) -> str | None:
    """Return the key or word that was probably meant."""
    match found.keyword:
        case "additionalProperties":
            candidates = list(found.schema.get("properties", {}))
        case "enum":
            candidates = found.schema["enum"]
        case "const" if _is_later_form(found.value, found.schema["const"]):
            return "a later version of readiness wrote it: update readiness;"
        case "const":
            candidates = [found.schema["const"]]
        case _:
            return None
    return did_you_mean(found.value, candidates).rstrip() or None if isinstance(found.value, str) else None


def _is_later_form(value: object, known: str) -> bool:
    """Return whether the form is later than the one of this version, e.g. `readiness.profile/2`."""
    name, _, number = str(value)[:_LONGEST_TEXT].rpartition("/")
    wanted, _, own = known.rpartition("/")
    numbers = (number, own)
    if name != wanted or not all(re.fullmatch("[0-9]{1,6}", each, re.ASCII) for each in numbers):
        return False  # not every constant is the name of a form
    return int(number) > int(own)


def _shorten(message: str, longest: int = 300) -> str:
    return message if len(message) <= longest else f"{message[: longest - 60]} ... {message[-50:]}"
