"""The process in which operators are played, seen from both sides.

A child says `ready`, then for each part it is given it tells what begins (phase, and what is special about the call)
and at last the result, one JSON object a line. It leaves when the other end closes and dies with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from readiness import accelerators, assessment, spawning
from readiness.accelerators.base import Accelerator
from readiness.catalogue import mortal
from readiness.catalogue.outcomes import Outcome, Phase
from readiness.numerics import Strictness
from readiness.numerics.unsupported import describe
from readiness.precision import strict_precision
from readiness.workload import document, sizes
from readiness.workload.document import Workload
from readiness.workload.outcomes import CallTiming, ReplayResult
from readiness.workload.playing import Part, Player

#: What a killed child may take to disappear.
_BURIAL_S = 5.0


@dataclass(slots=True)
class Child:
    """One process, seen from its parent."""

    pid: int
    connection: socket.socket
    popen: subprocess.Popen[bytes] | None
    buffer: bytes = b""
    pending: list[dict[str, Any]] = field(default_factory=list)

    def hear(self, limit_s: float) -> dict[str, Any] | None:
        """The next thing it says, None if it is gone. Raises TimeoutError when it says nothing for so long."""
        deadline = time.monotonic() + limit_s
        while not self.pending:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([self.connection], [], [], remaining)[0]:
                raise TimeoutError
            try:
                data = self.connection.recv(2**16)
            except OSError:
                data = b""
            if not data:
                return None
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            self.pending += [json.loads(line) for line in lines]
        return self.pending.pop(0)

    def say(self, message: dict[str, Any]) -> None:
        """Tell it something. If it is dead already, `hear` tells."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def end(self, *, kill: bool) -> str:
        """Make sure that it is dead; how it ended, in words."""
        with contextlib.suppress(OSError):
            self.connection.close()
        deadline = time.monotonic() + _BURIAL_S
        patience = time.monotonic() + (0.0 if kill else 0.5)
        killed = False
        while (code := mortal.exit_code(self.pid, self.popen)) is None:
            if not killed and time.monotonic() >= patience:
                killed = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                return "could not be killed: it waits in the kernel"
            time.sleep(0.005)
        return mortal.ending(code)


def fork(accelerator: Accelerator, workload: Workload) -> Child:
    """A child that has everything this process has imported. Only for devices that survive a fork."""
    pid, ours = mortal.fork(lambda connection: _serve(connection, accelerator, workload))
    return Child(pid, ours, None)


def spawn(accelerator: Accelerator, file: Path) -> Child:
    """A child in a fresh interpreter, which loads the stack's plug-in and the workload by itself."""
    ours, theirs = socket.socketpair()
    request = {
        "accelerator": assessment.facts_to_json(accelerator.facts), "seed": accelerator.seed, "parent": os.getpid(),
        "file": str(file),
    }  # fmt: skip
    command = spawning.bootstrap("readiness.workload.hands:main", str(theirs.fileno()), json.dumps(request))
    with theirs:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
    return Child(popen.pid, ours, popen)


def main(descriptor: str, request: str) -> int:
    """The entry of a fresh interpreter."""
    given = json.loads(request)
    mortal.settle(given["parent"])
    facts = assessment.facts_from_json(given["accelerator"])
    accelerator = Accelerator(facts, accelerators.stack(facts.stack), seed=given["seed"])
    accelerator.enter()
    loaded = document.load(Path(given["file"]))
    with strict_precision():
        return _serve(socket.socket(fileno=int(descriptor)), accelerator, loaded)


def _serve(connection: socket.socket, accelerator: Accelerator, workload: Workload) -> int:
    def send(message: dict[str, Any]) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    def enter(phase: Phase, where: str) -> None:
        send({"begins": phase.value, "where": where})

    means = sizes.unmeasured(accelerator)
    send({"ready": True})
    with connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            message = json.loads(line)
            if "look" in message:
                send({"pace": _pace(accelerator)})
                continue
            name, dtype, records = message["part"]
            part = Part(name, dtype, tuple(records))
            deadline = time.monotonic() + message["left_s"]
            try:
                pace = message["pace"] or (means.multiplications_per_s, means.bytes_per_s)
                share = sizes.Means(means.bytes, message["record_s"], *pace)
                strictness = Strictness(**message["strictness"])
                player = Player(
                    accelerator, workload, part, share, enter, deadline, message["gradients"], message["offsets"], strictness
                )
                result = player.play(large=message["large"])
            except Exception as problem:  # noqa: BLE001 - one operator's, not the run's
                traceback.print_exc()
                result = ReplayResult(Outcome.UNJUDGED, detail=f"it could not be compared: {describe(problem)}")
            # Also of one that cannot be judged: the next one must not be blamed for a device that this one has lost.
            lost = not result.outcome.right and not mortal.usable(accelerator)
            if lost:
                detail = f"left the device unusable: {result.detail}"
                result = ReplayResult(Outcome.CRASHED, result.phase, detail, True, result.where)
            send(_to_json(result) | {"lost": lost})
    return 0


def _pace(accelerator: Accelerator) -> tuple[float, float] | None:
    try:
        return sizes.measure(accelerator)
    except Exception:  # noqa: BLE001 - the operators' own trials say what is wrong
        return None


def _to_json(result: ReplayResult) -> dict[str, Any]:
    return {
        "outcome": result.outcome.value, "phase": result.phase.value, "detail": result.detail, "where": result.where,
        "backward": result.backward, "reached": result.reached,
        "timings": {str(number): asdict(timing) for number, timing in result.timings.items()},
    }  # fmt: skip


def from_json(message: dict[str, Any]) -> ReplayResult:
    """A result as the child told it."""
    timings = {int(number): CallTiming(**found) for number, found in message.pop("timings").items()}
    return ReplayResult(Outcome(message.pop("outcome")), Phase(message.pop("phase")), **message, timings=timings)
