"""Rows with a published shape: the shapes, the validation of rows, and their documentation.

The schema `rows` is the one source; `python -m readiness.rendering.row_shapes` prints what docs/reports.md says of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from readiness.documents import schema
from readiness.documents.strict_json import plain
from readiness.rendering.text import clean

#: The cell that names the form of a row and its version.
SHAPE = "shape"
BANDWIDTH, OPERATORS, PAIRS = "bandwidth/1", "operators/1", "pairs/1"
SERIES, TRAINING = "series/1", "training/1"

Row = Mapping[str, Any]


@cache
def _definitions() -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Return the name and the content of the part of the schema that defines each shape."""
    parts = json.loads(schema.text("rows"))["$defs"].items()
    return {
        part["properties"][SHAPE]["const"]: (name, part) for name, part in parts if SHAPE in part.get("properties", {})
    }


def of(rows: Iterable[Row], shape: str) -> Iterator[Row]:
    """Yield the rows that name this shape and fit it."""
    return (row for row in rows if row.get(SHAPE) == shape and problem(row) is None)


def problem(row: Row) -> str | None:
    """Return why a row does not fit the shape that it names, None if it does."""
    shape = row.get(SHAPE)
    if not isinstance(shape, str) or shape not in _definitions():
        return f"the shape {clean(shape, 60)!r} is not known to this version"
    violation = schema.first_problem("rows", plain(row), _definitions()[shape][0])
    if violation is not None:
        return f"{clean(violation.message, 200)}, at {clean(violation.path_text, 100)}"
    return _FURTHER[shape](row) if shape in _FURTHER else None


def _of_operators(row: Row) -> str | None:
    count = len(row["operators"])
    odd = next((phase for phase in ("forward", "backward") if len(row[phase]) != count), None)
    return None if odd is None else f"{count} operators, and {len(row[odd])} letters in {odd}"


def _of_bandwidth(row: Row) -> str | None:
    operations, sizes = len(row["operations"]), len(row["bytes"])
    table = len(row["values"]) == operations and all(len(line) == sizes for line in row["values"])
    return None if table else f"{operations} operations and {sizes} sizes, and values that are no such table"


def _of_pairs(row: Row) -> str | None:
    count = len(row["chips"])
    square = len(row["values"]) == count and all(len(line) == count for line in row["values"])
    return None if square else f"{count} chips, and values that are no {count} by {count} matrix"


def _of_series(row: Row) -> str | None:
    count = len(row["columns"]["at_s"])
    odd = next((name for name, values in row["columns"].items() if len(values) != count), None)
    return None if odd is None else f"{count} times, and {len(row['columns'][odd])} values in {clean(odd, 60)}"


def _of_training(row: Row) -> str | None:
    count = len(row["losses"])
    beside = ("reference_losses", "losses_alone")
    odd = next((name for name in beside if name in row and len(row[name]) != count), None)
    return None if odd is None else f"{count} losses, and {len(row[odd])} in {odd}"


#: A JSON schema cannot express this: lists that belong together have one length.
_FURTHER: Mapping[str, Callable[[Row], str | None]] = {
    BANDWIDTH: _of_bandwidth, OPERATORS: _of_operators, PAIRS: _of_pairs, SERIES: _of_series, TRAINING: _of_training,
}  # fmt: skip


def reference() -> str:
    """Return the list of shapes in docs/reports.md, in Markdown."""
    return "\n".join(_reference()) + "\n"


def _reference() -> Iterator[str]:
    for shape, (_, part) in _definitions().items():
        yield f"- `{shape}`: {part['description']}."
        for name, cell in part["properties"].items():
            if name != SHAPE:
                optional = "" if name in part["required"] else " (optional)"
                yield f"  - `{name}`{optional}: {cell['description']}"


if __name__ == "__main__":
    print(reference(), end="")
