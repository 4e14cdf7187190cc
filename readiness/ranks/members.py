"""The parent's hold on each rank: its process, its pipes, its log; how it is started and how it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NoReturn, Protocol

import psutil

from readiness.ranks import rank as rank_side
from readiness.ranks.board import Board
from readiness.ranks.fresh import plan_to_json
from readiness.ranks.rank import RankPlan
from readiness.ranks.speaking import Lines
from readiness.ranks.values import Json
from readiness.scratch import anonymous_file
from readiness.spawning import bootstrap

_LONGEST_LOG_BYTES = 200_000
_FARES = {"pid": int, "code": int, "status": str | None, "lost": str | None, "starved": bool}  # what `take` may be told


class Process(Protocol):
    """A child by its id."""

    pid: int

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it lives."""


@dataclass(slots=True)
class Forked:
    """A child made by fork."""

    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it lives."""
        if self.code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else in this process has reaped it
                self.code = 255
            else:
                self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code


@dataclass(slots=True)
class Abroad:
    """A rank's process on another host: how it fares comes among its reports."""

    host: str
    pid: int = 0
    code: int | None = None
    status: str | None = None
    lost: str | None = None
    starved: bool = False

    def poll(self) -> int | None:
        """The exit code, negative for a signal, 255 for one that was lost with its host; None while it lives."""
        return self.code

    def take(self, fares: Json) -> None:
        """How it fares, as it was told; what is left out has not changed. Raises ValueError for what is no such word."""
        for name, value in fares.items():
            if not isinstance(value, _FARES.get(name, ())):
                raise ValueError(f"{str(name)[:40]!r} tells nothing of a process")
            setattr(self, name, value)


@dataclass(slots=True)
class Member:
    """One rank as its parent sees it. `orders` and `reports` are the parent's ends of the pipes."""

    rank: int
    process: Process | Abroad
    orders: int
    reports: int
    log: BinaryIO
    ready: bool = False
    finished: bool = False
    error: str | None = None
    flight: Json | None = None
    wires: Json | None = None
    answered: bool = False
    collected: list[Json] = field(default_factory=list)
    stopped_since: float | None = None
    open: bool = True
    _lines: Lines = field(default_factory=Lines)

    def read(self) -> bool:
        """Take in what the rank has reported. Whether anything came. At its end the pipe counts as closed."""
        lines = self.lines()
        for line in lines or ():
            try:
                self._take(json.loads(line))
            except (ValueError, RecursionError, AttributeError):
                self.error = f"its reports say {line[:80]!r}, which no rank says"
        return lines is not None

    def lines(self) -> list[bytes] | None:
        """The reports that have come, as they are; None where nothing came. At its end the pipe counts as closed."""
        try:
            content = os.read(self.reports, 1 << 20)
        except BlockingIOError:
            return None
        if not content:
            self.open = False
            if isinstance(self.process, Abroad) and self.process.code is None:
                self.process.take({"code": 255, "lost": "what carries its reports has ended"})
            return None
        try:
            return self._lines.take(content)
        except ValueError as problem:
            self.error, self.open = str(problem), False
            return None

    def drain(self) -> None:
        """Take in all that is left in the pipe of a process that has ended."""
        while self.open and self.read():
            pass

    def state(self) -> str | None:
        """The process state as psutil names it; None where it cannot be told."""
        if isinstance(self.process, Abroad):
            return self.process.status
        try:
            return str(psutil.Process(self.process.pid).status())
        except psutil.Error:
            return None

    def tell_to_leave(self) -> None:
        """Let a finished rank end."""
        self.order(b"L")

    def ask_for_wires(self) -> None:
        """Have the rank report how its connections fare."""
        self.order(b"W")

    def ask_for_evidence(self) -> None:
        """Have the rank report what it last called and how its connections fare. A rank that cannot does not answer."""
        self.answered = False
        self.order(b"F")

    @property
    def lost(self) -> str | None:
        """Why nothing can be known of a rank on another host any more; None as long as something can."""
        return self.process.lost if isinstance(self.process, Abroad) else None

    @property
    def starved(self) -> bool:
        """Whether the kernel of its own host killed for want of memory while it ran."""
        return isinstance(self.process, Abroad) and self.process.starved

    def ask_for_stacks(self) -> None:
        """Have the rank write its stacks into its log, even while it is blocked in C."""
        if isinstance(self.process, Abroad):
            self.order(b"S")
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """Kill the rank's whole session, if the rank has not been reaped."""
        if isinstance(self.process, Abroad):
            self.order(b"K")
        elif self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)  # it may not lead a session yet

    def log_tail(self, characters: int) -> str:
        """The end of what the rank printed, stacks cut where they reach into our own and the parent's code."""
        # Where this process reads, the rank writes: the two share one place in the file, which must not move.
        descriptor = self.log.fileno()
        begin = max(os.fstat(descriptor).st_size - _LONGEST_LOG_BYTES, 0)
        content = os.pread(descriptor, _LONGEST_LOG_BYTES, begin)
        return _without_our_frames(content.decode(errors="replace")).strip()[-characters:]

    def close(self) -> None:
        """Close the parent's ends."""
        os.close(self.orders)
        os.close(self.reports)
        self.log.close()

    def order(self, order: bytes) -> None:
        """Tell the rank something, if it is still there to be told."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.orders, order)

    def _take(self, message: Json) -> None:
        match message:
            case {"fares": fares} if isinstance(self.process, Abroad):
                self.process.take(fares)
            case {"flight": call}:
                self.answered = True
                self.flight = call
            case {"wires": wires}:
                if self.wires is None or not self.wires["unanswered"]:  # a wire that was dead is evidence for good
                    self.wires = wires
            case {"ready": _}:
                self.ready = True
            case {"report": report}:
                self.collected.append(report)
            case {"finished": _}:
                self.finished = True
            case {"raised": error}:
                self.error = str(error)


def _without_our_frames(text: str) -> str:
    """A forked rank's stack goes on below its beginning into that of its parent: nobody wants to read that."""
    kept, in_stack, ours = [], False, False
    for line in text.splitlines():
        in_stack = line.endswith("(most recent call first):") or (in_stack and line.startswith("  File "))
        ours = in_stack and line.startswith("  File ") and (ours or "readiness/ranks/rank.py" in line)
        if not ours:
            kept.append(line)
    return "\n".join(kept)


def listen(members: Sequence[Member], tick_s: float) -> bool:
    """Take in what ranks report; wait for it one tick at most. Whether anything came."""
    with selectors.DefaultSelector() as selector:
        for member in members:
            if member.open:
                selector.register(member.reports, selectors.EVENT_READ, member)
        if not selector.get_map():
            time.sleep(tick_s)
            return False
        news = [key.data.read() for key, _ in selector.select(tick_s)]
        return any(news)


def start(
    plan: RankPlan,
    board: Board,
    board_file: BinaryIO,
    others: Sequence[Member],
    *,
    keep: Sequence[int] = (),
    ours: Sequence[int] = (),
) -> Member:
    """Start one rank as its stack wants it; the plan's descriptors are filled in here.

    `others` are the ranks started before: a forked one inherits the parent's ends of their pipes and must close them,
    or the parent's death would go unnoticed; so it must with `ours`. `keep` are further descriptors that a fresh
    interpreter needs.
    """
    orders_read, orders_write = os.pipe()
    reports_read, reports_write = os.pipe()
    log = anonymous_file(f"rank {plan.rank}")
    plan = replace(plan, orders=orders_read, reports=reports_write, log=log.fileno(), parent=os.getpid())
    try:
        process: Process
        if plan.accelerator.stack.forks:
            inherited = [orders_write, reports_read, *ours, *ends_of(others)]
            process = _fork(plan, board, inherited)
        else:
            process = _spawn(plan, board_file, keep)
    except BaseException:
        os.close(orders_write)
        os.close(reports_read)
        log.close()
        raise
    finally:
        os.close(orders_read)
        os.close(reports_write)
    os.set_blocking(reports_read, False)
    return Member(plan.rank, process, orders_write, reports_read, log)


def ends_of(members: Sequence[Member]) -> list[int]:
    """The parent's ends of all their pipes."""
    return [descriptor for member in members for descriptor in (member.orders, member.reports)]


def end(members: Sequence[Member], patience_s: float) -> tuple[str, ...]:
    """Kill every rank that is still there and reap it; the ids of processes that even so did not go."""
    for member in members:
        member.kill()
    deadline = time.monotonic() + patience_s
    while (left := [member for member in members if member.process.poll() is None]) and time.monotonic() < deadline:
        for member in left:
            if isinstance(member.process, Abroad):
                member.read()
        time.sleep(0.005)
    return tuple(map(_id, left))


def _id(member: Member) -> str:
    process = member.process
    return f"{process.pid} on {process.host}" if isinstance(process, Abroad) else str(process.pid)


def _fork(plan: RankPlan, board: Board, inherited: Sequence[int]) -> Process:
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python warns of threads at a fork. A worker has none; where there are some, the ranks use one thread each.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be_rank(plan, board, inherited)
    return Forked(pid)


def _be_rank(plan: RankPlan, board: Board, inherited: Sequence[int]) -> NoReturn:
    try:
        for descriptor in inherited:
            os.close(descriptor)
        rank_side.detach(plan.parent, plan.log)
        rank_side.serve(plan, board)
    finally:
        os._exit(70)  # only reached when it could not even begin; never back into the parent's code


def _spawn(plan: RankPlan, board_file: BinaryIO, keep: Sequence[int]) -> Process:
    told = plan_to_json(plan) | {"board": board_file.fileno()}
    with anonymous_file("plan of a rank") as plan_file:  # with many peers it is longer than an argument may be
        plan_file.write(json.dumps(told).encode())
        plan_file.flush()
        plan_file.seek(0)
        return subprocess.Popen(
            bootstrap("readiness.ranks.fresh:main", str(plan_file.fileno())),
            stdin=subprocess.DEVNULL, stdout=plan.log, stderr=plan.log, start_new_session=True,
            pass_fds=[plan.orders, plan.reports, plan.log, board_file.fileno(), plan_file.fileno(), *keep],
            env={**os.environ, "OMP_NUM_THREADS": str(plan.threads)},
        )  # fmt: skip
