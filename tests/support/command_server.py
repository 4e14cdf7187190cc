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
import select
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
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Kind:
    """What is imported by a server, after what another one imports."""

    modules: tuple[str, ...]
    after: str | None = None


#: `plain` has what words a bad file's fault, which builds two parsers with its extra for formats; `torch` what runs have their
#: forkserver import, and what each worker that sweeps operators would load, for two seconds; `simulator` a chip's kernels.
KINDS = {
    "plain": Kind((*_MODULES, "jsonschema")),
    "torch": Kind(("tests.support.prepared_operators", "torch._dynamo", *_MODULES)),
    "simulator": Kind(("tests.support.prepared_simulator",), after="torch"),
}
#: Variables that an interpreter or a library reads once, when it starts.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "MKL_", "KMP_", "TORCH", "GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "TERMINAL_WIDTH", "_TYPER")
_LARGEST_REQUEST_BYTES = 100_000
#: What servers are started with.
_OF_SERVERS = {"PYTHONPATH": str(ROOT), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
#: The variable that names the socket of the process that `share` started.
_SHARED = "READINESS_TESTS_SERVERS"


class CommandServer:
    """A process that forks command lines, or whatever else has everything imported that its kind has (`KINDS`).

    It is forked itself where several processes share the tests (`share`), else a fresh interpreter.
    """

    def __init__(self, kind: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.environment = _at_start(os.environ | {"PYTHONPATH": str(ROOT)})
        self.process: subprocess.Popen[bytes] | None = None
        with theirs:
            if not _forked_by_the_shared_one(kind, theirs, self.environment):
                self.process = _interpreter("serve", theirs, kind)
        atexit.register(self.end)

    def can(self, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Whether a fresh interpreter would run these arguments in this environment as its forks do."""
        size = sum(map(len, arguments)) + sum(len(name) + len(value) for name, value in environment.items())
        return _at_start(environment) == self.environment and size < _LARGEST_REQUEST_BYTES

    def run(self, code: str, arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run code with arguments to its end. Raises subprocess.TimeoutExpired."""
        out, err = os.pipe(), os.pipe()
        try:
            pid = self.start(code, arguments, environment, (out[1], err[1]))
        finally:
            os.close(out[1])
            os.close(err[1])
        try:
            output, errors = _read_both(out[0], err[0], time.monotonic() + timeout_s)
        except TimeoutError:
            self.kill(pid)
            raise subprocess.TimeoutExpired([*arguments], timeout_s) from None
        finally:
            os.close(out[0])
            os.close(err[0])
        return subprocess.CompletedProcess(["readiness", *arguments], self.ended(), _text(output), _text(errors))

    def start(self, code: str, arguments: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]) -> int:
        """Fork what runs code with arguments, one at a time; its process id. It has the descriptors, output and errors first."""
        request = {"code": code, "arguments": list(arguments), "environment": dict(environment), "folder": os.getcwd()}  # noqa: PTH109
        socket.send_fds(self._control, [json.dumps(request).encode()], list(descriptors))
        return int(self._control.recv(1000))

    def ended(self) -> int:
        """Wait for the end of what was started; its exit code, negative for a signal."""
        return int(self._control.recv(1000))

    def kill(self, pid: int) -> int:
        """Kill what was started, unless it has ended; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.ended()

    def end(self) -> None:
        """Have it leave."""
        self._control.close()
        if self.process is not None:
            self.process.wait(30)


_made: list[CommandServer] = []


def command_server(*, torch: bool) -> CommandServer:
    """The one of this process that forks command lines; with `torch`, they and their workers have it."""
    return server("torch" if torch else "plain")


@cache
def server(kind: str) -> CommandServer:
    """The one of this process and this kind."""
    _made.append(CommandServer(kind))
    return _made[-1]


def is_shared() -> bool:
    """Whether servers of this process are forked from one that it shares with others."""
    return bool(os.environ.get(_SHARED))


def processes() -> list[int]:
    """The servers that are children of this process."""
    return [each.process.pid for each in _made if each.process is not None]


def open_files() -> int:
    """How many files of this process are open for servers."""
    return len(_made)


def share() -> None:
    """Have the processes that this one starts take their servers from one, which imports for all of them what a kind needs.

    It leaves when this process is gone. Where the variable is set already nothing is shared: empty, it has each process start
    its own, so that what a test costs can be seen among the descendants of the process that runs it.
    """
    if _SHARED in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="readiness-tests-")
    name = f"{folder.name}/servers"
    alive, held = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(name)
        listener.listen(100)
        process = _interpreter("serve_all", listener, alive)
    os.close(alive)
    os.environ[_SHARED] = name

    def end() -> None:
        os.close(held)
        process.wait(30)
        folder.cleanup()

    atexit.register(end)


def _interpreter(function: str, connection: socket.socket, argument: str | int) -> subprocess.Popen[bytes]:
    """A fresh interpreter that calls a function of this module with a socket and an argument, a descriptor where it is a number."""
    code = f"from tests.support import command_server; command_server.{function}({connection.fileno()}, {argument!r})"
    passed = [connection.fileno(), *([argument] if isinstance(argument, int) else [])]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code], pass_fds=passed, stdin=subprocess.DEVNULL,
        env=os.environ | _OF_SERVERS,
    )  # fmt: skip


def _forked_by_the_shared_one(kind: str, control: socket.socket, environment: dict[str, str]) -> bool:
    """Have the process that `share` started fork a server that listens there; False where it is gone, or was started otherwise."""
    name = os.environ.get(_SHARED)
    if name is None:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(name)
        except OSError:
            return False
        if json.loads(connection.recv(_LARGEST_REQUEST_BYTES)) != environment | _OF_SERVERS:
            return False
        socket.send_fds(connection, [kind.encode()], [control.fileno()])
    return True


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


def serve(descriptor: int, kind: str) -> None:
    """Be a server of this kind for who is at the other end."""
    for name in _before(kind):
        _prepare(name)
    _fork_for(socket.socket(fileno=descriptor), kind)


def serve_all(descriptor: int, alive: int) -> None:
    """Fork servers for whoever asks for one, until nobody holds the other end of `alive`."""
    listener, control, theirs = socket.socket(fileno=descriptor), *socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        listener.close()
        control.close()
        os.close(alive)
        _fork_servers(theirs, "")
    theirs.close()
    environment = json.dumps(_at_start(os.environ)).encode()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(alive, selectors.EVENT_READ)
        while all(key.fd != alive for key, _ in selector.select()):
            with listener.accept()[0] as connection:
                connection.send(environment)
                kind, descriptors, _, _ = socket.recv_fds(connection, 100, 1)
                if kind:
                    socket.send_fds(control, [kind], descriptors)
                for each in descriptors:
                    os.close(each)
    control.close()
    os.wait()


def _fork_servers(requests: socket.socket, kind: str) -> NoReturn:
    """In a fork: fork servers of this kind, and for those of kinds that begin as this one does another such process."""
    further: dict[str, socket.socket] = {}
    try:
        if kind:
            _prepare(kind)
        while (received := socket.recv_fds(requests, 100, 1))[0]:
            data, descriptors, _, _ = received
            wanted = data.decode()
            if wanted == kind:
                _fork_server(descriptors[0], kind, [requests, *further.values()])
            else:
                path = _before(wanted)
                following = path[path.index(kind) + 1 if kind else 0]
                if following not in further:
                    further[following] = _fork_further(following, [requests, *further.values()], descriptors)
                socket.send_fds(further[following], [data], descriptors)
            for each in descriptors:
                os.close(each)
        for connection in further.values():
            connection.close()
        with contextlib.suppress(ChildProcessError):  # so that their processor time counts as that of the tests
            while True:
                os.wait()
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        os._exit(0)


def _fork_server(descriptor: int, kind: str, others: Sequence[socket.socket]) -> None:
    if os.fork() == 0:
        try:
            for each in others:
                each.close()
            _fork_for(socket.socket(fileno=descriptor), kind)
        finally:
            os._exit(0)


def _fork_further(kind: str, others: Sequence[socket.socket], descriptors: Sequence[int]) -> socket.socket:
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        for each in (control, *others):
            each.close()
        for descriptor in descriptors:  # it comes once more, to be answered there
            os.close(descriptor)
        _fork_servers(theirs, kind)
    theirs.close()
    return control


def _before(kind: str) -> list[str]:
    """This kind, after those whose imports are a part of its own."""
    before = KINDS[kind].after
    return [*(_before(before) if before else ()), kind]


def _prepare(kind: str) -> None:
    gc.disable()  # nearly all that is made until then stays
    postponed_parsers.postpone()
    for name in KINDS[kind].modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.enable()


def _fork_for(control: socket.socket, kind: str) -> None:
    """Answer each request with the process id, then with the exit code, until nobody asks any more."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 2 * _LARGEST_REQUEST_BYTES, 5)
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            _become(json.loads(data), kind, *descriptors)
        for open_ in descriptors:
            os.close(open_)
        control.send(str(pid).encode())
        if _asker_is_gone_before(pid, control):
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            control.send(str(code).encode())


def _asker_is_gone_before(pid: int, control: socket.socket) -> bool:
    """Wait for the end of a child or of who has asked for it: whether the latter came first."""
    try:
        child = os.pidfd_open(pid)
    except OSError:  # a kernel that has none: the child is waited for
        return False
    try:
        return child not in select.select([child, control.fileno()], [], [])[0]
    finally:
        os.close(child)


def _become(request: Mapping[str, Any], kind: str, out: int, err: int, *given: int) -> NoReturn:
    """In the fork: be a fresh interpreter that runs this code; `given` is what it has of further descriptors."""
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
        if kind != "simulator":
            _fork_forkservers()
        code = _run(request["code"], given)
    finally:
        os._exit(code)


def _run(code: str, given: Sequence[int]) -> int:
    """Run code as `python -c` does, but that it knows of `given`; its exit code."""
    result = 0
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__", "given": given})
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
