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
from readiness.ranks.blame import RankSnapshot, attribute_fault
from readiness.ranks.evidence import collect, dead_links, snapshot
from readiness.ranks.launch import KILL_S, PROCESSES_S, RankGroup, rank_group
from readiness.ranks.members import RankProcess, kill_and_reap, read_reports
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
        held = _Watch(drill, world, told["culprit"], told["timeout_s"], patience_s, start_s).held()
    if held.broken is not None and held.broken.trouble is Trouble.DIED and kernel_kills() > killed_for_memory:
        raise MemoryError(f"the kernel killed for want of memory while the ranks ran: {held.broken.reason}")
    return held


@dataclass(slots=True)
class _Watch:
    drill: Drill
    world: RankGroup
    culprit: int
    timeout_s: float
    patience_s: float
    start_s: float

    @property
    def members(self) -> Sequence[RankProcess]:
        return self.world.processes

    def held(self) -> Held:
        started = moved = time.monotonic()
        marks = self.world.board.marks()
        fault_at = self._fault()
        while fault_at is None:
            news, before, marks = read_reports(self.members, _TICK_S), marks, self.world.board.marks()
            if news or marks != before:
                moved = time.monotonic()
            ready = all(member.ready for member in self.members)
            late = time.monotonic() - moved > (self.start_s if ready else max(self.start_s, PROCESSES_S))
            failed = [member for member in self.members if member.error or member.handle.poll() is not None]
            fault_at = self._fault()
            if fault_at is None and (failed or late):
                return self._broken(time.monotonic() - started)
        ended: dict[int, float] = {}
        look_at = fault_at + _LOOK_AT * self.timeout_s
        moved, marks = fault_at, self.world.board.marks()
        while time.monotonic() - moved < self.patience_s and not all(self._is_over(member) for member in self.members):
            news, before, marks = read_reports(self.members, _TICK_S), marks, self.world.board.marks()
            if news or marks != before:
                moved = max(moved, time.monotonic())
            if time.monotonic() > look_at:  # later, libraries may have given up and closed what they had
                look_at = float("inf")
                for member in self.members:
                    if member.handle.poll() is None:
                        member.ask_for_tcp_report()
            for member in self.members:
                if member.finished:
                    member.ask_to_leave()
                    member.finished = False  # told once
            moved = max([moved, *self._ended(ended)])
        self._ended(ended)  # who ended since then
        return self._done(fault_at, ended)

    def _ended(self, ended: dict[int, float]) -> list[float]:
        """Note whose process has ended by itself, and when; the moments of those that are new."""
        new = [member for member in self.members if member.rank not in ended and member.handle.poll() is not None]
        for member in new:
            member.drain()
            ended[member.rank] = time.monotonic()
        return [ended[member.rank] for member in new]

    def _done(self, fault_at: float, ended: Mapping[int, float]) -> Held:
        seen = snapshot(self.members, self.world.board)
        calls = dict(collect(self.members))
        told = []
        for member in self.members:
            reports = tuple(member.collected)
            if call := next((report["call"] for report in reports if report.get("call")), None):
                calls[member.rank] = call
            words = " ".join(report["words"] for report in reports if "words" in report)
            code = member.handle.poll() if member.rank in ended else None
            if code:
                words = f"{words} {member.error or ''} {member.log_tail(4000)}"
            told.append(Told(reports, code, ended.get(member.rank), words.strip()))
        failure = None if self.drill.harmless else self._blamed(seen, calls, self.patience_s)
        held = Held(self.drill, self.culprit, fault_at, tuple(told), failure)
        if unkillable := kill_and_reap(self.members, KILL_S):
            reason = f"these processes cannot be killed: {', '.join(unkillable)}"
            return replace(held, broken=Failure(Trouble.LINGERED, (), reason, None))
        return held

    def _blamed(self, seen: Sequence[RankSnapshot], calls: Mapping[int, Json], waited_s: float) -> Failure:
        """Who fails, from outside: with the errors that ranks told and did not die of, and the last call of each."""
        errors = {
            member.rank: report["words"] for member in self.members for report in member.collected if "words" in report
        }
        if self.drill.of_the_call and len(calls) < len(seen):  # a library ended a process, whose recorder went with it
            calls = {one.rank: drilled.on_board(one.mark) for one in seen}
        known = [replace(one, error=one.error or errors.get(one.rank), call=calls.get(one.rank)) for one in seen]
        stalled = not any(one.error or one.exit_code is not None for one in known)
        return attribute_fault(known, stalled=stalled, waited_s=waited_s, dead_links=dead_links(self.members))

    def _broken(self, waited_s: float) -> Held:
        time.sleep(0.3)  # the others may still tell what they saw
        for member in self.members:
            member.drain()
        seen = snapshot(self.members, self.world.board)
        calls = collect(self.members)
        failure = self._blamed(seen, calls, waited_s)
        log = "\n".join(f"rank {m.rank}: {m.log_tail(1000)}" for m in self.members if m.rank in failure.culprits)
        kill_and_reap(self.members, KILL_S)
        return Held(self.drill, self.culprit, 0.0, (), None, replace(failure, log=log, after_s=round(waited_s, 2)))

    def _fault(self) -> float | None:
        reports = self.members[self.culprit].collected
        return next((float(report["fault"]) for report in reports if "fault" in report), None)

    def _is_over(self, member: RankProcess) -> bool:
        """Whether nothing more is to come of a rank: it has ended, or it is the one whose part is to be gone."""
        if member.handle.poll() is not None:
            member.drain()
            return True
        return member.rank == self.culprit and self.drill.loses_a_rank
