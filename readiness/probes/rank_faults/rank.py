"""Ranks of `multichip.drills`: one fails on purpose, the others report how the stack notifies them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist

from readiness.distributed import flight_recorder, tcp_fault_injection, tcp_info
from readiness.distributed.rank_messages import Report
from readiness.distributed.status_board import Mark
from readiness.distributed.types import Json, RankContext
from readiness.probes.rank_faults.faults import (
    CallReturned,
    Connections,
    ErrorRaised,
    Fault,
    FaultInjected,
    GroupLeft,
    GroupUsable,
    Guard,
    LastCall,
    RankFault,
    Settings,
    SumsBefore,
)
from readiness.probes.ranks_common.known_allreduce import KnownSum, known_allreduce
from readiness.probes.ranks_common.message_sizes import repeat_values

#: Elements, shared among the ranks, of a collective that takes long enough for its end not to come before a fault in its
#: middle: the more ranks, the longer each element takes.
_LARGE = 1 << 21
_SMALL = 4096
#: Sums of the control run: defects that begin with the twentieth or thirtieth call show themselves.
_HEALTHY_SUMS = 40
#: How much longer than its library may take ranks wait for each other after a call, and how long leaving the group may take.
_EXCHANGE_S, _LEAVING_S = 1.5, 3.0
#: While a link is lossy or away for a moment, sums go on for so long, in timeouts.
_GOING_ON = 0.75


def rank_main(context: RankContext[Settings]) -> Iterator[Report]:
    """Inject the fault of the settings into the culprit; report the state of each rank."""
    settings = context.settings
    rank_fault, is_culprit = settings.rank_fault, context.rank == settings.culprit
    if rank_fault.guard is Guard.DETAIL:
        dist.set_debug_level(dist.DebugLevel.DETAIL)  # type: ignore[attr-defined]
    context.exchange()  # ranks that come up late would be late for what the group makes of its own, within its timeout
    with context.step("making the group"):
        group = dist.new_group(timeout=timedelta(seconds=settings.timeout_s))
    sums = _Sums(context, group)
    wrong = sum(sums.run(_SMALL) for _ in range(_HEALTHY_SUMS if rank_fault.fault is Fault.NONE else 3))
    wrong += sums.run(sums.large)
    began = time.monotonic()
    wrong += sums.run(sums.large)
    seconds = time.monotonic() - began
    yield SumsBefore(wrong)
    connections = _connections_to_culprit(context) if rank_fault.affects_links else []
    context.exchange()  # now all are here, and nothing is on its way
    if is_culprit and rank_fault.loses_a_rank:
        yield from _fail(sums, rank_fault, seconds)
        return
    if is_culprit:
        yield FaultInjected(context.clock())
    if rank_fault.harmless:
        yield from _sum_through_fault(sums, rank_fault, connections, wrong)
    else:
        yield from _trigger_fault(sums, rank_fault, connections, is_culprit=is_culprit)
    yield from _leave(context)


class _Sums:
    """All-reduces with known answers in the process group under test."""

    def __init__(self, context: RankContext[Settings], group: Any) -> None:
        self.context, self.group = context, group
        self.large = _LARGE // context.world_size
        self.known = cache(self._known)

    def part(self, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return this rank's input: small integers by rank and position, so that any order of summing is exact."""
        return self._repeated(self._turn(self.context.rank), count).to(dtype).to(self.context.device)

    def _known(self, count: int) -> KnownSum:
        sums = [sum(values) for values in zip(*map(self._turn, range(self.context.world_size)), strict=True)]
        return KnownSum(self.part(count), self._repeated(sums, count))

    def _turn(self, rank: int) -> list[int]:
        """Return one period of a rank's repeating input."""
        return [(place * 7 + rank * 13 + self.context.accelerator.seed) % 5 - 2 for place in range(5)]

    @staticmethod
    def _repeated(values: list[int], count: int) -> torch.Tensor:
        return repeat_values(torch.tensor(values, dtype=torch.float32), 0, count)

    def run(self, count: int) -> int:
        """Sum so many elements; return the number of wrong ones."""
        with self.context.step(f"all_reduce of {count} x float32"):
            wrong = known_allreduce(self.context, self.known(count), self.group)
        return 0 if wrong is None else wrong.wrong

    def mismatched_call(self, fault: Fault) -> int:
        """Make the culprit's call in place of the sum of the others; return the number of wrong elements."""
        more, dtype = (_SMALL // 2 if fault is Fault.SHAPE else 0), torch.float32
        if fault in (Fault.BYTES, Fault.SAME_BYTES):
            dtype = torch.bfloat16 if fault is Fault.BYTES else torch.int32
        tensor = self.part(_SMALL + more, dtype)
        operation = "broadcast" if fault is Fault.COLLECTIVE else "all_reduce"
        with self.context.step(f"{operation} of {tensor.numel()} x {str(dtype).removeprefix('torch.')}"):
            if fault is Fault.COLLECTIVE:
                dist.broadcast(tensor, src=dist.get_rank(), group=self.group)
            else:
                dist.all_reduce(tensor, group=self.group)
            self.context.accelerator.synchronize()
            found = tensor.cpu()
        wanted = self.known(_SMALL).expected
        if found.numel() != wanted.numel():
            return found.numel()
        return int((found.float() != wanted).sum())  # NaN differs from everything


def _connections_to_culprit(context: RankContext[Settings]) -> list[int]:
    """Return the descriptors of connections between the culprit and this rank; for the culprit, of all its connections."""
    culprit = context.settings.culprit
    own = tcp_fault_injection.connections()
    ports = [port for _, port, _ in own]
    ports_of_culprit = set()
    for number in range(int(context.exchange(len(ports))[culprit])):
        ports_of_culprit.add(context.exchange(ports[number] if context.rank == culprit else 0.0)[culprit])
    return [fd for fd, port, other in own if (port if context.rank == culprit else other) in ports_of_culprit]


def _fail(sums: _Sums, rank_fault: RankFault, seconds: float) -> Iterator[Report]:
    """Fail as the fault says; a large sum takes `sum_s` seconds."""
    context = sums.context
    if rank_fault.fault in (Fault.KILLED, Fault.STOPPED):
        number = signal.SIGKILL if rank_fault.fault is Fault.KILLED else signal.SIGSTOP
        wait_s = min(seconds / 2, context.settings.timeout_s / 8)
        yield FaultInjected(context.clock() + wait_s)  # reported before it happens: afterwards nobody is there to do it
        threading.Timer(wait_s, os.kill, (os.getpid(), number)).start()
        part = sums.part(sums.large)
        while True:  # next to no time is spent outside of collectives, so it is one that the signal ends
            tensor = part.clone()
            try:
                dist.all_reduce(tensor, group=sums.group)
                context.accelerator.synchronize()
            except RuntimeError:  # the others were late, on a busy host: the signal is on its way
                threading.Event().wait()
    yield FaultInjected(context.clock())
    if rank_fault.fault is Fault.RAISING:
        raise ArithmeticError("this rank raises on purpose")
    threading.Event().wait()


def _trigger_fault(sums: _Sums, rank_fault: RankFault, connections: list[int], *, is_culprit: bool) -> Iterator[Report]:
    """Take part in the failing collective, and report the outcome."""
    context = sums.context
    if rank_fault.affects_links:
        tcp_fault_injection.cut(connections)
    error: Exception | None = None
    try:
        if rank_fault.is_mismatch:
            yield CallReturned(sums.mismatched_call(rank_fault.fault) if is_culprit else sums.run(_SMALL))
        else:
            while True:  # what had been on its way may have arrived: the culprit is missed in the next sum, or the one after
                if wrong := sums.run(sums.large):
                    yield CallReturned(wrong)
    except Exception as problem:  # noqa: BLE001 - whatever it raises is what the stack lets the rank know
        error = problem
        yield ErrorRaised(context.clock(), _error_text(problem))
    yield LastCall(_last_call(context, rank_fault))
    if rank_fault.is_mismatch and (error is None or rank_fault.guard is Guard.DETAIL):
        # Nothing is lost: all ranks are there, and nothing is under way. The group should go on. A rank that its library
        # has ended meanwhile, over the very same call, does not come any more.
        with contextlib.suppress(TimeoutError):
            context.exchange(within_s=context.settings.timeout_s + flight_recorder.WATCHDOG_DUMP_S + _EXCHANGE_S)
            context.exchange(within_s=_EXCHANGE_S)  # who had given up on the first one has come to it all the same
            try:
                yield GroupUsable(sums.run(_SMALL) == 0)
            except Exception as problem:  # noqa: BLE001
                yield GroupUsable(works=False, message=_error_text(problem))


def _sum_through_fault(sums: _Sums, rank_fault: RankFault, connections: list[int], wrong: int) -> Iterator[Report]:
    """Continue summing while nothing fails, or TCP repairs the fault; `wrong` counts earlier wrong elements."""
    context, timeout_s = sums.context, sums.context.settings.timeout_s
    began = time.monotonic()
    if rank_fault.fault is Fault.SHORT_CUT:
        tcp_fault_injection.cut(connections)
        # By a thread: this one will be waiting in the collective.
        threading.Timer(timeout_s / 4, tcp_fault_injection.restore, (connections,)).start()
    elif rank_fault.fault is Fault.LOSSY:
        tcp_fault_injection.drop_share(connections, context.settings.loss)
    count, longest = 0, 0.0
    until = began + (0.0 if rank_fault.fault is Fault.NONE else _GOING_ON * timeout_s)
    try:
        while True:
            at = time.monotonic()
            wrong += sums.run(sums.large if count % 2 else _SMALL)
            count, longest = count + 1, max(longest, time.monotonic() - at)
            # Agreed through the status board, not by a collective: all must stop after the same sum.
            if min(context.exchange(float(time.monotonic() < until))) == 0:
                break
        if rank_fault.fault is Fault.LOSSY:
            tcp_fault_injection.restore(connections)
        yield CallReturned(wrong, count, round(longest, 4))
        every = tcp_info.tcp_connections()
        yield Connections(
            tuple((one.local_port, one.remote_port, one.retransmissions, one.round_trip_s) for one in every)
        )
    except Exception as problem:  # noqa: BLE001
        yield ErrorRaised(context.clock(), _error_text(problem))


def _last_call(context: RankContext, rank_fault: RankFault) -> Json | None:
    """Report the last call from the flight recorder, or from the status board if a guard fills the recorder."""
    if rank_fault.guard is Guard.DETAIL:
        return call_on_board(context.board.read(context.rank))
    return flight_recorder.last_call()


def call_on_board(mark: Mark) -> Json:
    """A rank's last call as it stands on the status board, in the form of the flight recorder."""
    return {"group": "board", "number": mark.entered, "operation": mark.operation, "sizes": [], "dtypes": []}


def _leave(context: RankContext) -> Iterator[GroupLeft]:
    """Leave the group, or end this process if that hangs: a library may wait for a peer that never answers.

    A job whose ranks have raised ends likewise; whether it can is the question.
    """
    began = time.monotonic()
    leaving = threading.Thread(target=_leave_group, daemon=True)
    with context.step("leaving the group"):
        leaving.start()
        leaving.join(_LEAVING_S)
    yield GroupLeft(round(time.monotonic() - began, 4), not leaving.is_alive())
    if leaving.is_alive():
        os._exit(0)


def _leave_group() -> None:
    try:
        dist.destroy_process_group()
    except Exception:  # noqa: BLE001 - into the log: it has left all the same
        traceback.print_exc()


def _error_text(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:900]
