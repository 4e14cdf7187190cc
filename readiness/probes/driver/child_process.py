"""Child process of a check that opens the device: started, listened to, waited for and killed, each with a deadline.

A child is forked where the stack allows it and is a fresh interpreter elsewhere. One that a driver holds is killed, and one
that cannot be killed is left behind and said so.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from readiness.accelerators.base import Accelerator
from readiness.accelerators.remote_devices import accelerator_from_json, accelerator_to_json
from readiness.host.process_control import bootstrap, die_with_parent

_KILL_WAIT_S = 5.0
Answer = dict[str, Any]
Say = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class ChildProcess:
    """A child at work. `reader` is its end of the pipe on which it answers, one JSON object a line."""

    pid: int
    reader: int
    _received: bytes = field(default=b"", repr=False)

    def answer(self, deadline: float) -> Answer | None:
        """Return the next answer; None if the child ends or the deadline passes before."""
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.reader], [], [], left) if left > 0 else ([], [], [])
            chunk = os.read(self.reader, 65536) if ready else b""
            if not chunk:
                return None
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            return found if isinstance(found, dict) else None
        return None

    def wait(self, deadline: float) -> int | None:
        """Return the status of a child that ends before the deadline, else None."""
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return status
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.005)

    def kill(self) -> str | None:
        """Kill the child; return None, or why it did not end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if self.wait(time.monotonic() + _KILL_WAIT_S) is None:
            return "it cannot be killed: it is blocked in the driver"
        return None

    def close(self) -> None:
        """Close this end of the pipe."""
        os.close(self.reader)


def ending(status: int) -> str:
    """Return in words how a process ended without an answer."""
    code = os.waitstatus_to_exitcode(status)
    return f"died by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def start(accelerator: Accelerator, job: str, settings: Mapping[str, Any]) -> ChildProcess:
    """Start a child that enters the device and does a job: `module:function`, called with accelerator, settings and the
    function that answers. What the job raises ends the child with code 1.
    """
    reader, writer = os.pipe()
    try:
        if accelerator.stack.fork_safe:
            pid = _fork(accelerator, job, settings, reader, writer)
        else:
            pid = _spawn(accelerator, job, settings, writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return ChildProcess(pid, reader)


def _fork(accelerator: Accelerator, job: str, settings: Mapping[str, Any], reader: int, writer: int) -> int:
    with warnings.catch_warnings():
        # Python warns that other threads' locks stay locked in the child: it takes none but its own, and has a deadline.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _become_child(accelerator, job, settings, reader, writer)
    return pid


def _become_child(accelerator: Accelerator, job: str, settings: Mapping[str, Any], reader: int, writer: int) -> NoReturn:
    try:
        die_with_parent()
        os.close(reader)
        import torch

        torch.set_num_threads(1)  # the parent's pool of threads does not exist here, though its bookkeeping does
        _do(accelerator, job, settings, writer)
        os._exit(0)
    finally:
        os._exit(1)


def _spawn(accelerator: Accelerator, job: str, settings: Mapping[str, Any], writer: int) -> int:
    request = accelerator_to_json(accelerator) | {"job": job, "settings": dict(settings)}
    process = subprocess.Popen(
        bootstrap("readiness.probes.driver.child_process:spawned", str(writer), json.dumps(request)),
        stdin=subprocess.DEVNULL,
        pass_fds=[writer],
    )
    process.returncode = 0  # it is waited for by us, with a deadline
    return process.pid


def spawned(descriptor: str, request: str) -> int:
    """Entry point of a fresh interpreter: import torch and the plug-in, do the job, and exit normally."""
    die_with_parent()
    document = json.loads(request)
    _do(accelerator_from_json(document), document["job"], document["settings"], int(descriptor))
    return 0


def _do(accelerator: Accelerator, job: str, settings: Mapping[str, Any], descriptor: int) -> None:
    def say(answer: Mapping[str, Any]) -> None:
        os.write(descriptor, json.dumps(answer).encode() + b"\n")

    module, _, name = job.partition(":")
    getattr(importlib.import_module(module), name)(accelerator, settings, say)


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("processes are started by fork or with passed descriptors, which Windows does not support")
