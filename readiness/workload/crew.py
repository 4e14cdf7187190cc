"""The process in which operators are played: one at a time, since what is timed must not be disturbed.

A child says `ready`, then for each part it is given it tells what begins (phase, and what is special about the call)
and at last the result, one JSON object a line. It leaves when the other end closes and dies with its parent. Whatever
happens to it costs the part it was at and nothing else.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import select
import signal
import socket
import subprocess
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from readiness import accelerators, assessment, spawning
from readiness.accelerators.base import Accelerator
from readiness.workload import document, playing, sizes
from readiness.workload.document import Phase, Workload
from readiness.workload.outcome import Outcome, Played, Result, told
from readiness.workload.playing import Part, Player

#: Devices that are nothing but host memory.
_FORKABLE_KINDS = frozenset({"cpu", "sim"})
#: What a child may take to import torch and the plug-in, and what a killed one may take to disappear.
_START_LIMIT_S, _BURIAL_S = 240.0, 5.0
_MOST_FALSE_STARTS = 3
#: A call that ran into its limit is tried once more with that many times as much: a cold compiler is no hang.
_SECOND_LIMIT = 2.0


class CrewError(Exception):
    """No process comes up for the device."""


@dataclass(frozen=True, slots=True)
class Task:
    """What all children of a run are told."""

    file: str
    budget_s: float
    call_limit_s: float


@dataclass(slots=True)
class _Child:
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
        while (code := self._exit_code()) is None:
            if not killed and time.monotonic() >= patience:
                killed = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                return "could not be killed: it waits in the kernel"
            time.sleep(0.005)
        return _ending(code)

    def _exit_code(self) -> int | None:
        if self.popen is not None:
            return self.popen.poll()
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has waited for it
            return 0
        return os.waitstatus_to_exitcode(status) if pid else None


def run(
    accelerator: Accelerator, workload: Workload, file: Path, *, parts: Sequence[Part], budget_s: float, call_limit_s: float,
    forks: bool | None = None,
) -> Iterator[tuple[Part, Result]]:  # fmt: skip
    """Each part exactly once, with what became of it. Those not begun within `budget_s` are told as not reached.

    `call_limit_s` is what a single call, or the comparison of one, may take. Raises CrewError.
    """
    if forks is None:
        forks = accelerator.stack.forks and accelerator.facts.kind in _FORKABLE_KINDS
    crew = _Crew(accelerator, workload, Task(str(file), budget_s, call_limit_s), forks, time.monotonic() + budget_s)
    found: dict[Part, Result] = {}
    try:
        for part in parts:
            found[part] = crew.play(part, large=False)
        left = [part for part in parts if found[part].outcome.works]
        crew.look()
        for position, part in enumerate(left):
            records = sum(len(other.records) for other in left[position:])
            later = crew.play(part, large=True, records=records)
            if later.reached:
                found[part] = _together(found[part], later)
            yield part, found[part]
        yield from ((part, found[part]) for part in parts if part not in left)
    finally:
        crew.close()


def _together(small: Result, large: Result) -> Result:
    """What both sizes say of an operator: the worse of the two, and all that was played."""
    worse = small if small.outcome in (Outcome.FALLBACK, Outcome.NONDETERMINISTIC) and large.outcome.works else large
    return replace(worse, backward=small.backward, played={**small.played, **large.played})


@dataclass(slots=True)
class _Crew:
    """The one child there is, or will be."""

    accelerator: Accelerator
    workload: Workload
    task: Task
    forks: bool
    deadline: float
    child: _Child | None = None
    pace: tuple[float, float] | None = None

    def look(self) -> None:
        """How fast the device is, where that can be told without losing a process."""
        with contextlib.suppress(CrewError):
            self.child = self.child or _started(self.accelerator, self.workload, self.task, forks=self.forks)
            self.child.say({"look": True})
            try:
                message = self.child.hear(self.task.call_limit_s)
            except TimeoutError:
                message = None
            if message is None:
                self.child.end(kill=True)
                self.child = None
            elif message["pace"] is not None:
                self.pace = (message["pace"][0], message["pace"][1])

    def play(self, part: Part, *, large: bool, records: int = 1) -> Result:
        """One part, in a child that may die of it. `records` are those that must share the time left."""
        limit_s = self.task.call_limit_s
        while True:
            left_s = self.deadline - time.monotonic()
            if left_s <= 0:
                return Result(Outcome.UNJUDGED, detail="time was up", reached=False)
            if self.child is None:
                self.child = _started(self.accelerator, self.workload, self.task, forks=self.forks)
            task = {"left_s": left_s, "large": large, "record_s": left_s / records, "pace": self.pace}
            result, self.child = _played(self.child, part, limit_s, task)
            if result.outcome is not Outcome.HANG or limit_s > self.task.call_limit_s:
                return result
            limit_s *= _SECOND_LIMIT

    def close(self) -> None:
        """End it."""
        if self.child is not None:
            self.child.end(kill=True)


def _played(child: _Child, part: Part, limit_s: float, task: dict[str, Any]) -> tuple[Result, _Child | None]:
    """The result, and the child if it is still of use."""
    child.say({"part": [part.name, part.dtype, list(part.records)], **task})
    phase, special = Phase.FORWARD, ""
    while True:
        try:
            message = child.hear(limit_s)
        except TimeoutError:
            ending = child.end(kill=True)
            detail = f"did not end within {limit_s:g} s"
            detail += f"; its process {ending}" if "could not" in ending else ""
            return Result(Outcome.HANG, phase, detail, special, backward=True), None
        if message is None:
            return Result(Outcome.CRASH, phase, f"the process {child.end(kill=False)}", special, backward=True), None
        if "begins" in message:
            phase, special = Phase(message["begins"]), message["special"]
            continue
        lost = bool(message.pop("lost", False))
        result = _from_json(message)
        if lost:
            child.end(kill=True)
        return result, None if lost else child


def _started(accelerator: Accelerator, workload: Workload, task: Task, *, forks: bool) -> _Child:
    ending = ""
    for _ in range(_MOST_FALSE_STARTS):
        child = _fork(accelerator, workload) if forks else _spawn(accelerator, task)
        try:
            if child.hear(_START_LIMIT_S) is not None:
                return child
            ending = child.end(kill=False)
        except TimeoutError:
            child.end(kill=True)
            ending = f"was not ready after {_START_LIMIT_S:g} s"
    raise CrewError(f"no process could be started for the device: the last one {ending}")


def _fork(accelerator: Accelerator, workload: Workload) -> _Child:
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
            torch.set_num_threads(1)  # after a fork the pool of threads is not there
            code = _serve(connection, accelerator, workload)
        except BaseException:  # noqa: BLE001 - nothing may return into the parent's code
            traceback.print_exc()
        finally:
            os._exit(code)
    theirs.close()
    return _Child(pid, ours, None)


def _spawn(accelerator: Accelerator, task: Task) -> _Child:
    ours, theirs = socket.socketpair()
    request = {
        "accelerator": assessment.facts_to_json(accelerator.facts), "seed": accelerator.seed, "parent": os.getpid(),
        "task": asdict(task),
    }  # fmt: skip
    command = spawning.bootstrap("readiness.workload.crew:main", str(theirs.fileno()), json.dumps(request))
    with theirs:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
    return _Child(popen.pid, ours, popen)


def main(descriptor: str, request: str) -> int:
    """The entry of a fresh interpreter."""
    given = json.loads(request)
    _settle(given["parent"])
    facts = assessment.facts_from_json(given["accelerator"])
    accelerator = Accelerator(facts, accelerators.stack(facts.stack), seed=given["seed"])
    accelerator.enter()
    task = Task(**given["task"])
    return _serve(socket.socket(fileno=int(descriptor)), accelerator, document.load(Path(task.file)))


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


def _serve(connection: socket.socket, accelerator: Accelerator, workload: Workload) -> int:
    def send(message: dict[str, Any]) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    def enter(phase: Phase, special: str) -> None:
        send({"begins": phase.value, "special": special})

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
                result = Player(accelerator, workload, part, share, enter, deadline).play(large=message["large"])
            except Exception as problem:  # noqa: BLE001 - one operator's, not the run's
                traceback.print_exc()
                result = Result(Outcome.UNJUDGED, detail=f"it could not be compared: {told(problem)}")
            lost = not result.outcome.works and result.outcome is not Outcome.UNJUDGED and not _usable(accelerator)
            if lost:
                result = Result(Outcome.CRASH, result.phase, f"left the device unusable: {result.detail}", result.special, True)
            send(_to_json(result) | {"lost": lost})
    return 0


def _pace(accelerator: Accelerator) -> tuple[float, float] | None:
    try:
        return sizes.measure(accelerator)
    except Exception:  # noqa: BLE001 - the operators' own trials say what is wrong
        return None


def _usable(accelerator: Accelerator) -> bool:
    """Whether the device still takes and gives in this process: an error of some devices stays for good."""
    try:
        back = torch.arange(8).to(accelerator.device).cpu()
        accelerator.synchronize()
    except Exception:  # noqa: BLE001
        return False
    return bool(torch.equal(back, torch.arange(8)))


def _to_json(result: Result) -> dict[str, Any]:
    return {
        "outcome": result.outcome.value, "phase": result.phase.value, "detail": result.detail, "special": result.special,
        "backward": result.backward, "reached": result.reached,
        "played": {str(number): asdict(played) for number, played in result.played.items()},
    }  # fmt: skip


def _from_json(message: dict[str, Any]) -> Result:
    played = {int(number): Played(**found) for number, found in message.pop("played").items()}
    return Result(Outcome(message.pop("outcome")), Phase(message.pop("phase")), **message, played=played)


def _ending(code: int) -> str:
    if code >= 0:
        return f"left with exit code {code}"
    with contextlib.suppress(ValueError):
        hint = " (perhaps for want of memory)" if -code == signal.SIGKILL else ""
        return f"died by {signal.Signals(-code).name}{hint}"
    return f"died by signal {-code}"
