"""Runs a function on every rank of a new group. Every wait has a deadline, and a failure is a return value."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.distributed.failure_snapshot import collect
from readiness.distributed.launcher import rank_group
from readiness.distributed.rank_monitor import TICK_S, RankMonitor
from readiness.distributed.start_limits import PROCESSES_S
from readiness.distributed.types import Failure, FailureKind, Network, Placement, RankFunction, RanksOutcome
from readiness.host import disk
from readiness.host.memory import kernel_kills

#: How long the others may still report what they saw, once one rank has failed; and how long the cause may take to show
#: itself where ranks have only lost connections: a process that is ending closes its sockets before it is gone.
GRACE_S, CAUSE_S = 0.5, 5.0
#: How long ranks may take to leave a group in which all work is done.
LEAVE_S = 15.0


def run_ranks(
    function: RankFunction,
    accelerator: Accelerator,
    placement: Placement,
    settings: object = None,
    *,
    patience_s: float = 30.0,
    limit_s: float = 300.0,
    start_s: float = PROCESSES_S,
    network: Network | None = None,
    on_report: Callable[[int, Any], object] | None = None,
) -> RanksOutcome:
    """Run a function on every rank of a new group and return the reports. `settings` are passed in the rank context.

    The group has failed when a rank ends, raises or is stopped, when nothing moves for `patience_s` (counted in steps
    and reports), or when it takes longer than `limit_s`; `start_s` is for the processes to come up. Time in which this
    process was paused counts for none of them. A stack may take long to connect its devices, which it does in whichever
    call is the first of its kind: so much is added to `patience_s` and to the time for leaving the group, and three times
    that to `limit_s`.
    `network` places ranks on several hosts. `on_report` is handed each rank's reports as they come, which are then not kept:
    a group that lasts for days has many. Raises MemoryError when the kernel killed a rank for want of memory: that says
    nothing about the device. Raises OSError where no process can be started, and where a disk was too full for the ranks.
    """
    killed_for_memory = kernel_kills()
    connect_timeout_s = accelerator.stack.connect_timeout_s
    limits = _Limits(patience_s + connect_timeout_s, limit_s + 3 * connect_timeout_s, start_s, LEAVE_S + connect_timeout_s)
    # Longer than our own patience: a hang is to be seen here, where the rank that is missing can be named.
    timeout_s = 2 * limits.patience_s + 30
    with rank_group(function, accelerator, placement, settings, timeout_s=timeout_s, network=network) as group:
        outcome = _outcome(RankMonitor(group, on_report), limits)
    failure = outcome.failure
    starved = kernel_kills() > killed_for_memory or any(process.starved for process in group.processes)
    if failure is not None and failure.kind is FailureKind.DIED and starved:
        raise MemoryError(f"the kernel killed processes for lack of memory while the ranks ran: {failure.reason}")
    if failure is not None:
        raise_if_disk_full(failure, accelerator)
    return outcome


def raise_if_disk_full(failure: Failure, accelerator: Accelerator) -> None:
    """Raise OSError if a group failed because a disk was full: no rank is to blame for that."""
    if disk.mentions_full_disk(failure.log):
        raise disk.full_error(failure.reason)
    disk.raise_if_full(failure.reason, () if accelerator.shared is None else (accelerator.shared,))


@dataclass(frozen=True, slots=True)
class _Limits:
    """Time limits in seconds: without progress, in total, to start the processes, and to leave the group."""

    patience_s: float
    limit_s: float
    start_s: float
    leave_s: float


def _outcome(monitor: RankMonitor, limits: _Limits) -> RanksOutcome:
    """Watch until all ranks have finished or one has failed, then end them."""
    started = time.monotonic()
    failure = _watch(monitor, limits) or _end_ranks(monitor, limits.leave_s)
    if failure is not None:
        culprits = failure.culprits or [process.rank for process in monitor.processes]
        log = monitor.logs(culprits, 2000 // len(culprits))
        failure = replace(failure, after_s=round(time.monotonic() - started, 2), log=log)
        for process in monitor.processes:
            if text := process.log_tail(4000):
                print(f"--- what rank {process.rank} printed ---\n{text}", file=sys.stderr)
    reports = tuple(tuple(process.collected) for process in monitor.processes)
    return RanksOutcome(reports, failure, time.monotonic() - started)


def _watch(monitor: RankMonitor, limits: _Limits) -> Failure | None:
    """Watch until all ranks have finished their function; return the failure if one does not."""
    failed_at: float | None = None
    while True:
        monitor.tick()
        if monitor.all_finished:
            return None
        if monitor.any_failed:
            failed_at = monitor.now if failed_at is None else failed_at
            grace_s = GRACE_S if monitor.cause_known else CAUSE_S
            if monitor.now - failed_at > grace_s or monitor.all_ended:
                return _end(monitor, stalled=False)
        elif monitor.any_frozen():
            return _end(monitor, stalled=False)
        elif monitor.idle_s > (limits.patience_s if monitor.all_ready else limits.start_s):
            return _end(monitor, stalled=True)
        elif monitor.now > limits.limit_s:
            failure = _end(monitor, stalled=True)
            reason = f"not finished after {limits.limit_s:g} s"
            return replace(failure, kind=FailureKind.OVERDUE, culprits=(), reason=reason)


def _end_ranks(monitor: RankMonitor, leave_s: float) -> Failure | None:
    """Let all finished ranks leave the group, which may hang or crash as well; return the failure if it does."""
    for process in monitor.processes:
        process.request_leave()
    deadline = monitor.now + leave_s
    while monitor.now < deadline and not monitor.all_ended:
        monitor.tick(TICK_S / 20)
    wrong = [process for process in monitor.processes if process.handle.poll() != 0]
    if not wrong:
        return None
    codes = ", ".join(f"rank {process.rank}: {process.handle.poll()}" for process in wrong)
    collect(monitor.processes)
    monitor.kill()
    reason = f"all work was done, but ranks did not leave the group (exit codes, None for running ranks): {codes}"
    return Failure(FailureKind.LINGERED, tuple(process.rank for process in wrong), reason, "leaving the group")


def _end(monitor: RankMonitor, *, stalled: bool) -> Failure:
    """Find out why the group failed, then kill all ranks."""
    failure = monitor.attribute(monitor.examine(), stalled=stalled)
    left = monitor.kill()
    return replace(failure, reason=f"{failure.reason}; {left}") if left else failure
