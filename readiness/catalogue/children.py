"""The processes in which operators are tried: each does one task at a time and may die or hang of it.

A child holds one end of a socket pair. It says `ready`, then for each task `{"task": [index, dtype]}` it tells the
phases it enters and at last the result, one JSON object per line. It leaves when the other end closes, and dies with
its parent. Whatever happens to it costs the task it was at and nothing else.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from readiness import accelerators, assessment, spawning
from readiness.accelerators.base import Accelerator
from readiness.catalogue import database
from readiness.catalogue.calls import Phase
from readiness.catalogue.database import Entry
from readiness.catalogue.judge import Enter, Outcome, Result, Trial
from readiness.catalogue.layouts import Layout

#: What a killed child may take to disappear. One that waits in the driver may never do so: it is left behind.
_BURIAL_S = 5.0
#: Exit code of a child that found its device unusable after a task.
_DEVICE_LOST = 71

Message = dict[str, Any]


@dataclass(slots=True)
class Child:
    """One process, seen from its parent. `task` is what it is at, since `since` (monotonic), in `phase` and `layout`."""

    pid: int
    connection: socket.socket
    popen: subprocess.Popen[bytes] | None
    ready: bool = False
    task: Any = None
    since: float = field(default_factory=time.monotonic)
    phase: Phase = Phase.FORWARD
    layout: Layout = Layout.CONTIGUOUS
    buffer: bytes = b""

    def give(self, task: Any, index: int, dtype: str) -> None:
        """Hand it a task. If it is dead already, the next `receive` tells."""
        self.task, self.phase, self.layout, self.since = task, Phase.FORWARD, Layout.CONTIGUOUS, time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps({"task": [index, dtype]}).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """What it said since, or None if it is gone. Call when its connection is readable."""
        try:
            data = self.connection.recv(2**16)
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def bury(self) -> str:
        """Make sure that it is dead; how it ended, in words."""
        self.connection.close()
        deadline = time.monotonic() + _BURIAL_S
        # A child that closed its end is about to end by itself: how it does is the finding.
        while (code := self._exit_code()) is None and time.monotonic() < deadline - _BURIAL_S + 0.5:
            time.sleep(0.005)
        return self.kill() if code is None else _ending(code)

    def kill(self) -> str:
        """End it from outside; how it ended, in words."""
        with contextlib.suppress(OSError):
            self.connection.close()
        deadline = time.monotonic() + _BURIAL_S
        if self._exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        while (code := self._exit_code()) is None:
            if time.monotonic() > deadline:
                return "could not be killed: it waits in the kernel"
            time.sleep(0.005)
        return _ending(code)

    _code: int | None = None

    def _exit_code(self) -> int | None:
        if self._code is None:
            if self.popen is not None:
                self._code = self.popen.poll()
            else:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else has waited for it
                    self._code = 0
                else:
                    self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


def fork(accelerator: Accelerator, entries: Sequence[Entry], samples: int) -> Child:
    """A child that has everything this process has imported. Only for devices that survive a fork."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads: the child keeps to one
        pid = os.fork()
    if pid == 0:
        code = 70
        try:
            # Nothing of the parent's may be held open: whoever waits for those ends would wait for this child too.
            connection = socket.socket(fileno=os.dup2(theirs.fileno(), 3))
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            _settle(parent)
            code = _serve(connection, accelerator, entries, samples)
        except BaseException:  # noqa: BLE001 - nothing may return into the parent's code
            traceback.print_exc()
        finally:
            os._exit(code)
    theirs.close()
    return Child(pid, ours, None)


def spawn(accelerator: Accelerator, samples: int) -> Child:
    """A child in a fresh interpreter, which loads the stack's plug-in and the database by itself."""
    ours, theirs = socket.socketpair()
    request = {
        "accelerator": assessment.facts_to_json(accelerator.facts), "seed": accelerator.seed, "samples": samples,
        "parent": os.getpid(),
    }  # fmt: skip
    command = spawning.bootstrap("readiness.catalogue.children:main", str(theirs.fileno()), json.dumps(request))
    with theirs:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
    return Child(popen.pid, ours, popen)


def main(descriptor: str, request: str) -> int:
    """The entry of a fresh interpreter."""
    told = json.loads(request)
    _settle(told["parent"])
    facts = assessment.facts_from_json(told["accelerator"])
    stack = accelerators.stack(facts.stack)
    accelerator = Accelerator(facts, stack, seed=told["seed"])
    accelerator.enter()
    return _serve(socket.socket(fileno=int(descriptor)), accelerator, database.load(), told["samples"])


def _settle(parent: int) -> None:
    spawning.die_with_parent()
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(file=2)
    warnings.simplefilter("ignore")
    torch.set_warn_always(True)  # else only the first operator that falls back to the host would say so
    # One thread: after a fork the pool of threads is not there, and the reference must not depend on its size.
    torch.set_num_threads(1)


def _serve(connection: socket.socket, accelerator: Accelerator, entries: Sequence[Entry], samples: int) -> int:
    def send(message: Message) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    def enter(phase: Phase, layout: Layout) -> None:
        send({"phase": phase.value, "layout": layout.value})

    send({"ready": True})
    with connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            index, dtype = json.loads(line)["task"]
            result = _try(accelerator, entries[index], dtype, samples, enter)
            lost = result.outcome is Outcome.ERROR and not _usable(accelerator)
            send({
                "outcome": (Outcome.CRASHED if lost else result.outcome).value, "phase": result.phase.value,
                "detail": f"left the device unusable: {result.detail}" if lost else result.detail,
                "backward": result.backward, "layout": result.layout.value,
            })  # fmt: skip
            if lost:
                return _DEVICE_LOST
    return 0


def _try(accelerator: Accelerator, entry: Entry, dtype: str, samples: int, enter: Enter) -> Result:
    trial = Trial(accelerator, entry, database.dtype_of(dtype), enter)
    try:
        return trial.judge(samples)
    except Exception as problem:  # noqa: BLE001 - one operator's, not the sweep's
        traceback.print_exc()
        detail = f"it could not be compared: {type(problem).__name__}: {problem}"[:400]
        return Result(Outcome.ERROR, Phase.FORWARD, detail, entry.claims_backward(trial.dtype))


def _usable(accelerator: Accelerator) -> bool:
    """Whether the device still adds in this process: an error of some devices stays for good."""
    try:
        total = (torch.ones(8).to(accelerator.device) + 1).cpu().sum()
        accelerator.synchronize()
    except Exception:  # noqa: BLE001
        return False
    return float(total) == 16.0


def _ending(code: int) -> str:
    if code >= 0:
        return f"left with exit code {code}"
    with contextlib.suppress(ValueError):
        hint = " (perhaps for want of memory)" if -code == signal.SIGKILL else ""
        return f"died by {signal.Signals(-code).name}{hint}"
    return f"died by signal {-code}"


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("the sweep needs fork, socket pairs and signals")
