"""Reader of a transformers `config.json`, strict and within bounds. Nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from readiness.documents import files
from readiness.errors import BadFileError

#: A configuration is a page of text.
_LARGEST_BYTES = 2**20
#: Those of models that hold several models stand in one another, a few levels deep.
_DEEPEST = 16
#: More layers, or experts, than any model has would be built one by one, for days.
_MOST_LAYERS = 10_000
_LAYERS = re.compile(r"layers?$|depths?$|blocks?$|experts$")
#: What would fetch code or weights, or says how weights are stored: nothing of it is computed with.
_DROPPED = (
    "auto_map", "quantization_config", "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
)  # fmt: skip


def read(file: Path) -> dict[str, Any]:
    """Read a configuration. Raises BadFileError."""
    found = files.read_json(file, largest_bytes=_LARGEST_BYTES)
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise BadFileError(
            "it has no model_type", place=str(file), remedy="give the config.json of a model of transformers"
        )
    for name, value, depth in _entries(found):
        if depth > _DEEPEST:
            what = f"it is nested more than {_DEEPEST} deep"
            raise BadFileError(what, place=str(file), remedy="give the unchanged file")
        if _LAYERS.search(name) and isinstance(value, int) and value > _MOST_LAYERS:
            raise BadFileError(
                f"{name} is {value}; the maximum is {_MOST_LAYERS:,}",
                place=str(file),
                remedy="correct the number",
            )
    return found


def _entries(document: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Yield name, value and depth of every entry, without recursion, since the file may be deep."""
    waiting: list[tuple[str, Any, int]] = [("", document, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        yield name, value, depth
        if depth > _DEEPEST:
            continue
        if isinstance(value, dict):
            waiting += [(inner, item, depth + 1) for inner, item in value.items()]
        elif isinstance(value, list):
            waiting += [(name, item, depth + 1) for item in value]


def without_code(value: Any) -> Any:
    """Return the configuration without keys that would fetch code or weights."""
    if isinstance(value, dict):
        return {name: without_code(item) for name, item in value.items() if name not in _DROPPED}
    return [without_code(item) for item in value] if isinstance(value, list) else value
