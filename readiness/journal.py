"""The journal of a run: what was found is on disk before the next check starts, so that nothing is lost or repeated.

A run's folder holds `run.json` (what was asked, written whole) and `journal.jsonl` (one record a line, each forced to
disk before `append` returns). A last line that a kill cut short is dropped; anything else that is wrong is an error.
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

from readiness import files, schema
from readiness.assessment import evidence_from_json, evidence_to_json, facts_from_json, facts_to_json
from readiness.errors import BadFileError, UsageError
from readiness.machine import identity
from readiness.model import AcceleratorFacts, Evidence

SCHEMA = "readiness.run/1"
_LARGEST_BYTES = 2**30
Key = tuple[str, str]  # accelerator id, check id
_PLAIN = re.compile(r"[^A-Za-z0-9.-]")


class Journal:
    """One run's folder, locked for as long as this object is open."""

    def __init__(self, folder: Path) -> None:
        """Open or create the folder. Raises UsageError where it cannot be had or another run holds it."""
        self.folder = folder
        self.evidence: dict[Key, Evidence] = {}
        self.accelerators: tuple[AcceleratorFacts, ...] = ()
        self.failures: dict[str, str] = {}
        self.machine: dict[str, str] | None = None
        self.earlier_s = 0.0
        self.started: str | None = None
        self.appended = 0  # pieces of evidence since it was opened
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = files.take_lock(folder)
        except OSError as problem:
            raise UsageError(
                f"no journal can be kept there: {problem}",
                place=str(folder),
                remedy="name another folder with --resume DIR, or set XDG_STATE_HOME to one that can be written and locked",
            ) from None
        if lock is None:
            raise UsageError(
                "another readiness is at work on this run", place=str(folder), remedy="wait for it, or name another folder"
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
        """Let go of the folder."""
        if self._stream is not None:
            with contextlib.suppress(OSError):  # half a line that found no room, and was told of
                self._stream.close()
        self._lock.close()

    def asked(self) -> dict[str, Any] | None:
        """What the run that this folder holds was asked for; None where it holds none yet."""
        file = self.folder / "run.json"
        if not file.exists():
            return None
        document = files.read_json(file, largest_bytes=2**24)
        problem = schema.first_problem("run", document)
        if problem is not None:
            raise BadFileError(
                f"this is not the run.json of a run: {problem.path_text}: {problem.message}",
                place=str(file),
                remedy="name the folder of a run, or an empty one",
            )
        asked: dict[str, Any] = document["asked"]
        if isinstance(document.get("started"), str):  # early versions kept none
            self.started = document["started"]
        return asked

    def ask(self, asked: Mapping[str, Any]) -> None:
        """Write down what is asked, once, before anything runs."""
        self.started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {"schema": SCHEMA, "started": self.started, "asked": dict(asked)}
        try:
            files.write_atomically(self.folder / "run.json", json.dumps(document, indent=1))
        except OSError as problem:
            raise self._unwritable(problem) from None
        _sync_folder(self.folder)

    def open(self) -> None:
        """Read what is there and make ready to append. Raises BadFileError for a journal that is not one."""
        file = self.folder / "journal.jsonl"
        content = files.read_bytes(file, largest_bytes=_LARGEST_BYTES) if file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self._take(files.parse_json(line.decode()))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
                raise BadFileError(
                    f"this is no record of a run: {type(problem).__name__}: {problem}",
                    place=f"{file}:{number}",
                    remedy="start anew in another folder",
                ) from None
        try:
            self._stream = file.open("ab")
            self._stream.truncate(len(whole))  # the half line of a run that was killed
        except OSError as problem:
            raise UsageError(f"the journal cannot be written: {problem}", place=str(file), remedy="free it") from None
        _sync_folder(self.folder)

    def _take(self, record: Mapping[str, Any]) -> None:
        match record["kind"]:
            case "found":
                self.accelerators = tuple(facts_from_json(item) for item in record["accelerators"])
                self.failures = dict(record["failures"])
                self.machine = dict(record["machine"]) if "machine" in record else None  # early versions kept none
            case "evidence":
                if (problem := schema.first_problem("assessment", record["evidence"], "evidence")) is not None:
                    raise ValueError(f"{problem.path_text}: {problem.message}")
                self.evidence[record["accelerator"], record["evidence"]["check"]] = evidence_from_json(record["evidence"])
            case "session":
                self.earlier_s += self._session_s
                self._session_s = 0.0
        self._session_s = float(record["at"])

    _session_s = 0.0

    @property
    def seconds_before(self) -> float:
        """Wall time of the earlier sessions of this run, as far as their records reach."""
        return self.earlier_s + self._session_s

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            self._stream.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as problem:
            raise self._unwritable(problem) from None

    def _unwritable(self, problem: OSError) -> UsageError:
        """What was on disk before is kept; half a line at its end is dropped when the run goes on."""
        return UsageError(
            f"the journal cannot be written: {problem.strerror or problem}",
            place=str(self.folder),
            remedy=f"free it and go on with --resume {self.folder}, or keep the run elsewhere: --resume DIR",
        )

    def begin_session(self) -> None:
        """Mark that a process took the run up."""
        self._append({"kind": "session", "at": 0.0, "pid": os.getpid()})

    def found(self, accelerators: tuple[AcceleratorFacts, ...], failures: Mapping[str, str], at: float) -> None:
        """Keep which accelerators are under test."""
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
        """The file in which a check may keep what must outlive it; with `make`, its folder is there."""
        folder = self.folder / "kept"
        if make:
            try:
                folder.mkdir(exist_ok=True)
            except OSError as problem:
                raise self._unwritable(problem) from None
        return folder / f"{_PLAIN.sub('_', key[1])}-{_PLAIN.sub('_', key[0])}.jsonl"

    def append(self, accelerator: str, evidence: Evidence, at: float) -> None:
        """Keep what a check yielded. When this returns, it is on disk."""
        self._append({"kind": "evidence", "at": at, "accelerator": accelerator, "evidence": evidence_to_json(evidence)})
        self.evidence[accelerator, evidence.check] = evidence
        self.appended += 1


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
