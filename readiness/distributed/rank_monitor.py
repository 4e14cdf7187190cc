"""Rank monitor: watches the processes of a rank group, on a clock that stands still while this process is paused."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from readiness.distributed.failure_snapshot import collect, dead_links, snapshot
from readiness.distributed.fault_attribution import RankSnapshot, attribute_fault, is_victim
from readiness.distributed.launcher import RankGroup
from readiness.distributed.rank_process import RankProcess, kill_and_reap, read_reports
from readiness.distributed.start_limits import KILL_S
from readiness.distributed.types import Failure
from readiness.distributed.watch_clock import WatchClock

#: How long a tick waits for reports.
TICK_S = 0.1
#: A rank whose process is stopped for so long counts as frozen.
FROZEN_S = 1.5


class RankMonitor:
    """Watches the ranks of one group: reads their reports, sees what moves and what ends, attributes faults, ends them.

    `now` is the time of watching in seconds (`WatchClock`). `ended_at` has the ranks whose processes have
    ended, with the moment on the system's monotonic clock at which that was seen. With `on_report`, reports are handed to
    it as they come, and not kept.
    """

    def __init__(self, group: RankGroup, on_report: Callable[[int, Any], object] | None = None) -> None:
        self.processes: Sequence[RankProcess] = group.processes
        self.board = group.board
        self.on_report = on_report
        self.ended_at: dict[int, float] = {}
        self._clock = WatchClock()
        self._moved_at = 0.0
        self._marks = self.board.marks()
        self._stopped_since: dict[int, float] = {}
        self._states_read_at = -math.inf

    def tick(self, wait_s: float = TICK_S) -> None:
        """Read reports, waiting at most `wait_s`, and notice progress and ended processes since the last tick."""
        news = read_reports(self.processes, wait_s)
        paused = self._clock.tick()
        marks, before = self.board.marks(), self._marks
        ended = self._notice_ends(self._clock.ticked_at)
        if news or ended or marks != before or paused:
            self._moved_at = max(self._moved_at, self.now)
        self._marks = marks
        self._hand_over()

    @property
    def now(self) -> float:
        """Time of watching in seconds, without pauses of this process."""
        return self._clock.now

    @property
    def idle_s(self) -> float:
        """Seconds without progress: no report, no mark on the status board, no ended process."""
        return self.now - self._moved_at

    def count_from(self, time_s: float) -> None:
        """Count idle time from this time of the monotonic clock at the earliest."""
        self._moved_at = max(self._moved_at, self.now + time_s - self._clock.ticked_at)

    @property
    def all_ready(self) -> bool:
        """True if every rank's process has started."""
        return all(process.ready for process in self.processes)

    @property
    def all_finished(self) -> bool:
        """True if every rank has finished its function, and all its reports are valid."""
        return all(process.finished and process.error is None for process in self.processes)

    @property
    def any_failed(self) -> bool:
        """True if a rank has raised or its process has ended."""
        return bool(self.ended_at) or any(process.error is not None for process in self.processes)

    @property
    def cause_known(self) -> bool:
        """True if a rank has raised more than that it lost others, or its process has ended without a word."""
        return any(
            process.rank in self.ended_at if process.error is None else not is_victim(process.error)
            for process in self.processes
        )

    @property
    def all_ended(self) -> bool:
        """True if every rank's process has ended."""
        return len(self.ended_at) == len(self.processes)

    def any_frozen(self) -> bool:
        """True if a rank's process has been stopped for longer than `FROZEN_S`."""
        if self.now - self._states_read_at >= TICK_S / 2:  # ranks that report hundreds of times a second make as many ticks
            self._states_read_at = self.now
            stopped = {process.rank for process in self.processes if process.state() in ("stopped", "tracing-stop")}
            self._stopped_since = {rank: self._stopped_since.get(rank, self.now) for rank in stopped}
        return any(self.now - since > FROZEN_S for since in self._stopped_since.values())

    def examine(self) -> list[RankSnapshot]:
        """Return a snapshot of every rank with its last call, and let them write their stacks into their logs."""
        snapshots = snapshot(self.processes, self.board)
        calls = collect(self.processes)
        return [replace(one, call=calls.get(one.rank)) for one in snapshots]

    def attribute(self, snapshots: Sequence[RankSnapshot], *, stalled: bool) -> Failure:
        """Return why the group failed and who is to blame, given what `examine` found."""
        return attribute_fault(snapshots, stalled=stalled, waited_s=self.idle_s, dead_links=dead_links(self.processes))

    def kill(self) -> str:
        """Kill and reap all ranks; return a text about processes that could not be killed, empty if there are none."""
        left = kill_and_reap(self.processes, KILL_S)
        return f"these processes cannot be killed: {', '.join(left)}" if left else ""

    def logs(self, ranks: Collection[int], characters: int) -> str:
        """Return the ends of the output of these ranks."""
        chosen = [process for process in self.processes if process.rank in ranks]
        return "\n".join(f"rank {process.rank}: {process.log_tail(characters)}" for process in chosen)

    def _notice_ends(self, time_s: float) -> bool:
        new = [one for one in self.processes if one.rank not in self.ended_at and one.handle.poll() is not None]
        for process in new:
            process.read_rest()
            self.ended_at[process.rank] = time_s
        return bool(new)

    def _hand_over(self) -> None:
        if self.on_report is None:
            return
        for process in self.processes:
            while process.collected:
                self.on_report(process.rank, process.collected.pop(0))
