"""A world of ranks from its start to its end: every wait has a deadline, and what comes of it is a value."""

from __future__ import annotations

import selectors
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from readiness import disk
from readiness.accelerators.base import Accelerator
from readiness.memory import kernel_kills
from readiness.ranks.blame import blame
from readiness.ranks.board import Board, Mark
from readiness.ranks.evidence import dead_links, look, take
from readiness.ranks.launch import KILL_S, PROCESSES_S, launched
from readiness.ranks.members import Member, end
from readiness.ranks.values import Failure, Json, Network, Placement, RankFunction, Trouble, WorldOutcome

#: How long the others may still tell what they saw, once one rank has failed.
GRACE_S = 0.5
#: A rank whose process is stopped for so long counts as frozen.
FROZEN_S = 1.5
#: How long ranks may take to leave a group in which all work is done.
LEAVE_S = 15.0
_TICK_S = 0.1


def run_world(
    function: RankFunction,
    accelerator: Accelerator,
    placement: Placement,
    settings: Mapping[str, Any] | None = None,
    *,
    patience_s: float = 30.0,
    limit_s: float = 300.0,
    start_s: float = PROCESSES_S,
    network: Network | None = None,
    listen: Callable[[int, Json], object] | None = None,
) -> WorldOutcome:
    """Run a function on every rank of a new world and gather what it yields.

    The world has failed when a rank ends, raises or is stopped, when nothing moves for `patience_s` (counted in steps
    and reports), or when it takes longer than `limit_s`; `start_s` is for the processes to come up. Where a stack may take
    long to connect its devices, which it does in whichever call is the first of its kind, so much patience is added, with
    their leave of each other as well, and three times that to the limit.
    `network` places ranks on several hosts. `listen` is handed each rank's reports as they come, which are then not kept:
    a world that lasts for days has many. Raises MemoryError when the kernel killed a rank for want of memory: that tells
    nothing about the device. Raises OSError where no process can be started, and where a disk was too full for the ranks.
    """
    killed_for_memory = kernel_kills()
    patience_s, limit_s = patience_s + accelerator.stack.connects_s, limit_s + 3 * accelerator.stack.connects_s
    leave_s = LEAVE_S + accelerator.stack.connects_s
    # Longer than our own patience: a hang is to be seen here, where the rank that is missing can be named.
    timeout_s = 2 * patience_s + 30
    with launched(function, accelerator, placement, settings, timeout_s=timeout_s, network=network) as world:
        outcome = _Watch(world.members, world.board, patience_s, limit_s, start_s, leave_s, listen).outcome()
    failure = outcome.failure
    starved = kernel_kills() > killed_for_memory or any(member.starved for member in world.members)
    if failure is not None and failure.trouble is Trouble.DIED and starved:
        raise MemoryError(f"the kernel killed for want of memory while the ranks ran: {failure.reason}")
    if failure is not None:
        refuse_want_of_disk(failure, accelerator)
    return outcome


def refuse_want_of_disk(failure: Failure, accelerator: Accelerator) -> None:
    """Raises OSError where a world failed for want of disk, or while a disk was full: no rank is to blame for that."""
    if disk.says_want(failure.log):
        raise disk.want(failure.reason)
    disk.refuse(failure.reason, () if accelerator.shared is None else (accelerator.shared,))


@dataclass(slots=True)
class _Watch:
    members: Sequence[Member]
    board: Board
    patience_s: float
    limit_s: float
    start_s: float
    leave_s: float
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
            started += now - ticked if slept else 0.0
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
        deadline = time.monotonic() + self.leave_s
        while time.monotonic() < deadline:
            self._listen(selector, _TICK_S / 20)
            if all(member.process.poll() is not None for member in self.members):
                break
        wrong = [member for member in self.members if member.process.poll() != 0]
        if not wrong:
            return None
        codes = ", ".join(f"rank {member.rank}: {member.process.poll()}" for member in wrong)
        take(self.members)
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
        seen = look(self.members, self.board)
        calls = take(self.members)
        seen = [replace(one, call=calls.get(one.rank)) for one in seen]
        failure = blame(seen, stalled=stalled, waited_s=waited_s, dead_links=dead_links(self.members))
        if unkillable := end(self.members, KILL_S):
            return replace(failure, reason=f"{failure.reason}; these processes cannot be killed: {', '.join(unkillable)}")
        return failure

    def _tell(self) -> None:
        for member in self.members:
            if text := member.log_tail(4000):
                print(f"--- what rank {member.rank} printed ---\n{text}", file=sys.stderr)
