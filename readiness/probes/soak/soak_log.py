"""Soak log on disk: exposure and faults so far, valid after any kill, and resumable.

One JSON record a line, appended and forced to disk; a last line that a kill cut short is dropped. All records together
give `SoakTotals`; the live soak adds them up by the same code that reads them back.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readiness.distributed.types import Json
from readiness.documents import files
from readiness.errors import BadFileError

SCHEMA = "readiness.soak/1"
#: Faults that are kept in full; all are counted.
MOST_FAULTS = 200
#: Samples over time; when there are more, every other one goes.
MOST_SAMPLES = 120


@dataclass(slots=True)
class SoakTotals:
    """Totals of a soak so far. `begun` are its settings; times in seconds.

    `exposure_s` counts rounds that all ranks have finished, `spent_s` all of the soak's time, `restarts` the rank groups
    started after a fault. `unrepeatable` says that equal training steps give other bits here from the first, so that
    repeating them shows nothing; `uncompared` how many of the `operations` do so; `unkept` why checkpoints stayed in memory,
    if they did. `faults` has the first ones, `causes` and `suspects` count all: a fault for which no rank can be named
    counts for no chip. `events` counts bursts: faults of one host within a minute of the first are one.
    """

    begun: Json = field(default_factory=dict)
    exposure_s: float = 0.0
    spent_s: float = 0.0
    rounds: int = 0
    restarts: int = 0
    sessions: int = 0
    events: int = 0
    faults: list[Json] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)
    suspects: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    samples: list[Json] = field(default_factory=list)
    ended: str | None = None
    unrepeatable: bool = False
    uncompared: int = 0
    operations: int = 0
    unkept: str | None = None
    _event_s: float | None = None

    @property
    def count(self) -> int:
        """Number of all faults."""
        return sum(self.causes.values())

    @property
    def silent(self) -> str:
        """Reason why the absence of faults proves nothing; empty if it does."""
        if not self.rounds:
            return "no round finished"
        if self.unrepeatable:
            return "training steps are not reproducible here, so a wrong step would not be detected"
        if 2 * self.uncompared > self.operations:
            return f"{self.uncompared} of {self.operations} operations differ from call to call and were not compared"
        return ""

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one record."""
        self.spent_s = max(self.spent_s, float(record.get("spent_s", 0.0)))
        match record["kind"]:
            case "begun":
                self.begun = self.begun or dict(record)
            case "session":
                self.sessions += 1
                self.ended = None
            case "rounds":
                self.rounds += record["rounds"]
                self.exposure_s += record["exposure_s"]
            case "fault":
                self._add_fault(record)
            case "recovered":
                self.restarts += 1
                self.recoveries_s.append(record["seconds"])
            case "sample":
                self.samples.append({key: value for key, value in record.items() if key != "kind"})
                if len(self.samples) > MOST_SAMPLES:
                    self.samples = self.samples[::2]
            case "unrepeatable":
                self.unrepeatable = True
            case "operations":
                self.uncompared, self.operations = record["uncompared"], record["operations"]
            case "unkept":
                self.unkept = record["why"]
            case "ended":
                self.ended = record["why"]

    def _add_fault(self, record: Mapping[str, Any]) -> None:
        self.causes[record["cause"]] += 1
        self.suspects.update(record["chips"])
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(dict(record))
        at_s = float(record["spent_s"])
        if self._event_s is None or at_s - self._event_s > 60:
            self.events += 1
            self._event_s = at_s


class SoakLog:
    """Log of a soak in a file, with its totals; without a file, only in memory."""

    def __init__(self, path: Path | None) -> None:
        """Read the file, drop an incomplete last line, open it for appending. Raises BadFileError for another kind of file.

        Raises OSError for one that is not this user's own.
        """
        self.totals = SoakTotals()
        self._stream = None
        if path is not None:
            self._stream = files.open_own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            try:
                content = self._stream.read()
                self.totals = _totals(content, path)
                self._stream.truncate(_whole(content))
            except BaseException:
                self._stream.close()
                raise

    def add(self, kind: str, **values: Any) -> None:
        """Append a record and force it to disk."""
        record = {"kind": kind, **values}
        if self._stream is not None:
            self._stream.write(json.dumps(record).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self.totals.add(record)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()


def _whole(content: bytes) -> int:
    return content.rfind(b"\n") + 1


def read(path: Path) -> SoakTotals:
    """Return the totals of a log file. Raises BadFileError, and OSError for a file of another user."""
    with files.open_own(path, os.O_RDONLY) as stream:
        return _totals(stream.read(), path)


def _totals(content: bytes, path: Path) -> SoakTotals:
    totals = SoakTotals()
    for number, line in enumerate(content[: _whole(content)].splitlines(), start=1):
        try:
            totals.add(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
            raise BadFileError(
                f"this is not a record of a soak: {type(problem).__name__}: {problem}",
                place=f"{path}:{number}",
                remedy="start the run again in another folder",
            ) from None
    return totals


def same_soak(totals: SoakTotals, chips: Sequence[str], ranks: int) -> bool:
    """True if the totals belong to these chips and this number of ranks, or are empty."""
    with contextlib.suppress(KeyError):
        return bool(totals.begun["chips"] == list(chips) and totals.begun["ranks"] == ranks)
    return not totals.begun
