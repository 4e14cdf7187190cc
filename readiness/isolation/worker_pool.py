"""Worker pool: starts worker processes, reads from them, enforces their limits, and ends them.

`WorkerPool.poll` moves all workers forward; the caller looks at `Worker.ended`. Nothing here blocks for longer than it is
told to, whatever a worker does.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import selectors
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from readiness.errors import InternalError
from readiness.host import cpu_times, disk, memory, runqueue_wait
from readiness.isolation import evidence_pipe, forkserver
from readiness.isolation.forkserver_process import STOPPED, VANISH_LIMIT_S, ForkserverProcess
from readiness.isolation.worker_process import Worker, catches, holder, state
from readiness.missing_evidence import KillCause

#: How long a worker may take to import torch, a plug-in and its check before it must say that it is ready.
START_LIMIT_S = 300.0
#: After this a kill that the forkserver has not carried out is carried out from here.
_DIRECT_KILL_S = 1.0
#: What a worker may print before the next look at it without having to wait.
_LOG_PIPE_BYTES = 2**20
_WATCH_PERIOD_S = 0.1
#: How long a process at its time limit may take to print its stack, on a busy host too, and what pause ends it.
_DUMP_LIMIT_S, _DUMP_PAUSE_S = 5.0, 0.1
#: Whoever did not look for so long was stopped or very busy: that time is nobody's.
_STALL_S = 2.0


class WorkerPool:
    """All workers of a run and the forkserver."""

    def __init__(self, *, preload: str = f"torch,{forkserver.WORKER}", memory_floor_bytes: int | None = None) -> None:
        self._modules = list(filter(None, preload.split(",")))
        self.memory_floor_bytes = memory.floor() if memory_floor_bytes is None else memory_floor_bytes
        self.workers: dict[int, Worker] = {}
        self.problem: str | None = None
        self._cpu_times = cpu_times.History()
        self._ids = itertools.count(1)
        self._selector = selectors.DefaultSelector()
        self._checked_at = 0.0
        self._polled_at = time.monotonic()
        self._open()
        evidence_pipe.prepare()  # while the forkserver imports torch

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self._forkserver = ForkserverProcess(self._modules)
        self._selector.register(self._forkserver.control, selectors.EVENT_READ)

    def start(self, request: Mapping[str, Any], *, fork: bool, limit_s: float) -> Worker:
        """Start a worker for a job. With `fork` it comes from the forkserver, else it is a fresh interpreter.

        Where that cannot be done, the worker has ended before it began, and says why.
        """
        identity = next(self._ids)
        autoload = {"TORCH_DEVICE_BACKEND_AUTOLOAD": os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")}
        message = {"start": identity, "fork": fork, "request": dict(request), "environment": autoload}
        if len(json.dumps(message).encode()) > forkserver.LARGEST_MESSAGE_BYTES:
            raise InternalError("a job's description is too large for its worker", remedy="shorten the settings")
        with contextlib.ExitStack() as opened:
            worker = Worker(identity, -1, -1, limit_s, kernel_kills_before=memory.kernel_kills())
            try:
                worker.evidence, evidence = _pipe(opened)
                worker.log, log = _pipe(opened)
                _widen(log)
                try:
                    self._forkserver.send(message, [evidence, log])
                except OSError:  # the forkserver died unnoticed: the next one gets the job
                    self._lost()
                    self._forkserver.send(message, [evidence, log])
                self._selector.register(worker.evidence, selectors.EVENT_READ, worker)
            except OSError as problem:
                worker.fail(f"its process could not be started: {problem}", KillCause.NOT_STARTED)
        self.workers[identity] = worker
        self._cpu_times.note()
        return worker

    def preload(self, names: Sequence[str]) -> None:
        """Let the forkserver import modules for later workers. Returns at once."""
        self._modules += names
        self._send({"import": list(names)})

    def poll(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for events, then update every worker."""
        self._selector.select(timeout_s)
        while self._forkserver.has_message() and self._listen():
            pass
        for worker in self.workers.values():
            if not worker.ended:
                self._update(worker)
        self._extend_limits(timeout_s)
        self._enforce_limits()
        for worker in list(self.workers.values()):
            if worker.ended:
                self._forget(worker)

    def kill(self, worker: Worker, reason: str, cause: KillCause) -> None:
        """End a worker and its whole process group; the reason becomes evidence. Returns at once."""
        if worker.kill_sent is None:
            worker.killed, worker.kill_cause = reason, cause
            worker.kill_sent = time.monotonic()
            self._send({"kill": worker.id})

    def close(self) -> None:
        """End everything that is left and wait for it, with a deadline."""
        self._forkserver.end()
        for worker in list(self.workers.values()):
            self._forget(worker)
        self._selector.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._forkserver.send(message)

    def _listen(self) -> bool:
        """Handle one message of the forkserver; return False if it died and was replaced."""
        message = self._forkserver.receive()
        match message:
            case None:
                self._lost()
                return False
            case {"prepared": _, "problem": problem}:
                self.problem = problem
            case {"started": id, "pid": pid} if id in self.workers:
                self.workers[id].pid = pid
            case {"failed": id, "reason": reason} if id in self.workers:
                self.workers[id].fail(f"its process could not be started: {reason}", KillCause.NOT_STARTED)
            case {"exited": id} if id in self.workers:
                worker = self.workers[id]
                worker.exit_code = message["code"]
                worker.usage = {key: message[key] for key in ("peak_memory_bytes", "cpu_s", "left_behind")}
                if (problem := worker.read_rest()) is not None:  # what it sent before it ended
                    self.kill(worker, problem, KillCause.OUTPUT)
                if worker.exit_code != 0:  # it may have died of a full disk before the next look at that
                    worker.full_disk = worker.full_disk or disk.full()
                worker.finished = time.monotonic()
                self._cpu_times.note()
                worker.cpu_shares = self._cpu_times.since(worker.ready or worker.started)
        return True

    def _lost(self) -> None:
        """Handle the death of the forkserver: its workers died with it, and a new one is started."""
        self._selector.unregister(self._forkserver.control)
        self._forkserver.end()
        for worker in self.workers.values():
            if not worker.ended:
                worker.read_pipes()  # its last words
                worker.fail("the forkserver died, and the check with it", KillCause.FORKSERVER)
        self._open()

    def _update(self, worker: Worker) -> None:
        was_ready = worker.ready
        problem = worker.read_pipes()
        if worker.ready != was_ready:
            self._cpu_times.note()
        if worker.pipe_closed:
            self._leave(worker)
        if problem is not None:
            self.kill(worker, problem, KillCause.OUTPUT)

    def _extend_limits(self, timeout_s: float) -> None:
        """Extend all limits by the time in which this process was stopped or delayed."""
        now = time.monotonic()
        late_s, self._polled_at = now - self._polled_at - timeout_s, now
        if late_s > _STALL_S:
            for worker in self.workers.values():
                worker.paused_s += min(late_s, now - (worker.ready or worker.started))

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        if now - self._checked_at >= _WATCH_PERIOD_S:
            self._checked_at = now
            self._forkserver.resume()
            self._check_memory()
            self._check_disk()
            if self.workers:
                self._cpu_times.tick()
        for worker in self.workers.values():
            if worker.ended:
                continue
            if worker.kill_sent is not None:
                self._ensure_killed(worker, now - worker.kill_sent)
            elif worker.dump_sent is not None:
                if now - worker.dump_sent > worker.dump_limit_s or worker.has_dumped(_DUMP_PAUSE_S):
                    self.kill(worker, "time limit", KillCause.TIME_LIMIT)
            elif worker.spent_s > (START_LIMIT_S if worker.ready is None else worker.limit_s):
                self._end_in_time(worker)

    def _end_in_time(self, worker: Worker) -> None:
        """Handle an exceeded limit. It is not a timeout if the process has already ended or was stopped."""
        found = None if worker.pid is None else state(worker.pid, self._forkserver.pid)
        if worker.pid is not None and found is None:
            worker.vanished_at = worker.vanished_at or time.monotonic()
            if time.monotonic() - worker.vanished_at > VANISH_LIMIT_S:
                worker.fail("it ended; its exit code was lost", KillCause.LOST)
        elif found in STOPPED:
            reason = f"not finished within {worker.limit_s:g} s, and its process was stopped from outside"
            self.kill(worker, reason, KillCause.SUSPENDED)
        else:
            worker.timed_out = True
            worker.waited_s = None if worker.pid is None else runqueue_wait.of_process(worker.pid)
            handles = worker.pid is not None and catches(worker.pid, signal.SIGUSR1)
            worker.dump_limit_s, worker.printed_before_dump = _DUMP_LIMIT_S * handles, worker.printed
            worker.dump_sent = time.monotonic()
            self._send({"dump": worker.id})

    def _ensure_killed(self, worker: Worker, waited_s: float) -> None:
        """Make sure that a kill takes effect, without waiting for ever."""
        if waited_s > _DIRECT_KILL_S and not worker.killed_directly:
            worker.killed_directly = True
            self._kill_directly(worker)
        if waited_s > VANISH_LIMIT_S:
            if worker.pid is not None and (found := state(worker.pid, self._forkserver.pid)) is not None:
                worker.blocker = holder(worker.pid, found)
            lost = "its exit code was lost" if worker.blocker is None else f"it cannot be killed ({worker.blocker})"
            worker.killed = f"{worker.killed}; {lost}"
            worker.finished = time.monotonic()

    def _kill_directly(self, worker: Worker) -> None:
        self._forkserver.kill_worker(worker.pid)

    def _check_memory(self) -> None:
        """Kill the largest worker before the host runs out of memory: the kernel's choice might be another's process."""
        running = [worker for worker in self._running() if worker.pid and not worker.kill_sent]
        if not running or memory.available() >= self.memory_floor_bytes:
            return
        largest = max(running, key=lambda worker: memory.of_group(worker.pid))
        reason = f"out of memory: less than {self.memory_floor_bytes >> 20} MiB of the host's were left"
        self.kill(largest, reason, KillCause.MEMORY)

    def _check_disk(self) -> None:
        """Record a disk that is full while workers run: it may have room again after they died."""
        running = [worker for worker in self._running() if worker.full_disk is None]
        if running and (folder := disk.full()) is not None:
            for worker in running:
                worker.full_disk = folder

    def _running(self) -> Iterable[Worker]:
        return (worker for worker in self.workers.values() if not worker.ended)

    def _leave(self, worker: Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.evidence)

    def _forget(self, worker: Worker) -> None:
        self._leave(worker)
        worker.close()
        self.workers.pop(worker.id, None)


def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
    """Return a pipe with a non-blocking reader; its writer is closed with `opened`."""
    reader, writer = os.pipe()
    opened.callback(os.close, writer)
    os.set_blocking(reader, False)
    return reader, writer


def _widen(pipe: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # not everywhere, and not without end for one user
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _LOG_PIPE_BYTES)
