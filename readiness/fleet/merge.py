"""Files of hosts into the database of a fleet: whole assessments and summaries, in any order, again and again.

Processes read and check the files, one of them writes. A file that cannot be read, or that contradicts itself, is kept by
its name with the reason, and costs the others nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from readiness.documents import assessment as assessments
from readiness.documents import files, host_summary
from readiness.errors import BadFileError, ReadinessError, UsageError
from readiness.fleet import store

#: A larger file is not read: a whole assessment of eight accelerators has some ten million bytes.
LARGEST_FILE_BYTES = 32 * 2**20
#: So many files are checked by a process at a time, and added in one transaction.
_BATCH = 32
_MOST_PROCESSES = 8
_LONGEST_PROBLEM = 500
#: A clock that is ahead by more is wrong, and its run would stand before all later ones.
_AHEAD = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did: so many files were new, known before, or are no host's; the latter with their problems."""

    added: int
    known: int
    broken: Mapping[str, str]


def found_files(places: Sequence[Path]) -> list[str]:
    """Return the JSON files in these folders and below, and the files named themselves, sorted. Raises UsageError.

    Hidden ones are left out: a file that is being written has such a name.
    """
    found: set[str] = set()
    for place in places:
        if place.is_dir():
            for folder, names, file_names in os.walk(place):
                names[:] = [name for name in names if not name.startswith(".")]
                found.update(
                    str(Path(folder, name).absolute())
                    for name in file_names
                    if name.endswith(".json") and not name.startswith(".")
                )
        elif place.exists():
            found.add(str(place.absolute()))
        else:
            raise UsageError(
                "there is no such folder or file", place=str(place), remedy="name the folder in which the hosts' files are"
            )
    return sorted(found)


def merge(
    connection: sqlite3.Connection,
    paths: Sequence[str],
    *,
    processes: int | None = None,
    now: datetime.datetime | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Merged:
    """Add these files; those that are known and have not changed are left alone. `now` is for clocks that are ahead."""
    now = now or datetime.datetime.now(datetime.UTC)
    known = store.known_files(connection)
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    added, left_alone, done = 0, 0, 0
    for entries, same in _checked(batches, known, now, processes or min(os.cpu_count() or 1, _MOST_PROCESSES)):
        store.add(connection, entries)
        added += sum(entry.problem is None for entry in entries)
        left_alone += same
        done += len(entries) + same
        if on_progress is not None:
            on_progress(done)
    store.remove_unnamed(connection)
    wanted = {_name(path) for path in paths}
    broken = {path: problem for path, problem in store.broken_files(connection).items() if path in wanted}
    return Merged(added, left_alone, broken)


Batch = tuple[list[store.Entry], int]


def _checked(
    batches: Sequence[Sequence[str]], known: Mapping[str, str], now: datetime.datetime, processes: int
) -> Iterator[Batch]:
    """Return the entries of each batch. Where a process dies of a file, its batch is tried file by file."""
    if processes < 2 or len(batches) < 2:
        for batch in batches:
            yield read_batch(batch, known, now)
        return
    rest = list(batches)
    while rest:
        # A fork costs nothing here, where there is one thread and no accelerator.
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
            pending: list[tuple[Sequence[str], Future[Batch]]] = []
            try:
                while rest or pending:
                    while rest and len(pending) < 2 * processes:
                        batch = rest.pop(0)
                        of_batch = {path: known[path] for path in batch if path in known}
                        pending.append((batch, pool.submit(read_batch, batch, of_batch, now)))
                    yield pending[0][1].result()
                    pending.pop(0)
            except BrokenProcessPool:
                lost = [batch for batch, _ in pending]
                rest[:0] = lost[1:]
                yield from _one_by_one(lost[0], known, now)


def _one_by_one(paths: Iterable[str], known: Mapping[str, str], now: datetime.datetime) -> Iterator[Batch]:
    for path in paths:
        with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
            try:
                yield pool.submit(read_batch, [path], known, now).result()
            except BrokenProcessPool:
                digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()
                problem = "the process that read it died: the file, or the memory of this machine, is too large"
                yield [store.Entry(_name(path), digest, problem)], 0


def read_batch(paths: Sequence[str], known: Mapping[str, str], now: datetime.datetime) -> Batch:
    """Return what each of these files is, and how many of them are known and unchanged."""
    entries, same = [], 0
    for path in paths:
        entry = _read(path, known.get(_name(path)), now)
        if entry is None:
            same += 1
        else:
            entries.append(entry)
    return entries, same


def _read(path: str, known: str | None, now: datetime.datetime) -> store.Entry | None:
    name = _name(path)
    digest = ""
    try:
        content = files.read_bytes(Path(path), largest_bytes=LARGEST_FILE_BYTES)
        digest = hashlib.sha256(content).hexdigest()
        if digest == known:
            return None
        summary, checked = _summary(content, name)
        if _ahead(summary["started"], now):
            raise BadFileError(f"it began in the future: {summary['started']}", place=name, remedy="set the host's clock")
    except ReadinessError as problem:
        text = f"{problem.what}{_within(problem.place, name)}"
        digest = digest or f"unread {text}"[:200]
        return None if digest == known else store.Entry(name, digest, text[:_LONGEST_PROBLEM])
    return store.Entry(name, digest, None, store.digest_of(summary), summary, checked)


def _summary(content: bytes, place: str) -> tuple[Mapping[str, Any], bool]:
    """Return a file's summary, and whether its verdicts were derived again. Raises BadFileError."""
    document = files.json_of(content, place)
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema == host_summary.SCHEMA:
        return host_summary.validated(document, place), False
    if schema != assessments.SCHEMA:
        raise BadFileError(
            "neither an assessment nor a summary of a host", place=place,
            remedy="give files that `readiness run -f json=FILE` or `-f host=FILE` wrote",
        )  # fmt: skip
    return host_summary.to_json(assessments.from_json(document, place)), True


def _within(place: str | None, name: str) -> str:
    """Return where in the file a problem is: ` (line 3)`, ` (at tool.seed)`; empty for the whole of it."""
    rest = (place or "").removeprefix(name).lstrip(":, ")
    if not rest or rest == place:
        return ""
    return f" (line {rest})" if rest.isdecimal() else f" ({rest})"


def _ahead(started: str, now: datetime.datetime) -> bool:
    try:
        return datetime.datetime.fromisoformat(started) > now + _AHEAD
    except (ValueError, TypeError):
        return True


def _name(path: str) -> str:
    """Return a path as text that a database holds."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
