"""Rank processes from the parent's side: start, pipes, log and end."""

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
from typing import Any, BinaryIO, NoReturn, Protocol

import psutil

from readiness.distributed import rank_entry as rank_side
from readiness.distributed.json_lines import Lines
from readiness.distributed.rank_entry import RankPlan
from readiness.distributed.rank_messages import decode_report
from readiness.distributed.rank_spawn import plan_to_json
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json
from readiness.host.process_control import bootstrap
from readiness.host.temp_dirs import anonymous_file

_LONGEST_LOG_BYTES = 200_000
#: The fields of the status of a process on another host, with their types.
_STATUS_FIELDS = {"pid": int, "code": int, "status": str | None, "lost": str | None, "starved": bool}


class ProcessHandle(Protocol):
    """Protocol of a child process."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""


@dataclass(slots=True)
class ForkedProcess:
    """Forked child process."""

    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self.code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else in this process has reaped it
                self.code = 255
            else:
                self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code


@dataclass(slots=True)
class RemoteRank:
    """Process of a rank on another host; its status comes with its reports."""

    host: str
    pid: int = 0
    code: int | None = None
    status: str | None = None
    lost: str | None = None
    starved: bool = False

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, 255 if it was lost with its host; None while it runs."""
        return self.code

    def update(self, status: Json) -> None:
        """Apply a status from the other host; omitted fields have not changed.

        Raises ValueError for a field that is not the state of a process.
        """
        for name, value in status.items():
            if not isinstance(value, _STATUS_FIELDS.get(name, ())):
                raise ValueError(f"{str(name)[:40]!r} is not the state of a process")
            setattr(self, name, value)


@dataclass(slots=True)
class RankProcess:
    """Rank process from the parent's side. `orders` and `reports` are the parent's ends of the pipes."""

    rank: int
    handle: ProcessHandle | RemoteRank
    orders: int
    reports: int
    log: BinaryIO
    ready: bool = False
    finished: bool = False
    error: str | None = None
    last_call: Json | None = None
    tcp_report: Json | None = None
    answered: bool = False
    collected: list[Any] = field(default_factory=list)
    open: bool = True
    _lines: Lines = field(default_factory=Lines)

    def read(self) -> bool:
        """Read the rank's reports; return True if there were any. The end of the pipe marks it as closed."""
        lines = self.lines()
        for line in lines or ():
            try:
                self._receive(json.loads(line))
            except (ValueError, RecursionError, AttributeError) as problem:
                self.error = f"a report cannot be read: {problem}"[:300]
        return lines is not None

    def lines(self) -> list[bytes] | None:
        """Return the available reports, not decoded; None if there are none. The end of the pipe marks it as closed."""
        try:
            content = os.read(self.reports, 1 << 20)
        except BlockingIOError:
            return None
        if not content:
            self.open = False
            if isinstance(self.handle, RemoteRank) and self.handle.code is None:
                self.handle.update({"code": 255, "lost": "its report connection has ended"})
            return None
        try:
            return self._lines.take(content)
        except ValueError as problem:
            self.error, self.open = str(problem), False
            return None

    def read_rest(self) -> None:
        """Read the rest of the pipe of an ended process."""
        while self.open and self.read():
            pass

    def state(self) -> str | None:
        """Return the process state as psutil names it; None if it is unknown."""
        if isinstance(self.handle, RemoteRank):
            return self.handle.status
        try:
            return str(psutil.Process(self.handle.pid).status())
        except psutil.Error:
            return None

    def request_leave(self) -> None:
        """Let a finished rank leave the group and exit."""
        self.order(b"L")

    def request_tcp_report(self) -> None:
        """Request a report of the rank's TCP connections."""
        self.order(b"W")

    def request_diagnostics(self) -> None:
        """Request the rank's last call and TCP connections. A rank that cannot answer does not."""
        self.answered = False
        self.order(b"F")

    @property
    def lost(self) -> str | None:
        """Reason why the status of a rank on another host is unknown from now on; None while it is known."""
        return self.handle.lost if isinstance(self.handle, RemoteRank) else None

    @property
    def starved(self) -> bool:
        """True if the kernel of the rank's host killed processes for lack of memory while it ran."""
        return isinstance(self.handle, RemoteRank) and self.handle.starved

    def request_stacks(self) -> None:
        """Let the rank write its stacks into its log, even while it is blocked in C."""
        if isinstance(self.handle, RemoteRank):
            self.order(b"S")
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.handle.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """Kill the rank's whole session unless it has been reaped."""
        if isinstance(self.handle, RemoteRank):
            self.order(b"K")
        elif self.handle.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.handle.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.handle.pid, signal.SIGKILL)  # it may not lead a session yet

    @property
    def log_size(self) -> int:
        """Bytes that the rank has printed."""
        return os.fstat(self.log.fileno()).st_size

    def log_tail(self, characters: int) -> str:
        """Return the end of the rank's output; stacks end where they reach this module and the parent's code."""
        # Where this process reads, the rank writes: the two share one place in the file, which must not move.
        descriptor = self.log.fileno()
        begin = max(os.fstat(descriptor).st_size - _LONGEST_LOG_BYTES, 0)
        content = os.pread(descriptor, _LONGEST_LOG_BYTES, begin)
        return _without_parent_frames(content.decode(errors="replace")).strip()[-characters:]

    def close(self) -> None:
        """Close the parent's pipe ends."""
        os.close(self.orders)
        os.close(self.reports)
        self.log.close()

    def order(self, order: bytes) -> None:
        """Send an order to the rank, if it can still read it."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.orders, order)

    def _receive(self, message: Json) -> None:
        if not isinstance(message, dict):
            raise ValueError(f"{message!r:.40} is no object")
        match message:
            case {"rank_status": status} if isinstance(self.handle, RemoteRank):
                self.handle.update(status)
            case {"last_call": call}:
                self.answered = True
                self.last_call = call
            case {"tcp": report}:
                if self.tcp_report is None or not self.tcp_report["unanswered"]:  # a link that was dead is evidence for good
                    self.tcp_report = report
            case {"ready": _}:
                self.ready = True
            case {"report": _}:
                self.collected.append(decode_report(message))
            case {"finished": _}:
                self.finished = True
            case {"raised": error}:
                self.error = str(error)


def _without_parent_frames(text: str) -> str:
    """Remove the parent's frames from a forked rank's stack."""
    kept, in_stack, skipping = [], False, False
    for line in text.splitlines():
        in_stack = line.endswith("(most recent call first):") or (in_stack and line.startswith("  File "))
        skipping = in_stack and line.startswith("  File ") and (skipping or "readiness/distributed/rank_entry.py" in line)
        if not skipping:
            kept.append(line)
    return "\n".join(kept)


def read_reports(processes: Sequence[RankProcess], tick_s: float) -> bool:
    """Read the reports of all ranks, waiting at most `wait_s`; return True if there were any."""
    with selectors.DefaultSelector() as selector:
        for process in processes:
            if process.open:
                selector.register(process.reports, selectors.EVENT_READ, process)
        if not selector.get_map():
            time.sleep(tick_s)
            return False
        news = [key.data.read() for key, _ in selector.select(tick_s)]
        return any(news)


def start_rank(
    plan: RankPlan,
    board: StatusBoard,
    board_file: BinaryIO,
    others: Sequence[RankProcess],
    *,
    keep: Sequence[int] = (),
    close_in_child: Sequence[int] = (),
) -> RankProcess:
    """Start one rank by fork or as a fresh interpreter, as its stack needs it, and set the plan's descriptors.

    `others` are the ranks started before: a forked one inherits the parent's ends of their pipes and must close them,
    or the parent's death would go unnoticed; the same holds for `close_in_child`. `keep` are further descriptors that a
    fresh interpreter needs.
    """
    orders_read, orders_write = os.pipe()
    reports_read, reports_write = os.pipe()
    log = anonymous_file(f"rank {plan.rank}")
    plan = replace(plan, orders=orders_read, reports=reports_write, log=log.fileno(), parent=os.getpid())
    try:
        handle: ProcessHandle
        if plan.accelerator.stack.fork_safe:
            inherited = [orders_write, reports_read, *close_in_child, *pipe_ends(others)]
            handle = _fork(plan, board, inherited)
        else:
            handle = _spawn(plan, board_file, keep)
    except BaseException:
        os.close(orders_write)
        os.close(reports_read)
        log.close()
        raise
    finally:
        os.close(orders_read)
        os.close(reports_write)
    os.set_blocking(reports_read, False)
    return RankProcess(plan.rank, handle, orders_write, reports_read, log)


def pipe_ends(processes: Sequence[RankProcess]) -> list[int]:
    """Return the parent's pipe ends of these ranks."""
    return [descriptor for process in processes for descriptor in (process.orders, process.reports)]


def kill_and_reap(processes: Sequence[RankProcess], patience_s: float) -> tuple[str, ...]:
    """Kill and reap every remaining rank; return the ids of processes that could not be killed."""
    for process in processes:
        process.kill()
    deadline = time.monotonic() + patience_s
    while (left := [process for process in processes if process.handle.poll() is None]) and time.monotonic() < deadline:
        for process in left:
            if isinstance(process.handle, RemoteRank):
                process.read()
        time.sleep(0.005)
    return tuple(map(_id, left))


def _id(process: RankProcess) -> str:
    handle = process.handle
    return f"{handle.pid} on {handle.host}" if isinstance(handle, RemoteRank) else str(handle.pid)


def _fork(plan: RankPlan, board: StatusBoard, inherited: Sequence[int]) -> ProcessHandle:
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python warns of threads at a fork. A worker has none; where there are some, the ranks use one thread each.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _run_forked(plan, board, inherited)
    return ForkedProcess(pid)


def _run_forked(plan: RankPlan, board: StatusBoard, inherited: Sequence[int]) -> NoReturn:
    try:
        for descriptor in inherited:
            os.close(descriptor)
        rank_side.detach(plan.parent, plan.log)
        rank_side.serve(plan, board)
    finally:
        os._exit(70)  # only reached when it could not even begin; never back into the parent's code


def _spawn(plan: RankPlan, board_file: BinaryIO, keep: Sequence[int]) -> ProcessHandle:
    content = plan_to_json(plan) | {"board": board_file.fileno()}
    with anonymous_file("plan of a rank") as plan_file:  # with many peers it is longer than an argument may be
        plan_file.write(json.dumps(content).encode())
        plan_file.flush()
        plan_file.seek(0)
        return subprocess.Popen(
            bootstrap("readiness.distributed.rank_spawn:main", str(plan_file.fileno())),
            stdin=subprocess.DEVNULL, stdout=plan.log, stderr=plan.log, start_new_session=True,
            pass_fds=[plan.orders, plan.reports, plan.log, board_file.fileno(), plan_file.fileno(), *keep],
            env={**os.environ, "OMP_NUM_THREADS": str(plan.threads)},
        )  # fmt: skip
