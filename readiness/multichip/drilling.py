"""The parent's side of a drill: a world in which one rank fails on purpose, watched until the others have got away or not.

Two watchdogs are told apart: what the stack notices by itself (an error on the others, or the end of their processes),
and what is seen from outside (marks, states, last calls), which needs nothing of the stack.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.memory import kernel_kills
from readiness.multichip import drilled
from readiness.multichip.drills import Drill
from readiness.ranks.blame import RankSnapshot
from readiness.ranks.launch import PROCESSES_S, rank_group
from readiness.ranks.members import RankProcess
from readiness.ranks.rank_monitor import RankMonitor
from readiness.ranks.values import Failure, Json, Network, Placement, Trouble

_TICK_S = 0.02
#: When connections are looked at after a fault, in timeouts: late enough for silence to be one, before anybody gives up.
_LOOK_AT = 0.75


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one rank: what it told, in order, and how its process ended by itself (None where we ended it).

    `ended_at` is the moment; `words` all that the stack said to it, in errors and in what it printed.
    """

    reports: tuple[Json, ...]
    exit_code: int | None
    ended_at: float | None
    words: str

    def first(self, key: str) -> Any:
        """The first that it told under this name; None where it told nothing such."""
        return next((report[key] for report in self.reports if key in report), None)

    @property
    def noticed_at(self) -> float | None:
        """When the stack let this rank know: by an error, or by ending its process."""
        if (moment := self.first("noticed")) is not None:
            return float(moment)
        return self.ended_at if self.exit_code else None

    @property
    def wrong(self) -> int:
        """How many elements it was handed as right results and were not."""
        return sum(report["returned"] for report in self.reports if "returned" in report)


@dataclass(frozen=True, slots=True)
class Held:
    """A drill that was held: who failed, when, what came of each rank, and what the watch from outside makes of it.

    `broken` is why it could not be held: the world failed by itself, before the fault.
    """

    drill: Drill
    culprit: int
    fault_at: float
    told: tuple[Told, ...]
    failure: Failure | None
    broken: Failure | None = None

    @property
    def others(self) -> dict[int, Told]:
        """All ranks but the one that failed."""
        return {rank: told for rank, told in enumerate(self.told) if rank != self.culprit}


def hold(
    drill: Drill,
    accelerator: Accelerator,
    placement: Placement,
    settings: Mapping[str, Any],
    *,
    patience_s: float,
    start_s: float,
    network: Network | None = None,
) -> Held:
    """Hold a drill. `settings` are those of `drilled.rank_main`, without the drill itself.

    On its way to the fault the world may stand still for `start_s`, and longer while processes start and devices are
    connected; then it is over when for `patience_s` nothing has moved. Raises MemoryError when the kernel killed for want
    of memory before the fault, OSError where no process can be started.
    """
    killed_for_memory = kernel_kills()
    told = {**settings, "fault": drill.fault.value, "guard": drill.guard.value}
    start_s += accelerator.stack.connects_s
    with rank_group(
        drilled.rank_main, accelerator, placement, told, timeout_s=start_s + patience_s, network=network,
        short_watchdog_dumps=True,
    ) as world:  # fmt: skip
        held = _Watch(drill, RankMonitor(world), told["culprit"], told["timeout_s"], patience_s, start_s).held()
    if held.broken is not None and held.broken.trouble is Trouble.DIED and kernel_kills() > killed_for_memory:
        raise MemoryError(f"the kernel killed for want of memory while the ranks ran: {held.broken.reason}")
    return held


@dataclass(slots=True)
class _Watch:
    drill: Drill
    monitor: RankMonitor
    culprit: int
    timeout_s: float
    patience_s: float
    start_s: float

    @property
    def processes(self) -> Sequence[RankProcess]:
        return self.monitor.processes

    def held(self) -> Held:
        monitor = self.monitor
        while (fault_at := self._fault()) is None:
            monitor.tick(_TICK_S)
            late = monitor.idle_s > (self.start_s if monitor.all_ready else max(self.start_s, PROCESSES_S))
            if self._fault() is None and (monitor.any_failed or late):
                return self._broken()
        look_at = fault_at + _LOOK_AT * self.timeout_s
        monitor.count_from(fault_at)
        while monitor.idle_s < self.patience_s and not all(map(self._is_over, self.processes)):
            monitor.tick(_TICK_S)
            if time.monotonic() > look_at:  # later, libraries may have given up and closed what they had
                look_at = float("inf")
                for process in self.processes:
                    if process.rank not in monitor.ended_at:
                        process.ask_for_tcp_report()
            for process in self.processes:
                if process.finished:
                    process.ask_to_leave()
                    process.finished = False  # asked once
        monitor.tick(0.0)  # who ended since then
        return self._done(fault_at)

    def _done(self, fault_at: float) -> Held:
        monitor, ended_at = self.monitor, dict(self.monitor.ended_at)
        snapshots = monitor.examine()
        told = []
        for process in self.processes:
            reports = tuple(process.collected)
            words = " ".join(report["words"] for report in reports if "words" in report)
            code = process.handle.poll() if process.rank in ended_at else None
            if code:
                words = f"{words} {process.error or ''} {process.log_tail(4000)}"
            told.append(Told(reports, code, ended_at.get(process.rank), words.strip()))
        failure = None if self.drill.harmless else self._blamed(snapshots)
        held = Held(self.drill, self.culprit, fault_at, tuple(told), failure)
        if left := monitor.kill():
            return replace(held, broken=Failure(Trouble.LINGERED, (), left, None))
        return held

    def _blamed(self, snapshots: Sequence[RankSnapshot]) -> Failure:
        """Who fails, from outside: with the errors that ranks told and did not die of, and the last call of each."""
        errors = {one.rank: report["words"] for one in self.processes for report in one.collected if "words" in report}
        calls = {one.rank: one.call for one in snapshots if one.call is not None}
        for process in self.processes:
            if call := next((report["call"] for report in process.collected if report.get("call")), None):
                calls[process.rank] = call
        if self.drill.of_the_call and len(calls) < len(snapshots):  # a library ended a process, whose recorder went with it
            calls = {one.rank: drilled.on_board(one.mark) for one in snapshots}
        known = [replace(one, error=one.error or errors.get(one.rank), call=calls.get(one.rank)) for one in snapshots]
        stalled = not any(one.error or one.exit_code is not None for one in known)
        return self.monitor.attribute(known, stalled=stalled)

    def _broken(self) -> Held:
        time.sleep(0.3)  # the others may still tell what they saw
        for process in self.processes:
            process.drain()
        failure = self._blamed(self.monitor.examine())
        log = self.monitor.logs(failure.culprits, 1000)
        self.monitor.kill()
        failure = replace(failure, log=log, after_s=round(self.monitor.now, 2))
        return Held(self.drill, self.culprit, 0.0, (), None, failure)

    def _fault(self) -> float | None:
        reports = self.processes[self.culprit].collected
        return next((float(report["fault"]) for report in reports if "fault" in report), None)

    def _is_over(self, process: RankProcess) -> bool:
        """Whether nothing more is to come of a rank: it has ended, or it is the one whose part is to be gone."""
        return process.rank in self.monitor.ended_at or (process.rank == self.culprit and self.drill.loses_a_rank)
