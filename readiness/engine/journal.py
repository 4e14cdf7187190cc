"""The journal of a run: evidence is on disk before the next check starts, so that nothing is lost or repeated.

A run's folder holds `run.json` (what was asked, written whole) and `journal.jsonl` (one record a line, each forced to
disk before `append` returns). A last line that a kill cut short is dropped; anything else that is wrong is an error.
The folder must be this user's own: what others may have put there is neither believed nor written to.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readiness.accelerators import remote_devices
from readiness.datamodel import AcceleratorFacts, Evidence
from readiness.documents import files, schema
from readiness.documents.assessment import evidence_from_json, evidence_to_json, facts_to_json
from readiness.errors import BadFileError, UsageError
from readiness.host.identity import identity

SCHEMA = "readiness.run/1"
_LARGEST_BYTES, _LONGEST_S = 2**30, 1e11
_KEPT, _FOLDER_MODE = "kept", 0o755
#: How each record begins: half a line that begins otherwise was not cut off by a kill.
_BEGIN = b'{"kind": "'
Key = tuple[str, str]  # accelerator id, check id
_PLAIN = re.compile(r"[^A-Za-z0-9.-]")
_LARGEST_REQUEST_BYTES = 2**24


def read_request(file: Path, remedy: str) -> dict[str, Any]:
    """Return what a run's `run.json` holds. Raises BadFileError with the remedy where it is none."""
    document: dict[str, Any] = files.read_json(file, largest_bytes=_LARGEST_REQUEST_BYTES, own=True)
    if (problem := schema.first_problem("run", document)) is not None:
        what = f"this is not a run.json of readiness: {problem.path_text}: {problem.message}"
        raise BadFileError(what, place=str(file), remedy=remedy)
    return document


class Journal:
    """One run's folder, locked for as long as this object is open."""

    def __init__(self, folder: Path) -> None:
        """Open or create the folder. Raises UsageError if that fails or another run uses it."""
        self.folder = folder
        self.evidence: dict[Key, Evidence] = {}
        self.accelerators: tuple[AcceleratorFacts, ...] = ()
        self.failures: dict[str, str] = {}
        self.machine: dict[str, str] | None = None
        self.earlier_s = 0.0
        self.started: str | None = None
        self.appended = 0  # pieces of evidence since it was opened
        self._is_new = not os.path.lexists(folder)
        try:
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            files.refuse_folder_of_others(folder)
            lock = files.take_lock(folder)
        except OSError as problem:
            raise UsageError(
                f"the journal cannot be kept there: {problem}",
                place=str(folder),
                remedy="name another folder with --resume DIR, or set XDG_STATE_HOME to one that can be written and locked",
            ) from None
        if lock is None:
            raise UsageError(
                "another readiness uses this run", place=str(folder), remedy="wait until it ends, or name another folder"
            )
        self._lock = lock
        # Half of a file that a kill kept from being put in its place; the folder may be the user's, and hold other files.
        for name in ("run.json", "assessment.json"):
            files.remove_halves(folder / name)
        self._stream: Any = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder. One that was made for a run that was refused before it began goes again."""
        if self._stream is not None:
            with contextlib.suppress(OSError):  # half a line that found no room, and was told of
                self._stream.close()
        if self._is_new and os.listdir(self.folder) == ["lock"]:  # noqa: PTH208 - a name is enough
            with contextlib.suppress(OSError):
                (self.folder / "lock").unlink()
                self.folder.rmdir()
        self._lock.close()

    def saved_request(self) -> dict[str, Any] | None:
        """Return the request of the run in this folder; None if there is none yet."""
        file = self.folder / "run.json"
        if not os.path.lexists(file):
            return None
        document = read_request(file, "name the folder of a run, or an empty one")
        requested: dict[str, Any] = document["asked"]
        if isinstance(document.get("started"), str):  # early versions kept none
            self.started = document["started"]
        return requested

    def save_request(self, requested: Mapping[str, Any]) -> None:
        """Write the request, once, before anything runs."""
        self.started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {"schema": SCHEMA, "started": self.started, "asked": dict(requested)}
        try:
            files.write_atomically(self.folder / "run.json", json.dumps(document, indent=1), mode=files.OWN_MODE)
        except OSError as problem:
            raise self._unwritable(problem) from None
        _sync_folder(self.folder)

    def open(self) -> None:
        """Read the records and prepare to append. Raises UsageError for a file that is not a journal, or another user's."""
        file = self.folder / "journal.jsonl"
        self._refuse_kept_of_others()
        try:
            self._stream = files.open_own(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            content = self._stream.read(_LARGEST_BYTES + 1)
        except OSError as problem:
            raise UsageError(
                f"the journal cannot be opened: {problem.strerror or problem}",
                place=str(file),
                remedy="check disk space and permissions, or keep the run in another folder: --resume DIR",
            ) from None
        if len(content) > _LARGEST_BYTES:
            raise _no_journal(f"{file}", f"it is larger than {_LARGEST_BYTES >> 20} MiB")
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self._take(files.parse_json(line.decode()))
            except (ValueError, RecursionError) as problem:
                what = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
                raise _no_journal(f"{file}:{number}", what) from None
        torn = content[len(whole) :]
        if torn.strip(b"\0") and not (torn.startswith(_BEGIN) or _BEGIN.startswith(torn)):
            raise _no_journal(f"{file}", "its last line is not a record of readiness")
        try:
            self._stream.truncate(len(whole))  # the half line of a run that was killed
        except OSError as problem:
            raise UsageError(
                f"the journal cannot be written: {problem}", place=str(file), remedy="check disk space"
            ) from None
        _sync_folder(self.folder)

    def _take(self, record: Any) -> None:
        """Read one record. Raises ValueError for an invalid one."""
        _must_fit(schema.first_problem("journal", record))
        kind = record["kind"]
        if kind in ("found", "session", "evidence"):
            _must_fit(schema.first_problem("journal", record, kind))
        match kind:
            case "found":
                if self.accelerators:
                    raise ValueError("the devices found are recorded twice")
                self.accelerators = remote_devices.accelerators_from_json(record["accelerators"])
                self.failures = dict(record["failures"])
                self.machine = dict(record["machine"]) if "machine" in record else None  # early versions kept none
            case "evidence":
                _must_fit(schema.first_problem("assessment", record["evidence"], "evidence"))
                self.evidence[record["accelerator"], record["evidence"]["check"]] = evidence_from_json(record["evidence"])
            case "session":
                self.earlier_s += self._session_s
                self._session_s = 0.0
        self._session_s = float(record["at"])
        if self.seconds_before > _LONGEST_S:
            raise ValueError("its sessions are longer than a run can take")

    _session_s = 0.0

    @property
    def seconds_before(self) -> float:
        """Return the wall time of the earlier sessions of this run, up to their last records."""
        return self.earlier_s + self._session_s

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            self._stream.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as problem:
            raise self._unwritable(problem) from None

    def _unwritable(self, problem: OSError) -> UsageError:
        """Return the error for a failed write. Earlier records stay; half a line at the end is dropped on resume."""
        return UsageError(
            f"the journal cannot be written: {problem.strerror or problem}",
            place=str(self.folder),
            remedy=(
                f"check disk space and permissions, and continue with --resume {self.folder}, or keep the run "
                "elsewhere: --resume DIR"
            ),
        )

    def begin_session(self) -> None:
        """Record that a process started or continued the run."""
        self._append({"kind": "session", "at": 0.0, "pid": os.getpid()})

    def found(self, accelerators: tuple[AcceleratorFacts, ...], failures: Mapping[str, str], at: float) -> None:
        """Record the accelerators under test."""
        self.accelerators, self.failures, self.machine = accelerators, dict(failures), identity()
        self._append(
            {
                "kind": "found",
                "at": at,
                "accelerators": [facts_to_json(facts) for facts in accelerators],
                "failures": dict(failures),
                "machine": self.machine,
            }
        )

    def kept(self, key: Key, *, make: bool = False) -> Path:
        """Return the file in which a check may save data across runs; with `make`, its folder is created."""
        folder = self.folder / _KEPT
        if make:
            try:
                folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            except OSError as problem:
                raise self._unwritable(problem) from None
        return folder / f"{_PLAIN.sub('_', key[1])}-{_PLAIN.sub('_', key[0])}.jsonl"

    def _refuse_kept_of_others(self) -> None:
        """Raise UsageError if the folder of checks' files leads elsewhere: they are opened by name."""
        folder = self.folder / _KEPT
        try:
            if os.path.lexists(folder):
                files.refuse_folder_of_others(folder, follow=False)
                for file in folder.iterdir():
                    files.refuse_file_of_others(file)
        except OSError as problem:
            raise self._unwritable(problem) from None

    def append(self, accelerator: str, evidence: Evidence, at: float) -> None:
        """Append the evidence of a check. When this returns, it is on disk."""
        self._append({"kind": "evidence", "at": at, "accelerator": accelerator, "evidence": evidence_to_json(evidence)})
        self.evidence[accelerator, evidence.check] = evidence
        self.appended += 1


def _must_fit(problem: schema.Problem | None) -> None:
    if problem is not None:
        raise ValueError(f"{problem.path_text}: {problem.message}")


def _no_journal(place: str, what: str) -> BadFileError:
    return BadFileError(f"this is not a record of a run: {what}", place=place, remedy="start again in another folder")


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
