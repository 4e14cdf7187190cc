"""A fleet's database where assessments are asked for: the whole assessments of its hosts, or of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from readiness.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import sqlite3

_MAGIC = b"SQLite format 3\0"
_HEAD_BYTES = 4096


def assessments(files: Sequence[Path]) -> list[Path]:
    """Return these files; a fleet's database is replaced by the assessments of its hosts, `FLEET:HOST` by that of one.

    Raises UsageError for a host that has none: of a summary alone nothing can be derived again.
    """
    found: list[Path] = []
    for file in files:
        database, host = _parts(file)
        found += [file] if database is None else _of(database, host)
    return found


def assessment(file: Path, place: str) -> Path:
    """Return this file, or that of the host that is named as `FLEET:HOST`. Raises UsageError for a whole fleet."""
    database, host = _parts(file)
    if database is None:
        return file
    if host is None:
        raise UsageError(
            "a fleet is not one run", place=f"{place} {file}", remedy=f"name one of its hosts: {file}:HOST"
        )
    return _of(database, host)[0]


def _parts(file: Path) -> tuple[Path | None, str | None]:
    """Return the database and the host that this names; None for an ordinary file."""
    if _is_database(file):
        return file, None
    before, colon, host = str(file).rpartition(":")
    if colon and before and not file.exists() and _is_database(Path(before)):
        return Path(before), host
    return None, None


def _is_database(file: Path) -> bool:
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _of(database: Path, host: str | None) -> list[Path]:
    from readiness.fleet import fleet_summary, store

    connection = store.open_store(database, create=False)
    try:
        runs = fleet_summary.runs_that_count(connection)
        if host is not None and host not in runs:
            raise UsageError(
                f"it has no run of {host[:100]!r} that counts", place=str(database),
                remedy=f"{did_you_mean(host, list(runs))}`readiness fleet hosts {database}` lists hosts",
            )  # fmt: skip
        chosen = runs if host is None else {host: runs[host]}
        if not chosen:
            raise UsageError("no host has reported yet", place=str(database), remedy="merge the hosts' files first")
        return [_file(connection, database, name, run) for name, run in chosen.items()]
    finally:
        connection.close()


def _file(connection: sqlite3.Connection, database: Path, host: str, run: str) -> Path:
    from readiness.documents.assessment import SCHEMA

    paths = [Path(path) for (path,) in connection.execute("SELECT path FROM file WHERE run = ? ORDER BY path", (run,))]
    for path in paths:
        try:
            with path.open("rb") as stream:
                if f'"{SCHEMA}"'.encode() in stream.read(_HEAD_BYTES):
                    return path
        except OSError:
            continue
    raise UsageError(
        f"there is no whole assessment of {host}", place=str(database),
        remedy="have hosts write one (`run -f json=DIR/%h.json`), merge it, and leave it where it is",
    )  # fmt: skip
