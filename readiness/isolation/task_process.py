"""Task process: a child process that does one task at a time and may crash or hang.

Whatever may crash or block for ever (an operator, a model's calls, a vendor's library that waits in its driver) is tried in
such a child, and costs the task that the child was at and nothing else.

Both sides speak one JSON object a line over a socket pair of their own, so that what the child and its libraries print never
mixes with it. The child says `{"ready": true}` once, is given `{"task": ...}` and answers
`{"result": ..., "leaves": false}`. The phase that it is in stands in memory that both share (`SharedPhase`) and is still
there when it has died. It ends when the other side closes, after an answer that `leaves`, and with its parent. The parent
keeps the limits and kills from outside: a process that is blocked in C runs no code of its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from readiness.host.gc_pause import without_collection
from readiness.host.process_control import bootstrap, die_with_parent

#: What a child that closed its end may take to end by itself: how it does is the finding.
_LEAVING_S = 0.5
#: What a killed child may take to disappear. One that waits in the driver may never do so: it is left behind.
VANISH_LIMIT_S = 5.0
#: A child that prints or sends more than this is broken.
MOST_BYTES = 32 * 2**20
OUTPUT_TAIL_BYTES = 8 * 1024
_OUTPUT_CHECK_PERIOD_S = 0.25
#: What a child may say.
_MESSAGES = {"ready"}, {"result", "leaves"}

Message = dict[str, Any]


class SharedPhase:
    """Current phase of a child process, with a detail and its start time, in shared memory."""

    BYTES = 264
    _TIME_BYTES = 8

    def __init__(self, descriptor: int = -1) -> None:
        """Use anonymous memory, which a fork shares, or that of a file of `BYTES` bytes."""
        self._memory = mmap.mmap(descriptor, self.BYTES)

    def enter(self, phase: str, detail: str = "") -> None:
        """Set the current phase."""
        room = self.BYTES - self._TIME_BYTES
        self._memory[self._TIME_BYTES :] = f"{phase}\t{detail}\n".encode()[:room].ljust(room, b"\n")
        self._memory[: self._TIME_BYTES] = time.monotonic_ns().to_bytes(self._TIME_BYTES, "little")

    def read(self) -> tuple[str, str]:
        """Return the current phase and its detail; both are empty if there is none."""
        text = self._memory[self._TIME_BYTES :].strip(b"\0").partition(b"\n")[0].decode(errors="replace")
        phase, _, detail = text.partition("\t")
        return phase, detail

    @property
    def entered(self) -> float:
        """The start of the phase on the monotonic clock; 0 if there is none."""
        return int.from_bytes(self._memory[: self._TIME_BYTES], "little") / 1e9


@dataclass(frozen=True, slots=True)
class TaskServer:
    """Child's side of a task process: receives tasks, sets `phase`, and answers."""

    connection: socket.socket
    phase: SharedPhase

    def serve(self, do: Callable[[Any], tuple[Any, bool]]) -> int:
        """Do tasks until there are no more; return the exit code. `do` returns the result, and whether to exit after it."""
        self._send({"ready": True})
        with self.connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                result, leaves = do(json.loads(line)["task"])
                self._send({"result": result, "leaves": leaves})
                if leaves:
                    break
        return 0

    def _send(self, message: Message) -> None:
        self.connection.sendall(json.dumps(message).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """End of a process: its exit code, negative for a signal, None if it cannot be killed.

    `fault` is what it did wrong. As a string it follows `the process`.
    """

    exit_code: int | None
    fault: str = ""

    def __str__(self) -> str:
        """Return a text such as `died by SIGSEGV`."""
        if self.exit_code is None:
            return "could not be killed: it is blocked in the kernel"
        if self.fault:
            return self.fault
        if self.exit_code >= 0:
            return f"exited with code {self.exit_code}"
        with contextlib.suppress(ValueError):
            hint = " (perhaps out of memory)" if -self.exit_code == signal.SIGKILL else ""
            return f"died by {signal.Signals(-self.exit_code).name}{hint}"
        return f"died by signal {-self.exit_code}"


class TaskProcess:
    """Child process that does one task at a time, seen from its parent.

    With `capture` what it prints is kept (`output`); else it goes where the parent's output goes. With `own_group` programs
    that it starts are killed with it.
    """

    def __init__(
        self, pid: int, connection: socket.socket, phase: SharedPhase, popen: subprocess.Popen[bytes] | None,
        output: IO[bytes] | None, own_group: bool,
    ) -> None:  # fmt: skip
        self.pid = pid
        self.connection = connection
        self.phase = phase
        self._popen = popen
        self._output = output
        self._own_group = own_group
        self._buffer = b""
        self._fault = ""
        self._exit_code: int | None = None
        self._last_output = ""

    @classmethod
    def fork(
        cls, serve: Callable[[TaskServer], int], *, capture: bool = False, own_group: bool = False
    ) -> TaskProcess:
        """Fork a child with this process's imports; it exits with the result of `serve`.

        Only for devices that survive a fork, or that this process has not touched.
        """
        phase, output = SharedPhase(), _output_file(capture)
        parent_end, child_end = socket.socketpair()
        parent = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of threads: the child keeps to one
            pid = os.fork()
        if pid == 0:
            code = 70
            try:
                _print_into(1 if output is None else output.fileno(), 2 if output is None else output.fileno())
                # Nothing of the parent's may be held open: whoever waits for those ends would wait for this child too.
                connection = socket.socket(fileno=os.dup2(child_end.fileno(), 3))
                os.closerange(4, os.sysconf("SC_OPEN_MAX"))
                if own_group:
                    os.setpgid(0, 0)
                prepare_child(parent)
                code = serve(TaskServer(connection, phase))
            except BaseException:  # noqa: BLE001 - nothing may return into the parent's code
                traceback.print_exc()
            finally:
                os._exit(code)
        child_end.close()
        return cls(pid, parent_end, phase, None, output, own_group)

    @classmethod
    def spawn(
        cls, entry: str, request: Mapping[str, Any], *, capture: bool = False, own_group: bool = False
    ) -> TaskProcess:
        """Start a fresh interpreter that calls `entry` (`module:function`) with its `TaskServer` and the request."""
        import tempfile

        output = _output_file(capture)
        parent_end, child_end = socket.socketpair()
        with child_end, tempfile.TemporaryFile() as shared:
            shared.write(bytes(SharedPhase.BYTES))
            shared.flush()
            inherited = child_end.fileno(), shared.fileno()
            arguments = entry, *map(str, (*inherited, os.getpid())), json.dumps(request)
            popen = subprocess.Popen(
                bootstrap("readiness.isolation.task_process:main", *arguments),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=inherited,
                process_group=0 if own_group else None,
            )  # fmt: skip
            return cls(popen.pid, parent_end, SharedPhase(shared.fileno()), popen, output, own_group)

    def submit(self, task: Any) -> None:
        """Send it a task. If it is already dead, the next `recv` returns None."""
        self.phase.enter("")
        self.send({"task": task})

    def send(self, message: Message) -> None:
        """Send it a message. If it is already dead, the next `recv` returns None."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def recv(self, timeout_s: float) -> Message | None:
        """Return its next message; None once it is dead or broken. Raises TimeoutError if it sends none in time."""
        from multiprocessing.connection import wait  # 5 ms that the child, which imports this file as well, does not need

        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            if self._is_flooding():
                return None
            remaining = max(deadline - time.monotonic(), 0.0)
            if not wait([self.connection], min(remaining, self.check_period_s)):
                if time.monotonic() >= deadline:
                    raise TimeoutError
                continue
            try:
                data = self.connection.recv(2**16)
            except OSError:
                data = b""
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict) and set(message) in _MESSAGES and not self._buffer:  # it answers once
                return message
        self._fault = "sent something that is not a message"
        return None

    @property
    def check_period_s(self) -> float:
        """Longest period between calls of `recv`, so that the child's output stays within its limit."""
        return float("inf") if self._output is None else _OUTPUT_CHECK_PERIOD_S

    def output(self) -> str:
        """Return the end of the captured output."""
        if self._output is None or self._output.closed:
            return self._last_output
        # pread: the descriptor's own offset is where the child writes next.
        start = max(os.fstat(self._output.fileno()).st_size - OUTPUT_TAIL_BYTES, 0)
        return os.pread(self._output.fileno(), OUTPUT_TAIL_BYTES, start).decode(errors="replace")

    def reap(self, *, kill: bool = False) -> ProcessEnd:
        """Wait for or kill the child, and return how it ended. Without `kill` it gets a moment to exit by itself."""
        self.connection.close()
        now = time.monotonic()
        patience, deadline = now + (0.0 if kill or self._fault else _LEAVING_S), now + VANISH_LIMIT_S
        killed = False
        while (code := self._poll()) is None and time.monotonic() < deadline:
            if not killed and time.monotonic() >= patience:
                killed = True
                self._kill()
            time.sleep(0.005)
        if self._own_group:  # programs that it started and did not wait for
            self._kill()
        self._last_output = self.output()
        if self._output is not None:
            self._output.close()
        return ProcessEnd(code, self._fault)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._own_group:
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            if self._exit_code is None:
                os.kill(self.pid, signal.SIGKILL)

    def _poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it lives; 0 if something else has waited for it."""
        if self._exit_code is None:
            if self._popen is not None:
                self._exit_code = self._popen.poll()
            else:
                try:
                    reaped, status = os.waitpid(self.pid, os.WNOHANG)
                    self._exit_code = os.waitstatus_to_exitcode(status) if reaped else None
                except ChildProcessError:
                    self._exit_code = 0
        return self._exit_code

    def _is_flooding(self) -> bool:
        if len(self._buffer) > MOST_BYTES:
            self._fault = f"sent more than {MOST_BYTES >> 20} MiB"
        elif self._output is not None and os.fstat(self._output.fileno()).st_size > MOST_BYTES:
            self._fault = f"printed more than {MOST_BYTES >> 20} MiB"
        return bool(self._fault)


def main(entry: str, connection: str, phase: str, parent: str, request: str) -> int:
    """Entry point of a fresh interpreter; see `TaskProcess.spawn`."""
    prepare_child(int(parent))
    module, _, function = entry.partition(":")
    with without_collection():
        serve = getattr(importlib.import_module(module), function)
    server = TaskServer(socket.socket(fileno=int(connection)), SharedPhase(int(phase)))
    return int(serve(server, json.loads(request)))


def prepare_child(parent: int) -> None:
    """Prepare a child: it dies with the parent, leaves no core, and prints where it crashed."""
    die_with_parent(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(file=2)


def _output_file(capture: bool) -> IO[bytes] | None:
    import tempfile

    # A file without a name: nothing stays on disk, however we end.
    return tempfile.TemporaryFile(prefix="readiness-") if capture else None


def _print_into(output: int, errors: int) -> None:
    """Redirect the output of Python and libraries. The parent's replaced streams may use closed files."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="replace")  # noqa: SIM115
