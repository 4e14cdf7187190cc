"""Values as strict JSON: NaN and infinity are written as their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from readiness.datamodel import Number

#: Longer texts from checks and devices are cut.
LONGEST_TEXT = 10_000

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
Json = dict[str, Any]


def number_to_json(value: Number | None) -> Number | str | None:
    """A number as JSON can hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def number_from_json(value: Number | str | None) -> Number | None:
    """The inverse of `number_to_json`."""
    return _NON_FINITE[value] if isinstance(value, str) else value


def plain(value: Any, depth: int = 5) -> Any:
    """Convert a value of a row or the environment to strict JSON: unknown types as text, NaN as its name.

    Texts are cut, and what is nested deeper than `depth` becomes text: one odd check must not cost the whole document.
    """
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}..."
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return number_to_json(value)
    if isinstance(value, Mapping):
        return {str(key)[:200]: plain(item, depth - 1) for key, item in value.items()} if depth else plain(str(value))
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in value] if depth else plain(str(value))
    return plain(str(value))
