"""A world of ranks from its start to its end: every wait has a deadline, and what comes of it is a value.

The ranks find each other through a file that has no name and lives in memory, open in each of them. A store behind a
network port would have to listen on every interface without a password, would add a thread to a process that forks, and
its port could be taken; the file needs none of that, is new for every world, and vanishes with the last process.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from readiness.accelerators.base import Accelerator
from readiness.memory import kernel_kills
from readiness.ranks.blame import Seen, blame
from readiness.ranks.board import Board, Mark
from readiness.ranks.members import Member, anonymous_file, end, start
from readiness.ranks.rank import RankPlan
from readiness.ranks.values import Failure, Json, Placement, RankFunction, Trouble, WorldOutcome

#: How long the others may still tell what they saw, once one rank has failed.
GRACE_S = 0.5
#: A rank whose process is stopped for so long counts as frozen.
FROZEN_S = 1.5
#: How long ranks may take to leave a group in which all work is done.
LEAVE_S = 15.0
#: How long a killed process may take to go. One in an uninterruptible sleep never does.
KILL_S = 5.0
_TICK_S = 0.1


def run_world(
    function: RankFunction,
    accelerator: Accelerator,
    placement: Placement,
    settings: Mapping[str, Any] | None = None,
    *,
    patience_s: float = 30.0,
    limit_s: float = 300.0,
    start_s: float = 120.0,
    listen: Callable[[int, Json], object] | None = None,
) -> WorldOutcome:
    """Run a function on every rank of a new world and gather what it yields.

    The world has failed when a rank ends, raises or is stopped, when nothing moves for `patience_s` (counted in steps
    and reports), or when it takes longer than `limit_s`; `start_s` is for the processes to come up. `listen` is handed each
    rank's reports as they come, which are then not kept: a world that lasts for days has many. Raises MemoryError
    when the kernel killed a rank for want of memory: that tells nothing about the device. Raises OSError where no
    process can be started.
    """
    killed_for_memory = kernel_kills()
    with contextlib.ExitStack() as stack:
        board_file = stack.enter_context(anonymous_file("board of ranks"))
        board = Board(board_file.fileno(), len(placement.ranks))
        stack.callback(board.close)
        store, keep = _meeting_place(stack)
        members: list[Member] = []
        stack.callback(_end_all, members)
        threads = _threads(len(placement.ranks))
        for number, facts in enumerate(placement.ranks):
            plan = RankPlan(
                function=function,
                rank=number,
                world_size=len(placement.ranks),
                accelerator=Accelerator(facts, accelerator.stack, seed=accelerator.seed, peers=accelerator.peers),
                settings=dict(settings or {}),
                backend=accelerator.stack.collective_backend or "",
                store=store,
                # Longer than our own patience: a hang is to be seen here, where the rank that is missing can be named.
                timeout_s=2 * patience_s + 30,
                threads=threads,
                parent=os.getpid(),
                orders=-1,
                reports=-1,
                log=-1,
            )
            members.append(start(plan, board, board_file, members, keep))
        outcome = _Watch(members, board, patience_s, limit_s, start_s, listen).outcome()
    failure = outcome.failure
    if failure is not None and failure.trouble is Trouble.DIED and kernel_kills() > killed_for_memory:
        raise MemoryError(f"the kernel killed for want of memory while the ranks ran: {failure.reason}")
    return outcome


@dataclass(slots=True)
class _Watch:
    members: Sequence[Member]
    board: Board
    patience_s: float
    limit_s: float
    start_s: float
    listen: Callable[[int, Json], object] | None = None

    def outcome(self) -> WorldOutcome:
        """Watch until all have finished or one has failed; end them; tell."""
        started = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for member in self.members:
                selector.register(member.reports, selectors.EVENT_READ, member)
            failure = self._watch(selector, started) or self._dismiss(selector)
        if failure is not None:
            culprits = [member for member in self.members if member.rank in failure.culprits] or self.members
            log = "\n".join(f"rank {member.rank}: {member.log_tail(2000 // len(culprits))}" for member in culprits)
            failure = replace(failure, after_s=round(time.monotonic() - started, 2), log=log)
            self._tell()
        reports = tuple(tuple(member.collected) for member in self.members)
        return WorldOutcome(reports, failure, time.monotonic() - started)

    def _watch(self, selector: selectors.BaseSelector, started: float) -> Failure | None:
        moved = ticked = time.monotonic()
        marks: tuple[Mark, ...] = ()
        failed_at: float | None = None
        while True:
            news = self._listen(selector)
            now = time.monotonic()
            before, marks = marks, self.board.marks()
            slept = now - ticked > 20 * _TICK_S  # this process itself was stopped: its clocks prove nothing
            ticked = now
            if news or marks != before or slept:
                moved = now
            if all(member.finished for member in self.members):
                return None
            if any(self._has_failed(member) for member in self.members):
                failed_at = failed_at or now
                if now - failed_at > GRACE_S or all(self._has_ended(member) for member in self.members):
                    return self._end(stalled=False, waited_s=now - moved)
            elif self._is_frozen(now):
                return self._end(stalled=False, waited_s=now - moved)
            elif now - moved > (self.patience_s if all(member.ready for member in self.members) else self.start_s):
                return self._end(stalled=True, waited_s=now - moved)
            elif now - started > self.limit_s:
                failure = self._end(stalled=True, waited_s=now - moved)
                reason = f"not done after {self.limit_s:g} s"
                return replace(failure, trouble=Trouble.OVERDUE, culprits=(), reason=reason)

    def _dismiss(self, selector: selectors.BaseSelector) -> Failure | None:
        """All work is done: let the ranks leave the group, which may hang or crash as well."""
        for member in self.members:
            member.tell_to_leave()
        deadline = time.monotonic() + LEAVE_S
        while time.monotonic() < deadline:
            self._listen(selector, _TICK_S / 20)
            if all(member.process.poll() is not None for member in self.members):
                break
        wrong = [member for member in self.members if member.process.poll() != 0]
        if not wrong:
            return None
        codes = ", ".join(f"rank {member.rank}: {member.process.poll()}" for member in wrong)
        self._take_stacks()
        end(self.members, KILL_S)
        reason = f"all work was done, but ranks did not leave the group (exit codes, None where still there): {codes}"
        return Failure(Trouble.LINGERED, tuple(member.rank for member in wrong), reason, "leaving the group")

    def _listen(self, selector: selectors.BaseSelector, tick_s: float = _TICK_S) -> bool:
        """Wait for reports, one tick at most. Whether there were any."""
        if not selector.get_map():
            time.sleep(tick_s)
        news = False
        for key, _ in selector.select(tick_s) if selector.get_map() else ():
            member: Member = key.data
            news |= member.read()
            self._hand_on(member)
            if not member.open:
                selector.unregister(key.fileobj)
        return news

    def _has_ended(self, member: Member) -> bool:
        if member.process.poll() is None:
            return False
        member.drain()
        self._hand_on(member)
        return True

    def _hand_on(self, member: Member) -> None:
        while self.listen is not None and member.collected:
            self.listen(member.rank, member.collected.pop(0))

    def _has_failed(self, member: Member) -> bool:
        return self._has_ended(member) or member.error is not None

    def _is_frozen(self, now: float) -> bool:
        frozen = False
        for member in self.members:
            if member.state() not in ("stopped", "tracing-stop"):
                member.stopped_since = None
            elif member.stopped_since is None:
                member.stopped_since = now
            else:
                frozen |= now - member.stopped_since > FROZEN_S
        return frozen

    def _end(self, *, stalled: bool, waited_s: float) -> Failure:
        seen = [
            Seen(
                rank=member.rank,
                mark=mark,
                finished=member.finished,
                exit_code=member.process.poll(),
                error=member.error,
                state=member.state(),
            )
            for member, mark in zip(self.members, self.board.marks(), strict=True)
        ]
        self._take_stacks()
        failure = blame(seen, stalled=stalled, waited_s=waited_s)
        if unkillable := end(self.members, KILL_S):
            return replace(failure, reason=f"{failure.reason}; these processes cannot be killed: {unkillable}")
        return failure

    def _take_stacks(self) -> None:
        """Have every rank that can still do it write its stacks into its log; faulthandler does so even in C."""
        alive = [member for member in self.members if member.process.poll() is None and member.state() != "stopped"]
        for member in alive:
            if member.ready:  # before that, the signal may end it
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.process.pid, signal.SIGUSR1)
        if alive:
            time.sleep(0.2)

    def _tell(self) -> None:
        for member in self.members:
            if text := member.log_tail(4000):
                print(f"--- what rank {member.rank} printed ---\n{text}", file=sys.stderr)


def _end_all(members: list[Member]) -> None:
    end(members, KILL_S)
    for member in members:
        member.close()


def _meeting_place(stack: contextlib.ExitStack) -> tuple[str, list[int]]:
    """The path of the store's file for all ranks of this machine, and the descriptor that they must hold for it."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        file = stack.enter_context(anonymous_file("meeting place of ranks"))
        return f"/proc/self/fd/{file.fileno()}", [file.fileno()]
    folder = tempfile.mkdtemp(prefix="readiness-ranks-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return str(Path(folder, "store")), []


def _threads(ranks: int) -> int:
    """Each rank's share of the cores; one where this process has threads already, as their pool is lost in a fork."""
    if psutil.Process().num_threads() > 1:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)
