"""Command lines in processes forked from one that has imported what they need, as a fresh interpreter would run them.

Starting an interpreter and importing the command line takes longer than most commands. What a caller sees is the same:
arguments, folder, environment, streams and exit code are the process's own. Only starting is not tried: tests of that, of
a patched import or of other interpreters' settings take a fresh one (`command_line.readiness` does so by itself).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NoReturn

from tests.support import postponed_parsers
from tests.support.paths import ROOT

_MODULES = (
    "readiness.__main__", "readiness.cli", "readiness.engine.runner", "readiness.engine.worker", "readiness.engine.last_run",
    "readiness.engine.discovery", "readiness.engine.resume", "readiness.engine.check_declarations", "readiness.rendering.formats",
    "readiness.judging.rejudge", "readiness.profile.loader", "readiness.documents.schema", "readiness.rendering.html",
    "readiness.comparison", "typer._adapters", "rich.console",
)  # fmt: skip
#: What runs have their forkserver import; and what words a bad file's fault, which builds two parsers with its extra for formats.
_WITH_TORCH, _WITHOUT_TORCH = ("torch", "torch._dynamo"), ("jsonschema",)
#: Variables that an interpreter or a library reads once, when it starts.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "MKL_", "KMP_", "TORCH", "GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "TERMINAL_WIDTH", "_TYPER")
_LARGEST_REQUEST_BYTES = 100_000


class CommandServer:
    """A process that forks command lines; with `torch`, they and their workers have it."""

    def __init__(self, *, torch: bool) -> None:
        self.environment = _at_start(os.environ | {"PYTHONPATH": str(ROOT)})
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"from tests.support.command_server import serve; serve({theirs.fileno()}, torch={torch})"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": str(ROOT), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
            )  # fmt: skip
        atexit.register(self.end)

    def can(self, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Whether a fresh interpreter would run these arguments in this environment as its forks do."""
        size = sum(map(len, arguments)) + sum(len(name) + len(value) for name, value in environment.items())
        return _at_start(environment) == self.environment and size < _LARGEST_REQUEST_BYTES

    def run(self, code: str, arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run code with arguments to its end. Raises subprocess.TimeoutExpired."""
        request = {"code": code, "arguments": list(arguments), "environment": dict(environment), "folder": os.getcwd()}  # noqa: PTH109
        out, err = os.pipe(), os.pipe()
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], [out[1], err[1]])
        finally:
            os.close(out[1])
            os.close(err[1])
        pid = int(self._control.recv(1000))
        try:
            output, errors = _read_both(out[0], err[0], time.monotonic() + timeout_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._control.recv(1000)
            raise subprocess.TimeoutExpired([*arguments], timeout_s) from None
        finally:
            os.close(out[0])
            os.close(err[0])
        return subprocess.CompletedProcess(["readiness", *arguments], int(self._control.recv(1000)), _text(output), _text(errors))

    def end(self) -> None:
        """Have it leave."""
        self._control.close()
        self.process.wait(30)


_made: list[CommandServer] = []


@cache
def command_server(*, torch: bool) -> CommandServer:
    """The one of this process."""
    _made.append(CommandServer(torch=torch))
    return _made[-1]


def processes() -> list[int]:
    """The servers of this process: each also keeps one file open here."""
    return [each.process.pid for each in _made]


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


def _read_both(out: int, err: int, deadline: float) -> tuple[bytes, bytes]:
    found = {out: bytearray(), err: bytearray()}
    with selectors.DefaultSelector() as selector:
        for descriptor in found:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if data := os.read(key.fd, 2**16):
                    found[key.fd] += data
                else:
                    selector.unregister(key.fd)
    return bytes(found[out]), bytes(found[err])


def _text(data: bytes) -> str:
    return io.TextIOWrapper(io.BytesIO(data)).read()


def serve(descriptor: int, *, torch: bool) -> None:
    """The forking process: answer each request with the process id, then with the exit code, until nobody asks any more."""
    gc.disable()  # nearly all that is made until then stays
    postponed_parsers.postpone()
    for name in (*_MODULES, *(_WITH_TORCH if torch else _WITHOUT_TORCH)):
        importlib.import_module(name)
    if torch:  # what each worker that sweeps operators would load, for two seconds
        importlib.import_module("readiness.probes.operators.opinfo").load()
    gc.collect()
    gc.freeze()
    gc.enable()
    control = socket.socket(fileno=descriptor)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 2 * _LARGEST_REQUEST_BYTES, 2)
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            _become(json.loads(data), *descriptors)
        for open_ in descriptors:
            os.close(open_)
        control.send(str(pid).encode())
        control.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become(request: Mapping[str, Any], out: int, err: int) -> NoReturn:
    """In the fork: be a fresh interpreter that runs this code."""
    code = 1
    try:
        for descriptor, place in ((out, 1), (err, 2)):
            os.dup2(descriptor, place)
            os.close(descriptor)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        tempfile.tempdir = None
        sys.argv = ["-c", *request["arguments"]]
        _fork_forkservers()
        code = _run(request["code"])
    finally:
        os._exit(code)


def _run(code: str) -> int:
    """Run code as `python -c` does; its exit code."""
    result = 0
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as left:
        result = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        result = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return result & 0xFF


class _Forked(subprocess.Popen[bytes]):
    """A forkserver that is forked from the command line in place of a fresh interpreter."""

    def __init__(self, command: Sequence[str], *, pass_fds: Sequence[int], env: Mapping[str, str], **_: Any) -> None:
        self.args, self.returncode = command, None
        self.stdin = self.stdout = self.stderr = None
        self._child_created, self._waitpid_lock = True, threading.Lock()
        self.pid = os.fork()
        if self.pid == 0:
            _become_forkserver(command[5:], pass_fds, env)


def _become_forkserver(arguments: Sequence[str], kept: Sequence[int], environment: Mapping[str, str]) -> NoReturn:
    code = 1
    try:
        from readiness.isolation import forkserver

        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)) and number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        first = 3
        for descriptor in sorted(kept):
            os.closerange(first, descriptor)
            first = descriptor + 1
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        code = forkserver.main(*arguments)
    finally:
        os._exit(code)


def _fork_forkservers() -> None:
    from readiness.isolation import forkserver_process

    class Subprocess:
        """What `forkserver_process` takes of the module."""

        Popen, DEVNULL, TimeoutExpired = _Forked, subprocess.DEVNULL, subprocess.TimeoutExpired

    vars(forkserver_process)["subprocess"] = Subprocess
