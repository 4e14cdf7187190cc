"""All figures of a fleet as one Parquet file (extra `parquet`), for tools that analyse tables: a row for each figure.

DuckDB joins and writes it in bounded memory; from the database go only small tables, and the values as text, in pieces.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sqlite3
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from readiness.datamodel import Use
from readiness.errors import UsageError
from readiness.fleet.fleet_summary import Fleet
from readiness.optional_imports import optional

#: DuckDB may take so much; beyond that it uses files beside the one that it writes.
_MEMORY = "384MB"
_COLUMNS = """
  accelerator.host, accelerator.started, accelerator.profile, accelerator.accelerator, accelerator.stack, accelerator.model,
  accelerator.serial, accelerator.training, accelerator.inference, figure.check_id AS "check", figure.measure, figure.labels,
  figure.unit, value.value
"""
_ACCELERATOR = {
    "number": "INTEGER", "host": "VARCHAR", "started": "VARCHAR", "profile": "VARCHAR", "accelerator": "VARCHAR",
    "stack": "VARCHAR", "model": "VARCHAR", "serial": "VARCHAR", "training": "VARCHAR", "inference": "VARCHAR",
    "figures": "VARCHAR",
}  # fmt: skip
_FIGURE = {
    "figures": "VARCHAR", "place": "INTEGER", "check_id": "VARCHAR", "measure": "VARCHAR", "labels": "VARCHAR",
    "unit": "VARCHAR",
}  # fmt: skip
_VALUE = {"number": "INTEGER", "place": "INTEGER", "value": "DOUBLE"}


def require_library() -> Any:
    """Return duckdb. Raises UsageError where it is not installed."""
    with optional("parquet", "a Parquet file", place="-f parquet"):
        import duckdb
    return duckdb


def write(connection: sqlite3.Connection, fleet: Fleet, file: Path) -> None:
    """Write the figures of all runs that count; the file is there whole or not at all. Raises UsageError."""
    duckdb = require_library()
    file = file.absolute()
    with tempfile.TemporaryDirectory(prefix=".readiness-", dir=file.parent) as name:
        folder = Path(name)
        _write_tables(connection, fleet, folder)
        try:
            with duckdb.connect(config={
                "memory_limit": _MEMORY, "threads": min(os.cpu_count() or 1, 4), "temp_directory": str(folder / "spill"),
                "preserve_insertion_order": False, "autoinstall_known_extensions": False,
            }) as base:  # fmt: skip
                base.execute(
                    f"COPY (SELECT {_COLUMNS} FROM {_table(folder / 'value.csv', _VALUE)} AS value "  # noqa: S608 - ours
                    f"JOIN {_table(folder / 'accelerator.csv', _ACCELERATOR)} AS accelerator USING (number) "
                    f"JOIN {_table(folder / 'figure.csv', _FIGURE)} AS figure "
                    "ON figure.figures = accelerator.figures AND figure.place = value.place) "
                    f"TO {_text(str(folder / 'fleet.parquet'))} (FORMAT parquet, COMPRESSION zstd)"
                )
        except duckdb.Error as problem:
            raise UsageError(
                f"the figures cannot be written: {str(problem).splitlines()[0][:300]}", place=str(file),
                remedy="name a file in a folder with enough space",
            ) from None  # fmt: skip
        (folder / "fleet.parquet").replace(file)


def _table(file: Path, columns: dict[str, str]) -> str:
    """Return a table of DuckDB: a file of comma-separated values, all of whose columns are known."""
    described = ", ".join(f"{_text(name)}: {_text(kind)}" for name, kind in columns.items())
    return (
        f"read_csv({_text(str(file))}, columns = {{{described}}}, header = false, delim = ',', quote = '\"', "
        "escape = '\"', auto_detect = false, nullstr = '', max_line_size = 4000000)"
    )


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _write_tables(connection: sqlite3.Connection, fleet: Fleet, folder: Path) -> None:
    known: set[str] = set()
    number = 0
    with (
        (folder / "accelerator.csv").open("w", newline="", encoding="utf-8") as accelerators,
        (folder / "figure.csv").open("w", newline="", encoding="utf-8") as figures,
        (folder / "value.csv").open("w", encoding="utf-8") as values,
    ):
        accelerator_rows, figure_rows = csv.writer(accelerators), csv.writer(figures)
        for host in fleet.hosts:
            for id, stack, model, serial, verdicts, digest, content in connection.execute(
                "SELECT id, stack, model, serial, verdicts, figures, figure_values FROM accelerator "
                "WHERE run = ? ORDER BY number",
                (host.run,),
            ):
                if digest not in known:
                    known.add(digest)
                    figure_rows.writerows(_figures(connection, digest))
                given = json.loads(verdicts)
                verdict = [given.get(use.value, {}).get("verdict") for use in Use]
                accelerator_rows.writerow(_cleaned(
                    [number, host.name, host.started, fleet.profile, id, stack, model, serial, *verdict, digest]
                ))  # fmt: skip
                values.writelines(_values(number, content))
                number += 1


def _figures(connection: sqlite3.Connection, digest: str) -> Iterator[Sequence[Any]]:
    (content,) = connection.execute("SELECT content FROM figures WHERE digest = ?", (digest,)).fetchone()
    for place, one in enumerate(json.loads(content)):
        labels = json.dumps(one["labels"], sort_keys=True, ensure_ascii=True)
        yield _cleaned([digest, place, one["check"], one["name"], labels, one.get("unit")])


def _cleaned(row: Sequence[Any]) -> list[Any]:
    """Return a row whose texts UTF-8 can hold and that no null byte ends."""
    return [one.encode("utf-8", "replace").decode().replace("\0", "") if isinstance(one, str) else one for one in row]


def _values(number: int, content: bytes) -> Iterator[str]:
    values = array("d")
    values.frombytes(content)
    return (f"{number},{place},{value!r}\n" for place, value in enumerate(values) if not math.isnan(value))
