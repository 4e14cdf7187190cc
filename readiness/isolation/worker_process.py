"""Worker process as the command line sees it: its messages, its output, and its end."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from readiness.datamodel import AcceleratorFacts, Measurement, Note, Row
from readiness.host.cpu_times import Shares
from readiness.isolation.evidence_pipe import Answer, End, Message, Ready, Receiver
from readiness.missing_evidence import KillCause

#: More printed text than this from one check is a fault of the check. Of all that it printed, the end is kept.
MOST_PRINTED_BYTES = 32 * 2**20
LOG_TAIL_BYTES = 8 * 1024
#: What one look takes from a pipe at most: a flood must not keep the command line from its other workers.
_MOST_AT_ONCE = 2**20
#: What `faulthandler` writes above the stack of each thread.
_STACK_HEADING = b"most recent call first"


@dataclass(slots=True)
class Worker:
    """Worker process that does one job.

    `evidence` and `log` are our ends of its pipes: what it prints is held back there, a pipe's length at a time, and never
    on a disk. `measurements`, `rows`, `accelerators` and `answer` are what it sent, `end` its last word, None while it has
    not spoken it. Once `ended`: `exit_code` is the exit code, negative for a signal, None where nobody learned it;
    `killed` says why we killed it, if we did, and `kill_cause` the same for programs; `blocker` what holds a process that we
    could not kill.
    """

    id: int
    evidence: int
    log: int
    limit_s: float
    pid: int | None = None
    started: float = field(default_factory=time.monotonic)
    ready: float | None = None
    note: str = ""
    measurements: list[Measurement] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    accelerators: list[AcceleratorFacts] = field(default_factory=list)
    answer: Answer | None = None
    end: End | None = None
    finished: float | None = None
    exit_code: int | None = None
    killed: str | None = None
    kill_cause: KillCause | None = None
    blocker: str | None = None
    timed_out: bool = False
    waited_s: float | None = None  # in the run queue until its time limit; None if the system does not report it
    full_disk: str | None = None
    cpu_shares: Shares | None = None  # what others had of the CPUs while it worked; None if the system does not report it
    usage: dict[str, Any] = field(default_factory=dict)
    printed: int = 0
    printed_at: float = 0.0
    kill_sent: float | None = None
    killed_directly: bool = False
    vanished_at: float | None = None
    dump_sent: float | None = None  # when it was asked for its stack
    dump_limit_s: float = 0.0
    printed_before_dump: int = 0
    kernel_kills_before: int = 0
    paused_s: float = 0.0
    receiver: Receiver = field(default_factory=Receiver)
    pipe_closed: bool = False
    _tail: bytes = b""
    _idle: bool = False

    @property
    def ended(self) -> bool:
        """True once it has ended."""
        return self.finished is not None

    @property
    def seconds(self) -> float:
        """Wall time since it was ready (or since its start), up to its end."""
        return (self.finished or time.monotonic()) - (self.ready or self.started)

    @property
    def spent_s(self) -> float:
        """Wall time that counts towards the limit: without the time in which the pool was paused."""
        return self.seconds - self.paused_s

    @property
    def log_tail(self) -> str:
        """End of its output."""
        return self._tail.decode(errors="replace")

    def read_pipes(self) -> str | None:
        """Read its pipes without waiting; return an error, if any."""
        data, self.pipe_closed = _read(self.evidence)
        for message in self.receiver.feed(data):
            # The request for its stack interrupts system calls: what it says after its time limit is no evidence. Neither
            # is what it says once we have decided to end it.
            if not self.timed_out and self.kill_sent is None:
                self._record(message)
        if self.receiver.flooded:
            self.rows.clear()  # nobody reads them, and every report would have to hold them
        printed, _ = _read(self.log)
        if printed:
            self.printed, self.printed_at = self.printed + len(printed), time.monotonic()
        self._tail = (self._tail + printed)[-LOG_TAIL_BYTES:]
        if self.receiver.fault is None and self.printed > MOST_PRINTED_BYTES:
            return f"it printed more than {MOST_PRINTED_BYTES >> 20} MiB"
        self._idle = not data and not printed
        return self.receiver.fault

    def read_rest(self) -> str | None:
        """Read the rest of the pipes of a process that has ended."""
        self._idle = False
        while not self._idle:
            if (problem := self.read_pipes()) is not None:
                return problem
        self.receiver.close()
        return self.receiver.fault

    def has_dumped(self, pause_s: float) -> bool:
        """Return whether it has printed its stack since it was asked, and nothing more for a moment."""
        new = self._tail[-(self.printed - self.printed_before_dump) :] if self.printed > self.printed_before_dump else b""
        return _STACK_HEADING in new and time.monotonic() - self.printed_at > pause_s

    def _record(self, message: Message) -> None:
        match message:
            case Measurement():
                self.measurements.append(message)
            case Row():
                self.rows.append(message)
            case AcceleratorFacts():
                self.accelerators.append(message)
            case Note():
                self.note = message.text
            case Ready():
                self.ready, self.paused_s = time.monotonic(), 0.0
            case Answer():
                self.answer = message
            case End():
                self.end = message

    def fail(self, reason: str, cause: KillCause) -> None:
        """Mark it as failed: it never started, or how it ended is unknown."""
        self.killed, self.kill_cause, self.finished = reason, cause, time.monotonic()

    def close(self) -> None:
        """Close its pipes."""
        for descriptor in (self.evidence, self.log):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _read(descriptor: int) -> tuple[bytes, bool]:
    """Read a non-blocking pipe within bounds; return the data, and whether it is closed."""
    parts: list[bytes] = []
    size = 0
    try:
        while size < _MOST_AT_ONCE:
            data = os.read(descriptor, 2**16)
            if not data:
                return b"".join(parts), True
            parts.append(data)
            size += len(data)
    except BlockingIOError:
        pass
    except OSError:
        return b"".join(parts), True
    return b"".join(parts), False


def state(pid: int, parent: int) -> str | None:
    """Return the state of a child of `parent` as psutil names it; None if it has ended.

    Such a one stays visible until its parent looks after it. Its first thread may have ended, and others not.
    """
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        found = str(process.status())
        if process.ppid() == parent and (found != psutil.STATUS_ZOMBIE or _live_threads(pid)):
            return found
    return None


def catches(pid: int, number: int) -> bool:
    """Return whether a process handles a signal by code of its own, as far as the system says."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return True


def holder(pid: int, state: str) -> str:
    """Return what blocks a killed process that still exists; for a check this can only be a driver."""
    return f"process {pid}, state {state}, blocked in {_waits_in(pid)}"


def _live_threads(pid: int) -> list[str]:
    """Return the live threads of a process; none if the system does not list them."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError, IndexError):
            if (thread / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(thread.name)
    return found


def _waits_in(pid: int) -> str:
    for thread in (str(pid), *_live_threads(pid)):
        with contextlib.suppress(OSError):
            if (where := Path(f"/proc/{pid}/task/{thread}/wchan").read_text()) not in ("", "0"):
                return where
    return "unknown"
