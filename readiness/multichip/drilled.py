"""The ranks' side of `multichip.drills`: one of them fails on purpose, the others tell what the stack tells them.

What a rank yields: `healthy` before the fault; `fault` (the moment, of the rank that fails); then `returned` (a collective
came back: how many elements are wrong) or `noticed` (it raised: when, and its words); `call`, as the flight recorder has
it; `stopped`, how long leaving the group took; `usable`, whether the group still works. Moments are on the clock that all
processes of a machine share.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from readiness.multichip.drills import Drill, Fault, Guard
from readiness.ranks import cutting, flight, wires
from readiness.ranks.board import Mark
from readiness.ranks.values import Json, RankContext

#: Elements, shared among the ranks, of a collective that takes long enough for its end not to come before a fault in its
#: middle: the more ranks, the longer each element takes.
_LARGE = 1 << 21
_SMALL = 4096
#: Sums of the drill without a fault: defects that begin with the twentieth or thirtieth call show themselves.
_HEALTHY_SUMS = 40
#: How much longer than its library may take ranks wait for each other after a call, and how long leaving the group may take.
_MEETING_S, _LEAVING_S = 1.5, 3.0
#: While a link is lossy or away for a moment, sums go on for so long, in timeouts.
_GOING_ON = 0.75


def rank_main(context: RankContext) -> Iterator[Json]:
    """Hold the drill that the settings name, with `culprit` as the rank that fails and the group's `timeout_s`."""
    drill = Drill(Fault(context.settings["fault"]), Guard(context.settings["guard"]))
    timeout = timedelta(seconds=context.settings["timeout_s"])
    if drill.guard is Guard.DETAIL:
        dist.set_debug_level(dist.DebugLevel.DETAIL)  # type: ignore[attr-defined]
    context.exchange()  # ranks that come up late would be late for what the group makes of its own, within its timeout
    with context.step("making the group"):
        group = dist.new_group(timeout=timeout)
    ours = _Group(context, group)
    wrong = sum(ours.sum(_SMALL) for _ in range(_HEALTHY_SUMS if drill.fault is Fault.NONE else 3))
    wrong += ours.sum(ours.large)
    began = time.monotonic()
    wrong += ours.sum(ours.large)
    seconds = time.monotonic() - began
    yield {"healthy": wrong}
    culprit = context.rank == context.settings["culprit"]
    near = _near(context) if drill.of_the_link else []
    context.exchange()  # now all are here, and nothing is on its way
    if culprit and drill.loses_a_rank:
        yield from _fail(ours, drill, seconds)
        return
    if culprit:
        yield {"fault": context.clock()}
    if drill.harmless:
        yield from _endure(ours, drill, near, wrong)
    else:
        yield from _suffer(ours, drill, near, culprit=culprit)


class _Group:
    """Sums with known answers in one group."""

    def __init__(self, context: RankContext, group: Any) -> None:
        self.context, self.group = context, group
        self.large = _LARGE // context.world_size

    def filled(self, count: int, dtype: torch.dtype = torch.float32, *, more: int = 0) -> torch.Tensor:
        """The part of this rank: small whole numbers that depend on rank and position, exact in any order of summing."""
        return _repeated(self._turn(self.context.rank), count + more).to(dtype).to(self.context.device)

    def expected(self, count: int) -> torch.Tensor:
        """The sum of all ranks' parts, on the host."""
        return _repeated([sum(turn) for turn in zip(*map(self._turn, range(self.context.world_size)), strict=True)], count)

    def _turn(self, rank: int) -> list[int]:
        """What a rank puts in at the first places; then it begins anew."""
        return [(place * 7 + rank * 13 + self.context.accelerator.seed) % 5 - 2 for place in range(5)]

    def sum(self, count: int) -> int:
        """How many elements of a sum are wrong."""
        return self.call(lambda tensor: dist.all_reduce(tensor, group=self.group), "all_reduce", self.filled(count), count)

    def call(self, collective: Callable[[torch.Tensor], object], name: str, tensor: torch.Tensor, count: int) -> int:
        """The same of any collective in place of the sum that the others call."""
        kind = str(tensor.dtype).removeprefix("torch.")
        with self.context.step(f"{name} of {tensor.numel()} x {kind}"):
            collective(tensor)
            self.context.accelerator.synchronize()
            found = tensor.cpu()
        wanted = self.expected(count)
        if found.numel() != count:
            return max(found.numel(), count)
        return int((found.float() != wanted).sum())  # NaN differs from everything


def _repeated(values: list[int], count: int) -> torch.Tensor:
    """So many elements: the values again and again. To work out each would take most of a drill's time."""
    return torch.tensor(values, dtype=torch.float32).repeat(-(-count // len(values)))[:count]


def _near(context: RankContext) -> list[int]:
    """Descriptors of the connections between the rank that fails and this one; of all its own, for that rank."""
    culprit: int = context.settings["culprit"]
    own = cutting.connections()
    ports = [port for _, port, _ in own]
    theirs = set()
    for number in range(int(context.exchange(len(ports))[culprit])):
        theirs.add(context.exchange(ports[number] if context.rank == culprit else 0.0)[culprit])
    return [fd for fd, port, other in own if (port if context.rank == culprit else other) in theirs]


def _fail(ours: _Group, drill: Drill, seconds: float) -> Iterator[Json]:
    if drill.fault is Fault.KILLED or drill.fault is Fault.STOPPED:
        number = signal.SIGKILL if drill.fault is Fault.KILLED else signal.SIGSTOP
        wait_s = min(seconds / 2, ours.context.settings["timeout_s"] / 8)
        yield {"fault": ours.context.clock() + wait_s}  # told before it happens: afterwards nobody is there to tell
        threading.Timer(wait_s, os.kill, (os.getpid(), number)).start()
        part = ours.filled(ours.large)
        while True:  # next to no time is spent outside of collectives, so it is one that the signal ends
            tensor = part.clone()
            try:
                dist.all_reduce(tensor, group=ours.group)
                ours.context.accelerator.synchronize()
            except RuntimeError:  # the others were late, on a busy host: the signal is on its way
                threading.Event().wait()
    yield {"fault": ours.context.clock()}
    if drill.fault is Fault.RAISING:
        raise ArithmeticError("this rank raises: it is a drill")
    threading.Event().wait()


def _suffer(ours: _Group, drill: Drill, near: list[int], *, culprit: bool) -> Iterator[Json]:
    """Take part, tell what comes of it, leave."""
    if drill.of_the_link:
        cutting.cut(near)
    usable: bool | None = None
    error: Exception | None = None
    try:
        if drill.of_the_call:
            yield {"returned": _other_call(ours, drill) if culprit else ours.sum(_SMALL)}
        else:
            while True:  # what had been on its way may have arrived: somebody is missed in the next sum, or the next
                if wrong := ours.sum(ours.large):
                    yield {"returned": wrong}
    except Exception as problem:  # noqa: BLE001 - whatever it raises is what the stack tells
        error = problem
        yield {"noticed": ours.context.clock(), "words": _words(problem)}
    yield {"call": _last_call(ours.context, drill)}
    if drill.of_the_call and (error is None or drill.guard is Guard.DETAIL):
        # Nothing is lost: all ranks are there, and nothing is under way. The group should go on. A rank that its library
        # has ended meanwhile, over the very same call, does not come any more.
        with contextlib.suppress(TimeoutError):
            ours.context.exchange(within_s=ours.context.settings["timeout_s"] + flight.WATCHDOG_DUMP_S + _MEETING_S)
            ours.context.exchange(within_s=_MEETING_S)  # who had given up on the first one has come to it all the same
            try:
                usable = ours.sum(_SMALL) == 0
            except Exception as problem:  # noqa: BLE001
                usable = False
                yield {"words": _words(problem)}
            yield {"usable": usable}
    yield from _leave(ours.context)


def _endure(ours: _Group, drill: Drill, near: list[int], wrong: int) -> Iterator[Json]:
    """Go on summing while nothing happens, or something that TCP mends; `wrong` elements there were before."""
    timeout_s: float = ours.context.settings["timeout_s"]
    began = time.monotonic()
    if drill.fault is Fault.SHORT_CUT:
        cutting.cut(near)
        # By a thread: this one will be waiting in the collective.
        threading.Timer(timeout_s / 4, cutting.restore, (near,)).start()
    elif drill.fault is Fault.LOSSY:
        cutting.drop_share(near, ours.context.settings["loss"])
    sums, longest = 0, 0.0
    until = began + (0.0 if drill.fault is Fault.NONE else _GOING_ON * timeout_s)
    try:
        while True:
            at = time.monotonic()
            wrong += ours.sum(ours.large if sums % 2 else _SMALL)
            sums, longest = sums + 1, max(longest, time.monotonic() - at)
            # Agreed on the board, not by a collective: all must stop after the same sum.
            if min(ours.context.exchange(float(time.monotonic() < until))) == 0:
                break
        if drill.fault is Fault.LOSSY:
            cutting.restore(near)
        yield {"returned": wrong, "sums": sums, "longest_s": round(longest, 4)}
        every = wires.tcp_connections()
        yield {"connections": [[one.local_port, one.remote_port, one.retransmissions, one.round_trip_s] for one in every]}
    except Exception as problem:  # noqa: BLE001
        yield {"noticed": ours.context.clock(), "words": _words(problem)}
    yield from _leave(ours.context)


def _last_call(context: RankContext, drill: Drill) -> Json | None:
    """From the flight recorder; a guarded group's is full of what the guard itself calls, so there it is the board's."""
    return on_board(context.board.read(context.rank)) if drill.guard is Guard.DETAIL else flight.last_call()


def on_board(mark: Mark) -> Json:
    """A rank's last call as it stands on the board, in the form of the flight recorder."""
    return {"group": "board", "number": mark.entered, "operation": mark.operation, "sizes": [], "dtypes": []}


def _other_call(ours: _Group, drill: Drill) -> int:
    """What the rank that fails calls while the others sum."""
    match drill.fault:
        case Fault.COLLECTIVE:
            own = dist.get_rank()

            def other(tensor: torch.Tensor) -> object:
                return dist.broadcast(tensor, src=own, group=ours.group)

            return ours.call(other, "broadcast", ours.filled(_SMALL), _SMALL)
        case Fault.SHAPE:
            tensor = ours.filled(_SMALL, more=_SMALL // 2)
        case Fault.BYTES:
            tensor = ours.filled(_SMALL, torch.bfloat16)
        case _:
            tensor = ours.filled(_SMALL, torch.int32)
    return ours.call(lambda given: dist.all_reduce(given, group=ours.group), "all_reduce", tensor, _SMALL)


def _leave(context: RankContext) -> Iterator[Json]:
    """Leave the group, and where that does not end, end this process: a library may wait for a peer that has no ear for it.

    A job whose ranks have raised ends likewise; whether it can is the question.
    """
    began = time.monotonic()
    leaving = threading.Thread(target=_leave_group, daemon=True)
    with context.step("leaving the group"):
        leaving.start()
        leaving.join(_LEAVING_S)
    yield {"stopped": round(time.monotonic() - began, 4), "left": not leaving.is_alive()}
    if leaving.is_alive():
        os._exit(0)


def _leave_group() -> None:
    try:
        dist.destroy_process_group()
    except Exception:  # noqa: BLE001 - into the log: it has left all the same
        traceback.print_exc()


def _words(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:900]
