"""Monitor of one injected rank fault: watches until the other ranks have stopped, or the time is up.

Two watchdogs are told apart: what the stack notices by itself (an error on the others, or the end of their processes),
and what is seen from outside (marks, states, last calls), which needs nothing of the stack.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from readiness.accelerators.base import Accelerator
from readiness.distributed.fault_attribution import RankSnapshot
from readiness.distributed.group_runner import CAUSE_S, GRACE_S, raise_if_disk_full
from readiness.distributed.launcher import rank_group
from readiness.distributed.rank_messages import Report
from readiness.distributed.rank_monitor import RankMonitor
from readiness.distributed.rank_process import RankProcess
from readiness.distributed.start_limits import PROCESSES_S
from readiness.distributed.types import Failure, FailureKind, Network, Placement
from readiness.host.memory import kernel_kills
from readiness.probes.rank_faults import rank as rank_faults_rank
from readiness.probes.rank_faults.faults import (
    CallReturned,
    ErrorRaised,
    FaultInjected,
    GroupUsable,
    LastCall,
    RankFault,
    Settings,
)

_TICK_S = 0.02
#: When connections are looked at after a fault, in timeouts: late enough for silence to be one, before a library gives up.
_LOOK_AT = 0.75
_ReportT = TypeVar("_ReportT", bound=Report)


@dataclass(frozen=True, slots=True)
class RankResponse:
    """Response of one rank: its reports in order, and how its process ended by itself (None if it did not).

    `ended_at` is the time of that; `message` all that the stack let it know, in errors and in what it printed.
    """

    reports: tuple[Any, ...]
    exit_code: int | None
    ended_at: float | None
    message: str

    def first(self, kind: type[_ReportT]) -> _ReportT | None:
        """Return the first report of a type, or None."""
        return next((report for report in self.reports if isinstance(report, kind)), None)

    @property
    def noticed_at(self) -> float | None:
        """Time at which the stack notified this rank, by an error or by ending its process."""
        if (noticed := self.first(ErrorRaised)) is not None:
            return noticed.at
        return self.ended_at if self.exit_code else None

    @property
    def wrong(self) -> int:
        """Number of wrong elements in results without an error."""
        return sum(report.wrong for report in self.reports if isinstance(report, CallReturned))


@dataclass(frozen=True, slots=True)
class FaultOutcome:
    """Outcome of an injected fault: culprit, time, each rank's response, and the fault attribution from outside.

    `prevented` is why the fault could not be injected: the group failed by itself before.
    """

    rank_fault: RankFault
    culprit: int
    fault_at: float
    responses: tuple[RankResponse, ...]
    failure: Failure | None
    prevented: Failure | None = None

    @property
    def others(self) -> dict[int, RankResponse]:
        """Responses of all ranks except the culprit."""
        return {rank: response for rank, response in enumerate(self.responses) if rank != self.culprit}


def inject(
    accelerator: Accelerator,
    placement: Placement,
    settings: Settings,
    *,
    patience_s: float,
    start_s: float,
    network: Network | None = None,
) -> FaultOutcome:
    """Start a group, inject the fault of the settings, and watch how the other ranks respond.

    On its way to the fault the group may stand still for `start_s`, and longer while processes start and devices are
    connected; then it is over when for `patience_s` nothing has moved. Raises MemoryError when the kernel killed for want
    of memory before the fault, OSError where no process can be started or a disk was too full.
    """
    killed_for_memory = kernel_kills()
    start_s += accelerator.stack.connect_timeout_s
    with rank_group(
        rank_faults_rank.rank_main, accelerator, placement, settings, timeout_s=start_s + patience_s, network=network,
        short_watchdog_dumps=True,
    ) as group:  # fmt: skip
        outcome = _FaultMonitor(settings, RankMonitor(group), patience_s, start_s).outcome()
    prevented = outcome.prevented
    if prevented is not None and prevented.kind is FailureKind.DIED and kernel_kills() > killed_for_memory:
        raise MemoryError(f"the kernel killed processes for lack of memory while the ranks ran: {prevented.reason}")
    if prevented is not None:
        raise_if_disk_full(prevented, accelerator)
    return outcome


@dataclass(slots=True)
class _FaultMonitor:
    settings: Settings
    monitor: RankMonitor
    patience_s: float
    start_s: float

    @property
    def rank_fault(self) -> RankFault:
        return self.settings.rank_fault

    @property
    def processes(self) -> Sequence[RankProcess]:
        return self.monitor.processes

    def outcome(self) -> FaultOutcome:
        monitor = self.monitor
        while (fault_at := self._fault_at()) is None:
            monitor.tick(_TICK_S)
            late = monitor.idle_s > (self.start_s if monitor.all_ready else max(self.start_s, PROCESSES_S))
            if self._fault_at() is None and (monitor.any_failed or late):
                return self._prevented()
        look_at = fault_at + _LOOK_AT * self.settings.timeout_s
        monitor.count_from(fault_at)
        while monitor.idle_s < self.patience_s and not all(map(self._is_over, self.processes)):
            monitor.tick(_TICK_S)
            if time.monotonic() > look_at:  # later, libraries may have given up and closed what they had
                look_at = float("inf")
                for process in self.processes:
                    if process.rank not in monitor.ended_at:
                        process.request_tcp_report()
            for process in self.processes:
                if process.finished:
                    process.request_leave()
                    process.finished = False  # asked once
        monitor.tick(0.0)  # who ended since then
        return self._injected(fault_at)

    def _injected(self, fault_at: float) -> FaultOutcome:
        monitor, ended_at = self.monitor, dict(self.monitor.ended_at)
        snapshots = monitor.examine()
        responses = []
        for process in self.processes:
            message = " ".join(_reported_errors(process))
            code = process.handle.poll() if process.rank in ended_at else None
            if code:
                message = f"{message} {process.error or ''} {process.log_tail(4000)}"
            ended = ended_at.get(process.rank)
            responses.append(RankResponse(tuple(process.collected), code, ended, message.strip()))
        failure = None if self.rank_fault.harmless else self._attribute(snapshots)
        outcome = FaultOutcome(self.rank_fault, self.settings.culprit, fault_at, tuple(responses), failure)
        if left := monitor.kill():
            return replace(outcome, prevented=Failure(FailureKind.LINGERED, (), left, None))
        return outcome

    def _attribute(self, snapshots: Sequence[RankSnapshot]) -> Failure:
        """Attribute the fault from outside, with the errors and last calls that ranks reported."""
        errors = {process.rank: reported[-1] for process in self.processes if (reported := _reported_errors(process))}
        calls = {one.rank: one.call for one in snapshots if one.call is not None}
        for process in self.processes:
            for report in process.collected:
                if isinstance(report, LastCall) and report.call:
                    calls[process.rank] = report.call
        if self.rank_fault.is_mismatch and len(calls) < len(snapshots):  # a library ended a process, and its recorder
            calls = {one.rank: rank_faults_rank.call_on_board(one.mark) for one in snapshots}
        known = [replace(one, error=one.error or errors.get(one.rank), call=calls.get(one.rank)) for one in snapshots]
        stalled = not any(one.error or one.exit_code is not None for one in known)
        return self.monitor.attribute(known, stalled=stalled)

    def _prevented(self) -> FaultOutcome:
        failed_at = self.monitor.now
        while self.monitor.any_failed and not self.monitor.all_ended:  # the others may still report what they saw
            if self.monitor.now - failed_at > (GRACE_S if self.monitor.cause_known else CAUSE_S):
                break
            self.monitor.tick(_TICK_S)
        failure = self._attribute(self.monitor.examine())
        log = self.monitor.logs(failure.culprits, 1000)
        self.monitor.kill()
        failure = replace(failure, log=log, after_s=round(self.monitor.now, 2))
        return FaultOutcome(self.rank_fault, self.settings.culprit, 0.0, (), None, failure)

    def _fault_at(self) -> float | None:
        reports = self.processes[self.settings.culprit].collected
        return next((report.at for report in reports if isinstance(report, FaultInjected)), None)

    def _is_over(self, process: RankProcess) -> bool:
        """True if a rank will report nothing more: it has ended, or it is the culprit and takes no further part."""
        lost = process.rank == self.settings.culprit and self.rank_fault.loses_a_rank
        return process.rank in self.monitor.ended_at or lost


def _reported_errors(process: RankProcess) -> list[str]:
    """Return the errors that a rank has reported."""
    reports = (report for report in process.collected if isinstance(report, ErrorRaised | GroupUsable))
    return [report.message for report in reports if report.message]
