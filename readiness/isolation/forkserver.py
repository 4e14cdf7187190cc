"""Forkserver: a process that has imported torch, has touched no device, and forks ready workers.

It also starts workers as fresh interpreters where a stack cannot be forked, waits for all of them, and when one ends
kills whatever that one left behind: its process group and, since orphans are handed to this process, its daemons too.
When the command line dies, even by kill -9, the control socket closes: every worker is killed and this process leaves.

Messages on the control socket (one JSON object each): in come `start` (with two file descriptors: evidence pipe, log),
`kill`, `dump` and `import`; out go `prepared`, `started`, `failed` (it could not be), `exited`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import psutil

from readiness.errors import Exit
from readiness.host import temp_dirs
from readiness.host.gc_pause import without_collection
from readiness.host.process_control import bootstrap, die_with_parent, take_in_orphans

#: What a worker does; by its name, since nothing here may import what stands above it.
WORKER = "readiness.engine.worker"

LARGEST_MESSAGE_BYTES = 2**17
#: What orphans that were killed may take to disappear, on a busy host too; and those that wait in the kernel.
_ORPHANS_S, _BLOCKED_ORPHANS_S = 3.0, 0.2


@dataclass(slots=True)
class _Worker:
    id: int
    pid: int
    popen: subprocess.Popen[bytes] | None  # of a fresh interpreter; kept so that nobody else waits for it


class ForkserverLoop:
    """Event loop of the forkserver."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.wake_up: tuple[int, ...] = ()
        self.workers: dict[int, _Worker] = {}  # by pid

    def run(self) -> None:
        """Serve until the control socket closes."""
        reader, writer = self.wake_up = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        while True:
            waited: list[Any] = [self.control, reader]
            ready, _, _ = select.select(waited, [], [])
            if reader in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 4096)
                self.reap()
            if self.control in ready and not self.serve():
                break
        self.end_all()

    def serve(self) -> bool:
        """Handle one message; return False at the end of the connection."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, LARGEST_MESSAGE_BYTES, 2)
        except ConnectionError:
            return False
        if not data:
            return False
        message = json.loads(data)
        if "start" in message:
            self.start(message, *descriptors)
        elif "kill" in message:
            self.signal(message["kill"], signal.SIGKILL, group=True)
        elif "dump" in message:
            self.signal(message["dump"], signal.SIGUSR1, group=False)
        elif "import" in message:
            preload(message["import"])
        return True

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the command line; a closed connection is detected by the loop."""
        with contextlib.suppress(OSError):
            self.control.send(json.dumps(message).encode())

    def start(self, message: dict[str, Any], evidence: int, log: int) -> None:
        """Start a worker by fork or as a fresh interpreter."""
        popen = None
        try:
            if message["fork"]:
                own_pid = os.getpid()
                pid = os.fork()
                if pid == 0:
                    self.become_worker(message["request"], evidence, log, own_pid)
            else:
                popen = subprocess.Popen(
                    bootstrap(f"{WORKER}:main", str(evidence), str(os.getpid())),
                    stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[evidence], start_new_session=True,
                    env=os.environ | message["environment"],
                )  # fmt: skip
                pid = popen.pid
        except OSError as problem:  # no more processes, no more memory
            self.send({"failed": message["start"], "reason": str(problem)})
            return
        finally:
            os.close(evidence)
            os.close(log)
        self.workers[pid] = _Worker(message["start"], pid, popen)
        self.send({"started": message["start"], "pid": pid})
        if popen is not None and popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError), popen.stdin:
                popen.stdin.write(json.dumps(message["request"]).encode())

    def become_worker(self, request: dict[str, Any], evidence: int, log: int, parent: int) -> NoReturn:
        """Turn a forked child into a worker: close everything that belongs to the forkserver, then serve the request."""
        code = int(Exit.INTERNAL)
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            die_with_parent(parent)
            self.control.close()
            for descriptor in self.wake_up:  # what a check reads or writes there would be lost to the other side
                os.close(descriptor)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            code = importlib.import_module(WORKER).serve(request, evidence)
        finally:
            os._exit(code)

    def signal(self, id: int, number: signal.Signals, *, group: bool) -> None:
        """Send a signal to a worker or its whole group, if it still exists."""
        for worker in self.workers.values():
            if worker.id == id:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(worker.pid, number)  # it may not lead a group yet
                    if group:
                        os.killpg(worker.pid, number)

    def reap(self) -> None:
        """Reap ended workers: kill what they left behind, then report how they ended."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self.workers.pop(pid, None)
            if worker is None:
                continue  # an orphan that was handed to us
            if worker.popen is not None:
                worker.popen.returncode = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            left = self.clear_orphans()
            temp_dirs.purge(pid)
            self.send(
                {
                    "exited": worker.id,
                    "code": os.waitstatus_to_exitcode(status),
                    "peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
                    "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
                    "left_behind": left,
                }
            )

    def clear_orphans(self) -> int:
        """Kill every child that is no worker, and return their number. One that a driver blocks may remain."""
        killed: set[int] = set()
        began = time.monotonic()
        while orphans := self._orphans():
            waited_s = time.monotonic() - began
            blocked = all(status == psutil.STATUS_DISK_SLEEP for status in orphans.values())
            if waited_s > (_BLOCKED_ORPHANS_S if blocked else _ORPHANS_S):
                break
            for pid in orphans:
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            for pid in orphans:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        return len(killed)

    def _orphans(self) -> dict[int, str]:
        """Return the state of every child that lives and is no worker, by its id."""
        found: dict[int, str] = {}
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.pid not in self.workers and (status := str(child.status())) != psutil.STATUS_ZOMBIE:
                    found[child.pid] = status
        return found

    def end_all(self) -> None:
        """Kill every worker and wait briefly for their end."""
        for pid in list(self.workers):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while self.workers and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.01)
        self.clear_orphans()


def preload(names: Iterable[str]) -> str | None:
    """Import modules for all workers forked later; return the first failure, or None."""
    problem = None
    with _no_cache_folder(), without_collection():
        for name in names:
            try:
                __import__(name)
            except BaseException as failure:  # noqa: BLE001 - a broken torch is evidence for the caller, not our end
                problem = problem or f"{type(failure).__name__}: {failure}"
    gc.freeze()
    return problem


@contextlib.contextmanager
def _no_cache_folder() -> Iterator[None]:
    """Let torch's compiler use an existing folder on import, instead of leaving a new cache folder behind."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    os.environ.setdefault(name, tempfile.gettempdir())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)


def main(descriptor: str, names: str) -> int:
    """Entry point of the forkserver: `descriptor` is the control socket, `names` the modules to import (comma-separated)."""
    os.setsid()
    die_with_parent()
    take_in_orphans()
    for number in (signal.SIGINT, signal.SIGTERM):  # these are for the command line, which ends us by closing the socket
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    control = socket.socket(fileno=int(descriptor))
    forkserver_loop = ForkserverLoop(control)
    problem = preload(filter(None, names.split(",")))
    forkserver_loop.send({"prepared": problem is None, "problem": problem})
    forkserver_loop.run()
    return 0
