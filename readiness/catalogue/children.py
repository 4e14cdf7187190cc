"""The processes in which operators are tried: each does one task at a time and may die or hang of it.

A child holds one end of a socket pair. It says `ready`, then for each task `{"task": [index, dtype, thorough]}` it tells the
result, one JSON object per line. What it is at meanwhile stands in memory that both share, and stays there when it dies.
It leaves when the other end closes, and dies with its parent. Whatever happens to it costs the task it was at and
nothing else.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from readiness import accelerators, assessment, spawning
from readiness.accelerators.base import Accelerator
from readiness.catalogue import calls, database
from readiness.catalogue.calls import Phase
from readiness.catalogue.database import Entry
from readiness.catalogue.judge import Trials
from readiness.catalogue.outcomes import Outcome, Result

#: What a killed child may take to disappear. One that waits in the driver may never do so: it is left behind.
_BURIAL_S = 5.0
#: Exit code of a child that found its device unusable after a task.
_DEVICE_LOST = 71

Message = dict[str, Any]


class Slate:
    """One line of text in memory that two processes share: the phase a child is in, and how the inputs lie."""

    BYTES = 256

    def __init__(self, descriptor: int = -1) -> None:
        self._memory = mmap.mmap(descriptor, self.BYTES)

    def write(self, phase: Phase, layout: str) -> None:
        """What is entered now."""
        self._memory[:] = f"{phase.value}\t{layout}\n".encode()[: self.BYTES].ljust(self.BYTES, b"\n")

    def read(self) -> tuple[Phase, str]:
        """What was entered last."""
        phase, _, layout = bytes(self._memory).partition(b"\n")[0].decode(errors="replace").partition("\t")
        return Phase(phase or Phase.FORWARD), layout


@dataclass(slots=True)
class Child:
    """One process, seen from its parent. `task` is what it is at, since `since` (monotonic), `errand` what follows."""

    pid: int
    connection: socket.socket
    popen: subprocess.Popen[bytes] | None
    slate: Slate
    ready: bool = False
    task: Any = None
    errand: Any = ()
    since: float = field(default_factory=time.monotonic)
    buffer: bytes = b""

    @property
    def phase(self) -> Phase:
        """The phase that it entered last."""
        return self.slate.read()[0]

    @property
    def layout(self) -> str:
        """How the inputs lay then."""
        return self.slate.read()[1]

    def give(self, task: Any, message: Sequence[Any]) -> None:
        """Hand it a task. If it is dead already, the next `receive` tells."""
        self.task, self.since = task, time.monotonic()
        self.slate.write(Phase.FORWARD, "")
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps({"task": message}).encode() + b"\n")

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
    slate = Slate()
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
            code = _serve(connection, slate, accelerator, entries, samples)
        except BaseException:  # noqa: BLE001 - nothing may return into the parent's code
            traceback.print_exc()
        finally:
            os._exit(code)
    theirs.close()
    return Child(pid, ours, None, slate)


def spawn(accelerator: Accelerator, samples: int) -> Child:
    """A child in a fresh interpreter, which loads the stack's plug-in and the database by itself."""
    ours, theirs = socket.socketpair()
    request = {
        "accelerator": assessment.facts_to_json(accelerator.facts), "seed": accelerator.seed, "samples": samples,
        "parent": os.getpid(),
    }  # fmt: skip
    with theirs, tempfile.TemporaryFile() as shared:
        shared.write(bytes(Slate.BYTES))
        shared.flush()
        handed = theirs.fileno(), shared.fileno()
        command = spawning.bootstrap("readiness.catalogue.children:main", *map(str, handed), json.dumps(request))
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=handed)
        return Child(popen.pid, ours, popen, Slate(shared.fileno()))


def main(descriptor: str, shared: str, request: str) -> int:
    """The entry of a fresh interpreter."""
    told = json.loads(request)
    _settle(told["parent"])
    facts = assessment.facts_from_json(told["accelerator"])
    stack = accelerators.stack(facts.stack)
    accelerator = Accelerator(facts, stack, seed=told["seed"])
    accelerator.enter()
    connection, slate = socket.socket(fileno=int(descriptor)), Slate(int(shared))
    return _serve(connection, slate, accelerator, database.load(), told["samples"])


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


def _serve(
    connection: socket.socket, slate: Slate, accelerator: Accelerator, entries: Sequence[Entry], samples: int
) -> int:
    def send(message: Message) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    send({"ready": True})
    # Some of the database's samples and operators seed again: this process has no other devices than ours.
    torch.manual_seed = partial(calls.seed_all, accelerator)
    trials = Trials(accelerator, slate.write, samples)
    with connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            index, dtype, thorough = json.loads(line)["task"]
            result = _try(trials, entries[index], database.dtype_of(dtype), thorough)
            lost = result.raised and not _usable(accelerator)
            send({
                "outcome": (Outcome.CRASHED if lost else result.outcome).value, "phase": result.phase.value,
                "detail": f"left the device unusable: {result.detail}" if lost else result.detail,
                "backward": result.backward, "layout": str(result.layout), "raised": result.raised and not lost,
            })  # fmt: skip
            if lost:
                return _DEVICE_LOST
    return 0


def _try(trials: Trials, entry: Entry, dtype: torch.dtype, thorough: bool) -> Result:
    try:
        return trials.judge(entry, dtype, thorough=thorough)
    except Exception as problem:  # noqa: BLE001 - one operator's, not the sweep's
        traceback.print_exc()
        detail = f"it could not be compared: {type(problem).__name__}: {problem}"[:400]
        return Result(Outcome.MISSING, Phase.FORWARD, detail, entry.claims_backward(dtype), raised=True)


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
