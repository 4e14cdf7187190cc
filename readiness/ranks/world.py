"""A world of ranks from its start to its end: every wait has a deadline, and what comes of it is a value."""

from __future__ import annotations

import selectors
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.memory import kernel_kills
from readiness.ranks.blame import attribute_fault
from readiness.ranks.board import Mark, StatusBoard
from readiness.ranks.evidence import collect, dead_links, snapshot
from readiness.ranks.launch import KILL_S, PROCESSES_S, rank_group
from readiness.ranks.members import RankProcess, kill_and_reap
from readiness.ranks.values import Failure, Json, Network, Placement, RankFunction, RanksOutcome, Trouble

#: How long the others may still tell what they saw, once one rank has failed.
GRACE_S = 0.5
#: A rank whose process is stopped for so long counts as frozen.
FROZEN_S = 1.5
#: How long ranks may take to leave a group in which all work is done.
LEAVE_S = 15.0
_TICK_S = 0.1


def run_ranks(
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
) -> RanksOutcome:
    """Run a function on every rank of a new world and gather what it yields.

    The world has failed when a rank ends, raises or is stopped, when nothing moves for `patience_s` (counted in steps
    and reports), or when it takes longer than `limit_s`; `start_s` is for the processes to come up. Where a stack may take
    long to connect its devices, which it does in whichever call is the first of its kind, so much patience is added, with
    their leave of each other as well, and three times that to the limit.
    `network` places ranks on several hosts. `listen` is handed each rank's reports as they come, which are then not kept:
    a world that lasts for days has many. Raises MemoryError when the kernel killed a rank for want of memory: that tells
    nothing about the device. Raises OSError where no process can be started.
    """
    killed_for_memory = kernel_kills()
    patience_s, limit_s = patience_s + accelerator.stack.connects_s, limit_s + 3 * accelerator.stack.connects_s
    leave_s = LEAVE_S + accelerator.stack.connects_s
    # Longer than our own patience: a hang is to be seen here, where the rank that is missing can be named.
    timeout_s = 2 * patience_s + 30
    with rank_group(function, accelerator, placement, settings, timeout_s=timeout_s, network=network) as group:
        outcome = _Watch(group.processes, group.board, patience_s, limit_s, start_s, leave_s, listen).outcome()
    failure = outcome.failure
    starved = kernel_kills() > killed_for_memory or any(process.starved for process in group.processes)
    if failure is not None and failure.trouble is Trouble.DIED and starved:
        raise MemoryError(f"the kernel killed for want of memory while the ranks ran: {failure.reason}")
    return outcome


@dataclass(slots=True)
class _Watch:
    processes: Sequence[RankProcess]
    board: StatusBoard
    patience_s: float
    limit_s: float
    start_s: float
    leave_s: float
    listen: Callable[[int, Json], object] | None = None

    def outcome(self) -> RanksOutcome:
        """Watch until all have finished or one has failed; end them; tell."""
        started = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for process in self.processes:
                selector.register(process.reports, selectors.EVENT_READ, process)
            failure = self._watch(selector, started) or self._dismiss(selector)
        if failure is not None:
            culprits = [process for process in self.processes if process.rank in failure.culprits] or self.processes
            log = "\n".join(f"rank {process.rank}: {process.log_tail(2000 // len(culprits))}" for process in culprits)
            failure = replace(failure, after_s=round(time.monotonic() - started, 2), log=log)
            self._tell()
        reports = tuple(tuple(process.collected) for process in self.processes)
        return RanksOutcome(reports, failure, time.monotonic() - started)

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
            if all(process.finished for process in self.processes):
                return None
            if any(self._has_failed(process) for process in self.processes):
                failed_at = failed_at or now
                if now - failed_at > GRACE_S or all(self._has_ended(process) for process in self.processes):
                    return self._end(stalled=False, waited_s=now - moved)
            elif self._is_frozen(now):
                return self._end(stalled=False, waited_s=now - moved)
            elif now - moved > (self.patience_s if all(process.ready for process in self.processes) else self.start_s):
                return self._end(stalled=True, waited_s=now - moved)
            elif now - started > self.limit_s:
                failure = self._end(stalled=True, waited_s=now - moved)
                reason = f"not done after {self.limit_s:g} s"
                return replace(failure, trouble=Trouble.OVERDUE, culprits=(), reason=reason)

    def _dismiss(self, selector: selectors.BaseSelector) -> Failure | None:
        """All work is done: let the ranks leave the group, which may hang or crash as well."""
        for process in self.processes:
            process.ask_to_leave()
        deadline = time.monotonic() + self.leave_s
        while time.monotonic() < deadline:
            self._listen(selector, _TICK_S / 20)
            if all(process.handle.poll() is not None for process in self.processes):
                break
        wrong = [process for process in self.processes if process.handle.poll() != 0]
        if not wrong:
            return None
        codes = ", ".join(f"rank {process.rank}: {process.handle.poll()}" for process in wrong)
        collect(self.processes)
        kill_and_reap(self.processes, KILL_S)
        reason = f"all work was done, but ranks did not leave the group (exit codes, None where still there): {codes}"
        return Failure(Trouble.LINGERED, tuple(process.rank for process in wrong), reason, "leaving the group")

    def _listen(self, selector: selectors.BaseSelector, tick_s: float = _TICK_S) -> bool:
        """Wait for reports, one tick at most. Whether there were any."""
        if not selector.get_map():
            time.sleep(tick_s)
        news = False
        for key, _ in selector.select(tick_s) if selector.get_map() else ():
            process: RankProcess = key.data
            news |= process.read()
            self._hand_on(process)
            if not process.open:
                selector.unregister(key.fileobj)
        return news

    def _has_ended(self, process: RankProcess) -> bool:
        if process.handle.poll() is None:
            return False
        process.drain()
        self._hand_on(process)
        return True

    def _hand_on(self, process: RankProcess) -> None:
        while self.listen is not None and process.collected:
            self.listen(process.rank, process.collected.pop(0))

    def _has_failed(self, process: RankProcess) -> bool:
        return self._has_ended(process) or process.error is not None

    def _is_frozen(self, now: float) -> bool:
        frozen = False
        for process in self.processes:
            if process.state() not in ("stopped", "tracing-stop"):
                process.stopped_since = None
            elif process.stopped_since is None:
                process.stopped_since = now
            else:
                frozen |= now - process.stopped_since > FROZEN_S
        return frozen

    def _end(self, *, stalled: bool, waited_s: float) -> Failure:
        snapshots = snapshot(self.processes, self.board)
        calls = collect(self.processes)
        snapshots = [replace(one, call=calls.get(one.rank)) for one in snapshots]
        failure = attribute_fault(snapshots, stalled=stalled, waited_s=waited_s, dead_links=dead_links(self.processes))
        if unkillable := kill_and_reap(self.processes, KILL_S):
            return replace(failure, reason=f"{failure.reason}; these processes cannot be killed: {', '.join(unkillable)}")
        return failure

    def _tell(self) -> None:
        for process in self.processes:
            if text := process.log_tail(4000):
                print(f"--- what rank {process.rank} printed ---\n{text}", file=sys.stderr)
