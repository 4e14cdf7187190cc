"""The command line's side of the worker processes: start them, listen to them, keep their limits, end them.

One `Worker` is one process at one job. `Pool.poll` moves all of them forward; whoever calls it looks at `Worker.ended`.
Nothing here blocks for longer than it is told to, whatever a worker does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from readiness import memory, nursery, spawning
from readiness.errors import InternalError

#: How long a worker may take to import torch, a plug-in and its check before it must say that it is ready.
START_LIMIT_S = 300.0
#: How long a killed process may take to vanish before it is given up as unkillable (a driver holds it).
VANISH_LIMIT_S = 5.0
#: More than this from one check, as evidence or as printed text, is a fault of the check.
MOST_BYTES = 32 * 2**20
LOG_TAIL_BYTES = 8 * 1024

_MEMORY_CHECK_PERIOD_S = 0.1


@dataclass(slots=True)
class Worker:
    """One process at one job.

    `pieces` are the messages it sent (`measurement`, `row`, `accelerator`), `end` its last word, None while it has not
    spoken it. Once `ended`: `exit_code` is the exit code, negative for a signal, None if it could not be killed;
    `killed` says why we killed it, if we did.
    """

    id: int
    pipe: int
    log: IO[bytes]
    limit_s: float
    pid: int | None = None
    started: float = field(default_factory=time.monotonic)
    ready: float | None = None
    note: str = ""
    pieces: list[tuple[str, Any]] = field(default_factory=list)
    end: Mapping[str, Any] | None = None
    finished: float | None = None
    exit_code: int | None = None
    killed: str | None = None
    timed_out: bool = False
    usage: dict[str, Any] = field(default_factory=dict)
    received: int = 0
    buffer: bytes = b""
    kill_sent: float | None = None
    dump_sent: float | None = None
    kernel_kills_before: int = 0
    last_words: str = ""

    @property
    def ended(self) -> bool:
        """Whether it is over, one way or another."""
        return self.finished is not None

    @property
    def seconds(self) -> float:
        """Wall time since it was ready (since its start where it never was), up to its end where it has ended."""
        return (self.finished or time.monotonic()) - (self.ready or self.started)

    def log_tail(self) -> str:
        """The last of what the process and its libraries printed."""
        if self.log.closed:
            return self.last_words
        # pread: the descriptor's own offset is where the worker writes next.
        start = max(self.log_size() - LOG_TAIL_BYTES, 0)
        return os.pread(self.log.fileno(), LOG_TAIL_BYTES, start).decode(errors="replace")

    def log_size(self) -> int:
        """How much it has printed so far, in bytes."""
        return os.fstat(self.log.fileno()).st_size


class Pool:
    """All workers of a run and the prepared process that makes them."""

    def __init__(self, *, preload: str = "torch,readiness.worker", memory_floor_bytes: int | None = None) -> None:
        self._modules = list(filter(None, preload.split(",")))
        self.memory_floor_bytes = memory.floor() if memory_floor_bytes is None else memory_floor_bytes
        self.workers: dict[int, Worker] = {}
        self.problem: str | None = None
        self._ids = itertools.count(1)
        self._selector = selectors.DefaultSelector()
        self._memory_checked = 0.0
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._open()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, _socket_kind())
        with theirs:
            self._process = subprocess.Popen(
                spawning.bootstrap("readiness.nursery:main", str(theirs.fileno()), ",".join(self._modules)),
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Plug-ins load themselves with torch: they must not touch a device in the process that is forked from.
                env=os.environ | {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            )  # fmt: skip
        self._control = ours
        self._selector.register(ours, selectors.EVENT_READ)

    def start(self, request: Mapping[str, Any], *, fork: bool, limit_s: float) -> Worker:
        """Start a worker at a job. `fork` takes it from the prepared process; else it is a fresh interpreter."""
        assert self._control is not None
        identity = next(self._ids)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        # A file without a name: nothing stays on disk, however we end.
        worker = Worker(identity, reader, tempfile.TemporaryFile(prefix="readiness-"), limit_s)  # noqa: SIM115
        worker.kernel_kills_before = memory.kernel_kills()
        autoload = {"TORCH_DEVICE_BACKEND_AUTOLOAD": os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")}
        message = json.dumps(
            {"start": identity, "fork": fork, "request": dict(request), "environment": autoload}
        ).encode()
        try:
            if len(message) > nursery.LARGEST_MESSAGE_BYTES:
                raise InternalError("a job's description is too large for its worker", remedy="shorten the settings")
            try:
                socket.send_fds(self._control, [message], [writer, worker.log.fileno()])
            except OSError:  # the prepared process died unnoticed: the next one gets the job
                self._lost()
                socket.send_fds(self._control, [message], [writer, worker.log.fileno()])
        except OSError as problem:
            worker.killed, worker.finished = f"the prepared process is gone ({problem})", time.monotonic()
        finally:
            os.close(writer)
        self._selector.register(reader, selectors.EVENT_READ, worker)
        self.workers[identity] = worker
        return worker

    def preload(self, names: Sequence[str]) -> None:
        """Have the prepared process import more: workers forked from now on need not. Returns at once."""
        self._modules += names
        self._tell({"import": list(names)})

    def poll(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for something to happen, then bring every worker up to date."""
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                self._listen()
            else:
                self._read(key.data)
        self._keep_limits()
        for worker in list(self.workers.values()):
            if worker.ended:
                self._forget(worker)

    def kill(self, worker: Worker, reason: str) -> None:
        """End a worker and its whole process group; the reason becomes evidence. Returns at once."""
        if worker.kill_sent is None:
            worker.killed = reason
            worker.kill_sent = time.monotonic()
            self._tell({"kill": worker.id})

    def close(self) -> None:
        """End everything that is left and wait for it, with a deadline."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(VANISH_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(VANISH_LIMIT_S)
            self._process = None
        for worker in list(self.workers.values()):
            self._forget(worker)
        self._selector.close()

    def _tell(self, message: Mapping[str, Any]) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(json.dumps(message).encode())

    def _listen(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(nursery.LARGEST_MESSAGE_BYTES)
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        message = json.loads(data)
        if "prepared" in message:
            self.problem = message["problem"]
        elif "started" in message and (worker := self.workers.get(message["started"])):
            worker.pid = message["pid"]
        elif "exited" in message and (worker := self.workers.get(message["exited"])):
            worker.exit_code = message["code"]
            worker.usage = {key: message[key] for key in ("peak_memory_bytes", "cpu_s", "left_behind")}
            self._read(worker)  # what it sent before it ended
            worker.finished = time.monotonic()

    def _lost(self) -> None:
        """The prepared process died. Its workers died with it; a new one takes its place."""
        assert self._control is not None
        self._selector.unregister(self._control)
        self._control.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(VANISH_LIMIT_S)
        for worker in self.workers.values():
            if not worker.ended:
                worker.killed, worker.finished = "the prepared process died, and the check with it", time.monotonic()
        self._open()

    def _read(self, worker: Worker) -> None:
        while True:
            try:
                data = os.read(worker.pipe, 65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(worker.pipe)
                return
            worker.received += len(data)
            if worker.received > MOST_BYTES:
                worker.pieces.clear()  # a flood is no evidence
                self.kill(worker, f"it sent more than {MOST_BYTES >> 20} MiB of evidence")
                return
            *lines, worker.buffer = (worker.buffer + data).split(b"\n")
            for line in lines:
                self._take(worker, line)

    def _take(self, worker: Worker, line: bytes) -> None:
        try:
            ((kind, value),) = json.loads(line).items()
        except (ValueError, AttributeError):
            self.kill(worker, "something else than readiness wrote into its evidence pipe")
            return
        if kind == "ready":
            worker.ready = time.monotonic()
        elif kind == "note":
            worker.note = str(value)
        elif kind == "end":
            worker.end = value
        else:
            worker.pieces.append((kind, value))

    def _keep_limits(self) -> None:
        now = time.monotonic()
        watch_memory = now - self._memory_checked >= _MEMORY_CHECK_PERIOD_S
        if watch_memory:
            self._memory_checked = now
            self._keep_memory()
        for worker in self.workers.values():
            if worker.ended:
                continue
            limit_s = START_LIMIT_S if worker.ready is None else worker.limit_s
            if worker.kill_sent is not None:
                if now - worker.kill_sent > VANISH_LIMIT_S:
                    worker.killed = f"{worker.killed}; it cannot be killed ({_state(worker.pid)})"
                    worker.finished = time.monotonic()
            elif worker.dump_sent is not None:
                if now - worker.dump_sent > 0.3:  # the stack dump has had its moment
                    self.kill(worker, "time limit")
            elif now - (worker.ready or worker.started) > limit_s:
                worker.timed_out = True
                worker.dump_sent = now
                self._tell({"dump": worker.id})
            elif watch_memory and worker.log_size() > MOST_BYTES:
                self.kill(worker, f"it printed more than {MOST_BYTES >> 20} MiB")

    def _keep_memory(self) -> None:
        """Kill the largest worker before the host runs out of memory: the kernel's choice might be another's process."""
        running = [worker for worker in self.workers.values() if not worker.ended and worker.pid and not worker.kill_sent]
        if not running or memory.available() >= self.memory_floor_bytes:
            return
        largest = max(running, key=lambda worker: memory.of_group(worker.pid))
        self.kill(largest, f"out of memory: less than {self.memory_floor_bytes >> 20} MiB of the host's were left")

    def _forget(self, worker: Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.pipe)
        with contextlib.suppress(OSError):
            os.close(worker.pipe)
        worker.last_words = worker.log_tail()
        worker.log.close()
        self.workers.pop(worker.id, None)


def _state(pid: int | None) -> str:
    try:
        waits = Path(f"/proc/{pid}/wchan").read_text() or "unknown"
        return f"process {pid}, state {psutil.Process(pid).status()}, waiting in {waits}"
    except (OSError, psutil.Error):
        return f"process {pid}"


def _socket_kind() -> socket.SocketKind:
    return getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)
