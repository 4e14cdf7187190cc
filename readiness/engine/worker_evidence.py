"""Evidence from a finished worker, and a description of how it ended."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from readiness.datamodel import AcceleratorFacts, Evidence, HostLoad, Measurement, Row, Status
from readiness.documents.strict_json import plain
from readiness.engine.plan import Job
from readiness.engine.worker import with_unit
from readiness.errors import Exit
from readiness.host import memory
from readiness.isolation.worker_process import Worker
from readiness.missing_evidence import OWN_FAULTS, KillCause, SkipCause

#: The second try of a check that ran into its limit gets this many times the limit: a cold compile is not a hang.
SECOND_TRY = 3.0
_LONGEST_NOTE = 200
#: The share of its time limit that a process must have waited for a processor, so that its timeout says nothing. What hangs
#: in a driver waits for none, and what spins there gets its share of one.
_STARVED = 0.75


def evidence_of(worker: Worker, job: Job, attempt: int) -> Evidence:
    """Return the evidence of a finished worker."""
    status, reason = _status(worker, attempt)
    void = worker.end is not None and worker.end.void
    process: dict[str, Any] = {"exit_code": worker.exit_code, **worker.usage}
    if worker.exit_code is not None and worker.exit_code < 0 and worker.kill_sent is None:
        process["signal"] = signal_name(-worker.exit_code)
    return Evidence(
        check=job.check.id,
        status=status,
        reason=reason,
        seconds=worker.seconds,
        attempts=attempt,
        measurements=() if void else tuple(worker.measurements),
        rows=tuple(row.cells for row in worker.rows),
        settings=job.settings,
        environment={} if worker.end is None else worker.end.environment,
        process=process,
        accelerators=tuple(facts.id for facts in job.accelerators),
        log=worker.log_tail,
        cause=_cause(worker, status),
        host_load=_host_load(worker),
    )


def _host_load(worker: Worker) -> HostLoad | None:
    shares, waited = worker.cpu_shares, None if worker.end is None else worker.end.waited
    if waited is None and worker.waited_s is not None and worker.seconds > 0:  # it ran into its limit
        waited = round(min(worker.waited_s / worker.seconds, 1.0), 4)
    if shares is None and waited is None:
        return None
    if shares is None:
        return HostLoad(waited=waited)
    return HostLoad(shares.others, shares.stolen, waited, shares.elsewhere, shares.peak)


def is_from_outside(worker: Worker) -> bool:
    """Return whether it was killed from outside: by a foreign signal, or with the forkserver."""
    code = worker.exit_code
    by_a_signal = worker.kill_sent is None and code is not None and code < 0 and -code not in OWN_FAULTS
    return worker.kill_cause is KillCause.FORKSERVER or by_a_signal


def discovered(worker: Worker) -> tuple[tuple[AcceleratorFacts, ...], str | None]:
    """Return the accelerators that a worker found, and the reason if they are unknown."""
    status, reason = _status(worker, 1)
    return (tuple(worker.accelerators), None) if status is Status.MEASURED else ((), reason)


def unless_cut_short(evidence: Evidence, worker: Worker, job: Job) -> Evidence:
    """Downgrade a timeout to skipped if `--timeout` was shorter than the check's own limit.

    A process that cannot be killed is in a driver's hands, whatever time it had.
    """
    may_take_s = job.limit_s * (SECOND_TRY if evidence.attempts > 1 else 1)
    if evidence.status is not Status.TIMEOUT or worker.limit_s >= may_take_s or worker.blocker is not None:
        return evidence
    reason = f"--timeout is shorter than its own time limit of {may_take_s:g} s: {evidence.reason}"
    return replace(evidence, status=Status.SKIPPED, reason=reason, cause=SkipCause.SHORT_LIMIT)


def unless_starved(evidence: Evidence, worker: Worker) -> Evidence:
    """Downgrade a timeout to skipped if the process waited for a processor nearly all the time: the host was too busy."""
    if evidence.status is not Status.TIMEOUT or worker.blocker is not None or worker.waited_s is None:
        return evidence
    if worker.waited_s < _STARVED * worker.limit_s:
        return evidence
    reason = f"the host is too busy: it waited {worker.waited_s:.0f} s for a processor; {evidence.reason}"
    return replace(evidence, status=Status.SKIPPED, reason=reason, cause=SkipCause.BUSY_HOST)


def recounted(evidence: Evidence, job: Job, kept: Path) -> Evidence:
    """Add the results that a check had saved before it was cut off and did not report."""
    if job.check.recount is None or evidence.status is Status.MEASURED or evidence.measurements or not kept.exists():
        return evidence
    measurements: list[Measurement] = []
    rows: list[Mapping[str, Any]] = []
    try:
        for item in job.check.recount(kept):
            if isinstance(item, Measurement):
                measurements.append(with_unit(item, job.check))
            elif isinstance(item, Row):
                rows.append(plain(item.cells))
    except Exception as problem:  # noqa: BLE001 - a check's own code: what cannot be recounted is not told
        return replace(evidence, reason=f"{evidence.reason}; what it had saved cannot be read: {problem}")
    return replace(evidence, measurements=tuple(measurements), rows=tuple(rows))


def _status(worker: Worker, attempt: int) -> tuple[Status, str | None]:
    """Return its status. `measured` counts only from a process that then exited by itself.

    What it said after its time limit, or after we had decided to end it, has not been taken.
    """
    if worker.timed_out and worker.ready is None:
        return Status.ERROR, "its process was not ready in time"
    if worker.timed_out and worker.full_disk is None:
        tries = f" (a first try had {worker.limit_s / SECOND_TRY:g} s)" if attempt > 1 else ""
        # The reason of the kill is reported too: a process that a driver holds is worse than a slow one.
        held = f"; {worker.killed}" if worker.blocker is not None else ""
        return Status.TIMEOUT, f"not finished within {worker.limit_s:g} s{tries}{held}{_last_note(worker)}"
    if worker.killed is not None or ran_out_of_memory(worker):
        return Status.ERROR, describe_end(worker)
    if worker.end is not None and (worker.exit_code == 0 or worker.end.status is not Status.MEASURED):
        return worker.end.status, worker.end.reason
    if is_own_fault(worker):
        return Status.CRASHED, describe_end(worker) + _last_note(worker)
    return Status.ERROR, describe_end(worker)


def _cause(worker: Worker, status: Status) -> KillCause | None:
    match status:
        case Status.TIMEOUT:
            return KillCause.TIME_LIMIT
        case Status.ERROR if killed_by_kernel(worker):
            return KillCause.MEMORY
        case Status.ERROR:
            return worker.kill_cause
        case _:
            return None


def is_own_fault(worker: Worker) -> bool:
    """Return whether a process without evidence ended by its own fault, not by its environment."""
    code = worker.exit_code
    if code is None or code == Exit.INTERNAL or worker.full_disk is not None:
        return False
    return code >= 0 or -code in OWN_FAULTS


def _last_note(worker: Worker) -> str:
    """Return its last progress note: it is near the operator or step that hung or crashed."""
    note = " ".join(worker.note.split())[:_LONGEST_NOTE]
    return f"; its last note was: {note}" if note else ""


def describe_end(worker: Worker) -> str:
    """Describe how a worker without evidence ended."""
    full = f"; {worker.full_disk} was full at that time" if worker.full_disk is not None else ""
    return _end_in_words(worker) + full


def _end_in_words(worker: Worker) -> str:
    if worker.killed is not None:
        return worker.killed
    code = worker.exit_code
    if code is None:
        return "its process was lost"
    if code == Exit.INTERNAL:
        return f"its process could not deliver its evidence (exit code {code})"
    when = "before delivering its evidence" if worker.end is None else "after delivering its evidence"
    if code >= 0:
        return f"its process exited with code {code} {when}"
    name = signal_name(-code)
    if killed_by_kernel(worker):
        return f"out of memory: the kernel killed it ({name})"
    if -code in OWN_FAULTS:
        return f"its process died by {name}" + (f" {when}" if worker.end is not None else "")
    return f"its process was killed from outside by {name}"


def signal_name(number: int) -> str:
    """Return `SIGSEGV`; real-time signals have no name: `signal 40`."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def killed_by_kernel(worker: Worker) -> bool:
    """Return whether the kernel's out-of-memory killer ended it: a foreign SIGKILL, and the kernel's count has risen."""
    killed_by_tool = worker.kill_sent is not None
    return worker.exit_code == -signal.SIGKILL and not killed_by_tool and memory.kernel_kills() > worker.kernel_kills_before


def ran_out_of_memory(worker: Worker) -> bool:
    """Return whether it was killed for lack of host memory, by readiness or the kernel."""
    return worker.kill_cause is KillCause.MEMORY or killed_by_kernel(worker)
