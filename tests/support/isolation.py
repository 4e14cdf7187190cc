"""A server for tests of task processes: what it does is what its task says."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from readiness.isolation.task_process import TaskServer


def serve(server: TaskServer, request: Mapping[str, Any] | None = None) -> int:
    """Serve `[what, ...]`; the answer tells this process's id and the request as well."""

    def do(task: list[Any]) -> tuple[Any, bool]:
        what, *rest = task
        server.phase.enter(what, " ".join(map(str, rest)))
        if what in _DEEDS:
            _DEEDS[what](server, *rest)
        return {"pid": os.getpid(), "task": task, "request": request, "collects": gc.isenabled()}, what == "last"

    return server.serve(do)


def _crash(server: TaskServer, *_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _leave(server: TaskServer, code: int) -> None:
    os._exit(code)


def _raise(server: TaskServer) -> None:
    raise RuntimeError("the driver said no")


def _sleep(server: TaskServer, seconds: float) -> None:
    time.sleep(seconds)


def _block(server: TaskServer) -> None:
    """As a call into a wedged driver does: in C, and with the lock of the interpreter."""
    ctypes.PyDLL(None).pause()


def _steps(server: TaskServer, count: int, seconds: float) -> None:
    for step in range(count):
        server.phase.enter("step", str(step))
        time.sleep(seconds)


def _print(server: TaskServer) -> None:
    print("printed by Python")
    os.system("echo printed by a program")


def _flood(server: TaskServer) -> None:
    while True:
        os.write(1, b"x" * 2**20)


def _babble(server: TaskServer) -> None:
    server.connection.sendall(b'{"result": 1, "leaves": false}\n{"result": 2, "leaves": false}\n')
    time.sleep(600)


def _garble(server: TaskServer) -> None:
    server.connection.sendall(b"\xff{\n")
    time.sleep(600)


def _start(server: TaskServer) -> None:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    server.phase.enter("started", str(program.pid))
    time.sleep(600)


_DEEDS: Mapping[str, Callable[..., None]] = {
    "crash": _crash, "leave": _leave, "raise": _raise, "sleep": _sleep, "block": _block, "steps": _steps, "print": _print,
    "flood": _flood, "babble": _babble, "garble": _garble, "start": _start,
}  # fmt: skip
