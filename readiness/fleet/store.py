"""The database of a fleet: one SQLite file. Each addition is a transaction: a killed merge loses nothing it finished.

Which run of a host counts is decided when it is read, never when it is added: the order of merging changes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readiness.datamodel import Use
from readiness.errors import BadFileError, UsageError

#: Says that a file is a fleet's: "rdnF".
_APPLICATION_ID = 0x72646E46
VERSION = 1
#: Another process that writes gets so long to come to its end.
_PATIENCE_S = 30.0

_TABLES = """
CREATE TABLE file (path TEXT PRIMARY KEY, sha256 TEXT NOT NULL, run TEXT, problem TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX file_run ON file (run);
CREATE TABLE run (
  digest TEXT PRIMARY KEY, host TEXT NOT NULL, started TEXT NOT NULL, seconds REAL NOT NULL, interrupted INTEGER NOT NULL,
  version TEXT NOT NULL, profile TEXT NOT NULL, profile_sha256 TEXT NOT NULL, uses TEXT NOT NULL, facts TEXT NOT NULL,
  failed_stacks TEXT NOT NULL, unfinished TEXT NOT NULL, diagnosis TEXT NOT NULL, checked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX run_host ON run (host);
CREATE TABLE accelerator (
  run TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, stack TEXT NOT NULL, vendor TEXT, model TEXT, serial TEXT,
  memory_bytes TEXT, simulated INTEGER NOT NULL, facts TEXT NOT NULL, verdicts TEXT NOT NULL, open TEXT NOT NULL,
  busy TEXT NOT NULL,  figures TEXT NOT NULL, figure_values BLOB NOT NULL, PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE figures (digest TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE expected (host TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file is: a run (`digest`, `summary`), or a problem. `checked` says whether its verdicts were derived again."""

    path: str
    sha256: str
    problem: str | None = None
    digest: str | None = None
    summary: Mapping[str, Any] | None = None
    checked: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """A host that the fleet should have. `state` is `expected`, or what kept it from that: `failed`, `drained`, ..."""

    host: str
    state: str = "expected"
    reason: str = ""


def open_store(file: Path, *, create: bool) -> sqlite3.Connection:
    """Open a fleet's database, on request make it. Raises BadFileError for a file that is none, UsageError without one."""
    if not create and not file.is_file():
        raise UsageError(
            "there is no such file", place=str(file), remedy="make it: readiness fleet merge DIR... -o fleet.sqlite"
        )
    try:
        connection = sqlite3.connect(file, timeout=_PATIENCE_S, isolation_level=None)
    except sqlite3.Error as problem:
        raise UsageError(
            f"it cannot be opened: {problem}", place=str(file), remedy="name a file in a folder in which you may write"
        ) from None
    try:
        _prepare(connection, file, create=create)
    except sqlite3.DatabaseError as problem:
        connection.close()
        locked = "locked" in str(problem) or "readonly" in str(problem) or "unable to open" in str(problem)
        remedy = "wait for the other merge, or name a file that you may write" if locked else (
            "name the file that `readiness fleet merge` wrote, or another one to be made"
        )
        raise BadFileError(f"not a fleet's database: {problem}", place=str(file), remedy=remedy) from None
    except BadFileError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, file: Path, *, create: bool) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from anybody
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA cache_size = -65536")
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty and create:
        with transaction(connection):
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in _TABLES.split(";"):
                connection.execute(statement)
        return
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION_ID:
        raise BadFileError(
            "not a fleet's database", place=str(file), remedy="name the file that `readiness fleet merge` wrote"
        )
    if version != VERSION:
        raise BadFileError(
            f"the form of this database is {version}, and this version of readiness knows {VERSION}", place=str(file),
            remedy="use the version of readiness that made it, or merge the hosts' files anew",
        )  # fmt: skip


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def known_files(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the digest of each file that was added, by its path."""
    return dict(connection.execute("SELECT path, sha256 FROM file"))


def broken_files(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the problem of each file that is no host's, by its path."""
    return dict(connection.execute("SELECT path, problem FROM file WHERE problem IS NOT NULL ORDER BY path"))


def remove_unnamed(connection: sqlite3.Connection) -> None:
    """Remove runs that no file holds any more: a file that was replaced says what it says now."""
    with transaction(connection):
        connection.execute("DELETE FROM run WHERE digest NOT IN (SELECT run FROM file WHERE run IS NOT NULL)")
        connection.execute("DELETE FROM accelerator WHERE run NOT IN (SELECT digest FROM run)")
        connection.execute("DELETE FROM figures WHERE digest NOT IN (SELECT figures FROM accelerator)")


def add(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Add files and their runs, all or none of them."""
    with transaction(connection):
        for entry in entries:
            if entry.summary is not None and entry.digest is not None:
                _add_run(connection, entry.digest, entry.summary, entry.checked)
            connection.execute(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", (entry.path, entry.sha256, entry.digest, entry.problem)
            )


def expect(connection: sqlite3.Connection, hosts: Sequence[Expected]) -> None:
    """Add hosts that the fleet should have; what is said of a host last holds."""
    with transaction(connection):
        connection.executemany(
            "INSERT OR REPLACE INTO expected VALUES (?, ?, ?)", [(one.host, one.state, one.reason) for one in hosts]
        )


def digest_of(summary: Mapping[str, Any]) -> str:
    """Return the digest of a run's content: the same for its assessment and for its summary."""
    return hashlib.sha256(_json(summary).encode("utf-8", "surrogatepass")).hexdigest()


def pack_values(values: Sequence[float | None]) -> bytes:
    """Return values as doubles of this machine's order; what is missing is NaN."""
    return array("d", (float("nan") if value is None else float(value) for value in values)).tobytes()


def _add_run(connection: sqlite3.Connection, digest: str, summary: Mapping[str, Any], checked: bool) -> None:
    if connection.execute("SELECT 1 FROM run WHERE digest = ?", (digest,)).fetchone() is not None:
        if checked:
            connection.execute("UPDATE run SET checked = 1 WHERE digest = ?", (digest,))
        return
    content = _json(summary["figures"])
    figures = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
    connection.execute("INSERT OR IGNORE INTO figures VALUES (?, ?)", (figures, content))
    uses = [use.value for use in Use if use in summary["uses"]]
    connection.execute(
        "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            digest, summary["host"]["name"], summary["started"], summary["seconds"], summary["interrupted"],
            summary["tool"]["version"], summary["profile"]["name"], summary["profile"]["sha256"], _json(uses),
            _json(summary["host"].get("facts", {})), _json(summary.get("failed_stacks", {})),
            _json(summary.get("unfinished", [])), _json(summary.get("diagnosis", [])), checked,
        ),
    )  # fmt: skip
    connection.executemany(
        "INSERT INTO accelerator VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                digest, number, item["id"], item["stack"], item.get("vendor"), item.get("model"), item.get("serial"),
                None if item.get("memory_bytes") is None else str(item["memory_bytes"]), bool(item.get("simulated")),
                _json(item.get("facts", {})), _json(item["verdicts"]), _json(item.get("open", [])),
                _json(item.get("busy", [])), figures, pack_values(item["values"]),
            )
            for number, item in enumerate(summary["accelerators"])
        ],
    )  # fmt: skip


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
