"""How a worker ended: in words, and as evidence."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from readiness import memory
from readiness.assessment import measurement_from_json
from readiness.model import Evidence, Measurement, Row, Status
from readiness.plain_json import plain
from readiness.plan import Job
from readiness.processes import Worker
from readiness.worker import with_unit

#: The second try of a check that ran into its limit gets this many times the limit: a cold compile is not a hang.
SECOND_TRY = 3.0
_LONGEST_NOTE = 200


def evidence_of(worker: Worker, job: Job, attempt: int) -> Evidence:
    """What a worker that has ended says about its accelerator."""
    status, reason = _status(worker, attempt)
    measurements = tuple(measurement_from_json(value) for kind, value in worker.pieces if kind == "measurement")
    process: dict[str, Any] = {"exit_code": worker.exit_code, **worker.usage}
    if worker.exit_code is not None and worker.exit_code < 0 and worker.kill_sent is None:
        process["signal"] = signal_name(-worker.exit_code)
    return Evidence(
        check=job.check.id,
        status=status,
        reason=reason,
        seconds=worker.seconds,
        attempts=attempt,
        measurements=measurements,
        rows=tuple(value for kind, value in worker.pieces if kind == "row"),
        settings=job.settings,
        environment=(worker.end or {}).get("environment", {}),
        process=process,
        accelerators=tuple(facts.id for facts in job.accelerators),
        log=worker.log_tail(),
    )


def unless_cut_short(evidence: Evidence, worker: Worker, job: Job) -> Evidence:
    """The same, where it was given the time that its check may take; with less of it, a sound device ends late as well.

    A process that cannot be killed (no exit code) is in a driver's hands, whatever time it had.
    """
    may_take_s = job.limit_s * (SECOND_TRY if evidence.attempts > 1 else 1)
    if evidence.status is not Status.TIMEOUT or worker.limit_s >= may_take_s or worker.exit_code is None:
        return evidence
    reason = f"--timeout grants it less than the {may_take_s:g} s that it may take: {evidence.reason}"
    return replace(evidence, status=Status.SKIPPED, reason=reason)


def recounted(evidence: Evidence, job: Job, kept: Path) -> Evidence:
    """The same with what the check had found before it was cut off, where it kept that and has not told it itself."""
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
        return replace(evidence, reason=f"{evidence.reason}; what it kept cannot be read: {problem}")
    return replace(evidence, measurements=tuple(measurements), rows=tuple(rows))


def _status(worker: Worker, attempt: int) -> tuple[Status, str | None]:
    # The request for its stack interrupts system calls: what a check says after its time limit is no evidence.
    if worker.end is not None and not worker.timed_out:
        return Status(worker.end["status"]), worker.end["reason"]
    if worker.timed_out and worker.ready is not None:
        tries = f" (a first try had {worker.limit_s / SECOND_TRY:g} s)" if attempt > 1 else ""
        # What the kill met is said too: a process that a driver holds is worse than a slow one.
        held = f"; {worker.killed}" if worker.exit_code is None and worker.killed else ""
        return Status.TIMEOUT, f"no end within {worker.limit_s:g} s{tries}{held}{_last_note(worker)}"
    if worker.timed_out:
        return Status.ERROR, "its process was not ready to begin in time"
    if worker.killed is not None or ran_out_of_memory(worker):
        return Status.ERROR, describe_end(worker)
    return Status.CRASHED, describe_end(worker) + _last_note(worker)


def _last_note(worker: Worker) -> str:
    """What it said last that it was doing: the operator or the step that hung or crashed is not far from it."""
    note = " ".join(worker.note.split())[:_LONGEST_NOTE]
    return f"; its last note was: {note}" if note else ""


def describe_end(worker: Worker) -> str:
    """How a worker that did not deliver its evidence ended, in words."""
    if worker.killed is not None:
        return worker.killed
    code = worker.exit_code
    if code is None:
        return "its process was lost"
    if code >= 0:
        return f"its process left with exit code {code} before it had delivered its evidence"
    name = signal_name(-code)
    if killed_by_kernel(worker):
        return f"out of memory: the kernel killed it ({name})"
    return f"its process died by {name}"


def signal_name(number: int) -> str:
    """`SIGSEGV`; real-time signals have no name: `signal 40`."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def killed_by_kernel(worker: Worker) -> bool:
    """Whether the kernel's out-of-memory killer took it: SIGKILL, not ours, and the kernel's count has moved."""
    ours = worker.kill_sent is not None
    return worker.exit_code == -signal.SIGKILL and not ours and memory.kernel_kills() > worker.kernel_kills_before


def ran_out_of_memory(worker: Worker) -> bool:
    """Whether it ended for want of host memory, by our hand or the kernel's."""
    return (worker.killed or "").startswith("out of memory") or killed_by_kernel(worker)
