"""Parser of tools' output, JSON or indented `KEY: value` lines, into one flat map of paths. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from readiness.accelerators.readers.tool_runner import SourceError

_DEEPEST = 12
#: So many places at which JSON may begin are tried; warnings before it are few.
_MOST_STARTS = 20


def loads(text: str, tool: str) -> Any:
    """JSON in what a tool printed, also behind warnings and with the slips that are on record. Raises SourceError.

    hy-smi was seen to leave out commas between members and to print bare `23%`
    (a lenient reader in a public monitor of Hygon's devices).
    """
    starts = [match.start() for match in re.finditer(r"^[ \t]*[{\[]", text, re.MULTILINE)][:_MOST_STARTS]
    first = re.search(r"[{\[]", text)
    if first is None:
        raise SourceError(f"{tool} printed no JSON")
    for start in (*starts, first.start()):
        for candidate in (text[start:].lstrip(), _mended(text[start:].lstrip())):
            try:
                found = json.JSONDecoder().raw_decode(candidate)[0]
            except (ValueError, RecursionError):
                continue
            if _has_names(found):
                return found
    raise SourceError(f"{tool} printed JSON that is cut off or broken")


def _has_names(value: Any) -> bool:
    """True for an object or a list of objects: a warning may have brackets too, as `[0] unknown option`."""
    return isinstance(value, Mapping) or (isinstance(value, list) and (not value or isinstance(value[0], Mapping)))


def _mended(text: str) -> str:
    text = re.sub(r"(:\s*)(\d+(?:\.\d+)?%)(\s*[,}\n])", r'\1"\2"\3', text)
    return re.sub(r'("|\d|\}|\]|true|false|null)(\s*\n\s*")', r"\1,\2", text)


def flatten(value: Any, path: str = "", depth: int = 0) -> dict[str, str]:
    """Values by path (`power/socket_power`), keys in lower case; `{"value": 10, "unit": "W"}` is its value."""
    found: dict[str, str] = {}
    if isinstance(value, Mapping) and "value" in value and set(value) <= {"value", "unit"}:
        value = value["value"]
    if isinstance(value, Mapping) and depth < _DEEPEST:
        for key, item in value.items():
            found |= flatten(item, f"{path}/{_key(str(key))}".lstrip("/"), depth + 1)
    elif isinstance(value, list) and depth < _DEEPEST:
        for number, item in enumerate(value):
            found |= flatten(item, f"{path}/{number}".lstrip("/"), depth + 1)
    elif value is not None and path:
        found[path] = str(value)
    return found


def _key(text: str) -> str:
    return re.sub(r"\W+", "_", text.strip().lower()).strip("_")


def indented(text: str, begins: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Blocks that begin with a line like `GPU: 0`: the number of each, and its lines by path."""
    document: dict[str, str] | None = None
    number = 0
    stack: list[tuple[int, str]] = []
    for line in text.splitlines():
        indent, stripped = len(line) - len(line.lstrip()), line.strip()
        if indent == 0 and (match := re.fullmatch(rf"{begins}\s*:?\s*(\d+)", stripped)):
            if document is not None:
                yield number, document
            document, number, stack = {}, int(match[1]), []
            continue
        if indent == 0 and stripped and document is not None:
            yield number, document
            document = None
        name, separator, value = stripped.partition(":")
        if document is None or not separator:
            continue
        while stack and stack[-1][0] >= indent:
            stack.pop()
        path = "/".join([*(part for _, part in stack), _key(name)])
        if value.strip():
            document.setdefault(path, value.strip())
        stack.append((indent, _key(name)))
    if document is not None:
        yield number, document


def first(document: Mapping[str, str], *patterns: str) -> str | None:
    """The value at the first path that one of these patterns fits as a whole, in their order, where it is a value."""
    for pattern in patterns:
        for path, value in document.items():
            if re.fullmatch(pattern, path) and value.strip().lower() not in ("n/a", "na", "", "none", "not supported"):
                return value
    return None
