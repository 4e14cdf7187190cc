"""The parent's hold on each rank: its process, its pipes, its log; how it is started and how it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NoReturn, Protocol

import psutil

from readiness.assessment import facts_to_json
from readiness.ranks import rank as rank_side
from readiness.ranks.board import Board
from readiness.ranks.fresh import SCALARS
from readiness.ranks.rank import RankPlan
from readiness.ranks.values import Json
from readiness.spawning import bootstrap

_LONGEST_LOG_BYTES = 200_000


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
class Member:
    """One rank as its parent sees it. `orders` and `reports` are the parent's ends of the pipes."""

    rank: int
    process: Process
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
    _unread: bytes = b""

    def read(self) -> bool:
        """Take in what the rank has reported. Whether anything came. At its end the pipe counts as closed."""
        try:
            content = os.read(self.reports, 1 << 20)
        except BlockingIOError:
            return False
        if not content:
            self.open = False
            return False
        *lines, self._unread = (self._unread + content).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return True

    def drain(self) -> None:
        """Take in all that is left in the pipe of a process that has ended."""
        while self.open and self.read():
            pass

    def state(self) -> str | None:
        """The process state as psutil names it; None where it cannot be told."""
        try:
            return str(psutil.Process(self.process.pid).status())
        except psutil.Error:
            return None

    def tell_to_leave(self) -> None:
        """Let a finished rank end."""
        self._order(b"L")

    def ask_for_evidence(self) -> None:
        """Have the rank report what it last called and how its connections fare. A rank that cannot does not answer."""
        self.answered = False
        self._order(b"F")

    def signal(self, number: signal.Signals) -> None:
        """Signal the rank's whole session, if the rank has not been reaped."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)  # it may not lead a session yet

    def log_tail(self, characters: int) -> str:
        """The end of what the rank printed, stacks cut where they reach into our own and the parent's code."""
        self.log.seek(max(self.log.seek(0, os.SEEK_END) - _LONGEST_LOG_BYTES, 0))
        return _without_our_frames(self.log.read().decode(errors="replace")).strip()[-characters:]

    def close(self) -> None:
        """Close the parent's ends."""
        os.close(self.orders)
        os.close(self.reports)
        self.log.close()

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self.orders, order)

    def _take(self, message: Json) -> None:
        match message:
            case {"flight": call}:
                self.flight = call
            case {"wires": wires}:
                self.answered = True
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


def anonymous_file(name: str) -> BinaryIO:
    """A file without a name: it goes with the last process that holds it, however that ends."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(name), "w+b")
    return tempfile.TemporaryFile("w+b")


def start(plan: RankPlan, board: Board, board_file: BinaryIO, others: Sequence[Member], keep: Sequence[int]) -> Member:
    """Start one rank as its stack wants it; the plan's descriptors are filled in here.

    `others` are the ranks started before: a forked one inherits the parent's ends of their pipes and must close them,
    or the parent's death would go unnoticed. `keep` are further descriptors that a fresh interpreter needs.
    """
    orders_read, orders_write = os.pipe()
    reports_read, reports_write = os.pipe()
    log = anonymous_file(f"rank {plan.rank}")
    plan = replace(plan, orders=orders_read, reports=reports_write, log=log.fileno(), parent=os.getpid())
    try:
        process: Process
        if plan.accelerator.stack.forks:
            inherited = [orders_write, reports_read, *(fd for other in others for fd in (other.orders, other.reports))]
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


def end(members: Sequence[Member], patience_s: float) -> tuple[int, ...]:
    """Kill every rank that is still there and reap it; the ids of processes that even so did not go."""
    for member in members:
        member.signal(signal.SIGKILL)
    deadline = time.monotonic() + patience_s
    while (left := [member for member in members if member.process.poll() is None]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return tuple(member.process.pid for member in left)


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
    accelerator = plan.accelerator
    told = {name: getattr(plan, name) for name in SCALARS} | {
        "board": board_file.fileno(),
        "stack": accelerator.stack.name,
        "seed": accelerator.seed,
        "facts": facts_to_json(accelerator.facts),
        "peers": [facts_to_json(facts) for facts in accelerator.peers],
        "module": plan.function.__module__,
        "function": plan.function.__name__,
    }
    return subprocess.Popen(
        bootstrap("readiness.ranks.fresh:main", json.dumps(told)),
        stdin=subprocess.DEVNULL,
        stdout=plan.log,
        stderr=plan.log,
        start_new_session=True,
        pass_fds=[plan.orders, plan.reports, plan.log, board_file.fileno(), *keep],
        env={**os.environ, "OMP_NUM_THREADS": str(plan.threads)},
    )
