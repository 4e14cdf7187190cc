"""The processes in which operators are tried: each does one task at a time and may die or hang of it.

A child holds one end of a socket pair. It says `ready`, then for each task, as `{"task": [index, dtype, full_variants,
gradients, offsets]}`, it tells the result, one JSON object per line. What it is at meanwhile stands in memory that both
share, and stays there when it dies. It leaves when the other end closes, and dies with its parent. Whatever happens to it
costs the task it was at and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from readiness import accelerators, assessment, spawning
from readiness.accelerators.base import Accelerator
from readiness.catalogue import database, mortal, op_call
from readiness.catalogue.op_entry import Entry
from readiness.catalogue.opinfo_trial import OpInfoTrials, TrialOptions
from readiness.catalogue.outcomes import Outcome, Phase, SweepResult
from readiness.numerics import Strictness
from readiness.precision import strict_precision

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
    """One process, seen from its parent. `task` is what it is at, since `since` (monotonic), `errand` what follows.

    Of one that `leaves` nothing more is to be had: it has lost its device.
    """

    pid: int
    connection: socket.socket
    popen: subprocess.Popen[bytes] | None
    slate: Slate
    ready: bool = False
    leaves: bool = False
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
        return self.kill() if code is None else mortal.ending(code)

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
        return mortal.ending(code)

    _code: int | None = None

    def _exit_code(self) -> int | None:
        if self._code is None:
            self._code = mortal.exit_code(self.pid, self.popen)
        return self._code


def fork(accelerator: Accelerator, entries: Sequence[Entry], options: TrialOptions) -> Child:
    """A child that has everything this process has imported. Only for devices that survive a fork."""
    slate = Slate()
    pid, ours = mortal.fork(lambda connection: _serve(connection, slate, accelerator, entries, options))
    return Child(pid, ours, None, slate)


def spawn(accelerator: Accelerator, options: TrialOptions) -> Child:
    """A child in a fresh interpreter, which loads the stack's plug-in and the database by itself."""
    ours, theirs = socket.socketpair()
    request = {
        "accelerator": assessment.facts_to_json(accelerator.facts), "seed": accelerator.seed, "options": asdict(options),
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
    mortal.settle(told["parent"])
    torch.set_num_threads(1)  # the reference must not depend on the size of the pool of threads
    facts = assessment.facts_from_json(told["accelerator"])
    stack = accelerators.stack(facts.stack)
    accelerator = Accelerator(facts, stack, seed=told["seed"])
    accelerator.enter()
    connection, slate = socket.socket(fileno=int(descriptor)), Slate(int(shared))
    options = TrialOptions(**told["options"] | {"strictness": Strictness(**told["options"]["strictness"])})
    entries = database.load()
    with strict_precision():
        return _serve(connection, slate, accelerator, entries, options)


def _serve(
    connection: socket.socket, slate: Slate, accelerator: Accelerator, entries: Sequence[Entry], options: TrialOptions
) -> int:
    def send(message: Message) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    send({"ready": True})
    # Some of the database's samples and operators seed again: this process has no other devices than ours.
    torch.manual_seed = partial(op_call.seed_all, accelerator)
    trials = OpInfoTrials(accelerator, slate.write, options)
    with connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            index, dtype, full_variants, gradients, offsets = json.loads(line)["task"]
            result = _try(trials, entries[index], database.dtype_of(dtype), full_variants, gradients, offsets)
            lost = result.raised and not mortal.usable(accelerator)
            send({
                "outcome": (Outcome.CRASHED if lost else result.outcome).value, "phase": result.phase.value,
                "detail": f"left the device unusable: {result.detail}" if lost else result.detail,
                "backward": result.backward, "where": str(result.where), "raised": result.raised and not lost,
                "forward_mode": result.forward_mode, "forward_mode_detail": result.forward_mode_detail, "leaves": lost,
            })  # fmt: skip
            if lost:
                return _DEVICE_LOST
    return 0


def _try(
    trials: OpInfoTrials, entry: Entry, dtype: torch.dtype, full_variants: bool, gradients: bool, offsets: bool
) -> SweepResult:
    try:
        return trials.run(entry, dtype, full_variants=full_variants, gradients=gradients, offsets=offsets)
    except Exception as problem:  # noqa: BLE001 - one operator's, not the sweep's
        traceback.print_exc()
        detail = f"it could not be compared: {type(problem).__name__}: {problem}"[:400]
        return SweepResult(Outcome.MISSING, Phase.FORWARD, detail, entry.claims_backward(dtype), raised=True)


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("the sweep needs fork, socket pairs and signals")
