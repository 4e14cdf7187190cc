"""Executor: runs every task of a rehearsal in a process of its own, some side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from readiness.accelerators.run_timeline import RunTimeline
from readiness.datamodel import AcceleratorFacts, Evidence
from readiness.engine.plan import Job
from readiness.engine.scheduler import POLL_S, Running, Scheduler, Stop
from readiness.engine.worker_evidence import SECOND_TRY, discovered, evidence_of
from readiness.errors import InternalError, InterruptedRunError
from readiness.isolation.worker_pool import WorkerPool
from readiness.isolation.worker_process import Worker
from readiness.missing_evidence import StopCause
from readiness.rehearsal.plan import HANG_LIKE, HANG_PATIENCE_S, Key, Task

#: How long ago what a simulated log says must have come.
_LOGGED_S = 60.0


class Observer:
    """Observer of a rehearsal's progress, without output; `readiness.rehearsal.progress` has one that prints.

    Its methods must return at once.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what is shown."""

    def planned(self, tasks: Sequence[Task], jobs: int) -> None:
        """Handle the plan: these tasks will run, `jobs` at a time."""

    def running(self, tasks: Sequence[tuple[Task, Worker]]) -> None:
        """Handle the currently running tasks; called several times a second."""

    def finished(self, task: Task, evidence: Evidence) -> None:
        """Handle a finished task."""


class Executor(Scheduler[Task]):
    """Runs tasks with at most `jobs` workers at once.

    `signals` is filled from outside to end it; `timeout_s` stands for every check's own limit. `evidence` is what the tasks
    left, by key; those that a stop cut off are not in it.
    """

    observer: Observer

    def __init__(
        self, pool: WorkerPool, observer: Observer, signals: Sequence[str], tasks: Sequence[Task], jobs: int,
        timeout_s: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(pool, observer, tasks, slots=jobs)
        self.signals = signals
        self.timeout_s = timeout_s
        self.evidence: dict[Key, Evidence] = {}
        self.jobs = jobs
        self._usual_s: dict[str, float] = {}

    def run(self) -> None:
        """Run until every task has ended or, after a stop, every task that was running."""
        self.observer.planned(self.waiting, self.jobs)
        super().run()

    def job(self, task: Task) -> Job:
        return task.job

    def lanes(self, task: Task) -> set[str]:  # noqa: ARG002 - each has a machine of its own
        return set()

    def request(self, task: Task) -> Mapping[str, Any]:
        # Each machine is one that has just run its other checks: nobody knows of when, and its log is its own.
        began = time.time() - _LOGGED_S
        return task.job.worker_request(task.seed) | {"timeline": RunTimeline(began).to_json()}

    def limit_s(self, task: Task) -> float:
        """Return the limit of the first attempt. A defect gets no second one: it follows the healthy chip's time.

        A machine that is merely busy must not look like a hang.
        """
        check = task.job.check
        if self.timeout_s is not None:
            return self.timeout_s
        if task.fault_kind is None:
            return task.job.limit_s
        limit_s = check.limit_s
        if task.fault_kind in HANG_LIKE:
            limit_s = min(limit_s, 2 * check.typical_s + HANG_PATIENCE_S)
        return max(limit_s, round(SECOND_TRY * self._usual_s.get(check.id, 0.0), 1))

    def wants_stop(self) -> Stop | None:
        """Return the reason to stop: a signal."""
        return Stop(StopCause.INTERRUPTED, f"the rehearsal was interrupted ({self.signals[0]})") if self.signals else None

    def finish(self, running: Running[Task]) -> None:
        """Turn what a worker left into evidence, or try again if the chip has no defect."""
        task, worker = running.task, running.worker
        if running.stopped or (task.fault_kind is None and self.try_again(running)):
            return
        evidence = evidence_of(worker, task.job, running.attempt)
        if task.fault_kind is None:
            check = evidence.check
            self._usual_s[check] = max(self._usual_s.get(check, 0.0), evidence.seconds)
        self.evidence[task.key] = evidence
        self.observer.finished(task, evidence)


def host_cpu(pool: WorkerPool, stop: Sequence[str], limit_s: float = 180.0) -> AcceleratorFacts:
    """Return the host's CPU, the first baseline. Raises InterruptedRunError and InternalError."""
    worker = pool.start({"job": "discover", "stack": "cpu"}, fork=True, limit_s=limit_s)
    deadline = time.monotonic() + limit_s
    while not worker.ended and time.monotonic() < deadline:
        pool.poll(POLL_S)
        if stop:
            raise InterruptedRunError("interrupted before the rehearsal began", remedy="run it again")
    found, reason = discovered(worker)
    if found:
        return found[0]
    raise InternalError(f"this machine's CPU cannot be examined: {reason}", remedy="make sure that torch can be imported")
