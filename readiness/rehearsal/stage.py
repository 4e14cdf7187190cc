"""The loop over workers: every task of a script in a process of its own, some side by side, with limits kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from readiness import accelerators
from readiness.endings import SECOND_TRY, discovered, evidence_of
from readiness.errors import InternalError, InterruptedRunError
from readiness.model import AcceleratorFacts, Evidence
from readiness.processes import Pool
from readiness.rehearsal.script import HANG_LIKE, HANG_PATIENCE_S, Key, Task
from readiness.worker_process import Worker

_POLL_S = 0.1


class Observer(Protocol):
    """Who is told how the rehearsal goes. Called from the loop: must return at once."""

    def planned(self, tasks: Sequence[Task], jobs: int) -> None:
        """These tasks will run, so many at once."""

    def running(self, tasks: Sequence[tuple[Task, Worker]]) -> None:
        """These are at work; called several times a second."""

    def finished(self, task: Task, evidence: Evidence) -> None:
        """A task ended."""


@dataclass(slots=True)
class _Running:
    task: Task
    worker: Worker
    attempt: int = 1


@dataclass(slots=True)
class Stage:
    """Runs tasks with at most `jobs` workers at once.

    `stop` is filled from outside to end it; `timeout_s` stands for every check's own limit.
    """

    pool: Pool
    observer: Observer
    stop: Sequence[str]
    jobs: int
    timeout_s: float | None = None
    evidence: dict[Key, Evidence] = field(default_factory=dict)
    _waiting: list[Task] = field(default_factory=list)
    _running: list[_Running] = field(default_factory=list)
    _usual_s: dict[str, float] = field(default_factory=dict)

    def run(self, tasks: Sequence[Task]) -> Mapping[Key, Evidence]:
        """What the tasks left, by key. Those that a stop cut off are not in it."""
        self._waiting = list(tasks)
        self.observer.planned(tasks, self.jobs)
        while self._waiting or self._running:
            if self.stop:
                self._end_all()
            else:
                self._start_what_may()
            self.pool.poll(_POLL_S)
            for running in [item for item in self._running if item.worker.ended]:
                self._running.remove(running)
                self._finish(running)
            self.observer.running([(item.task, item.worker) for item in self._running])
        return self.evidence

    def _end_all(self) -> None:
        self._waiting.clear()
        for running in self._running:
            self.pool.kill(running.worker, f"the rehearsal was interrupted ({self.stop[0]})")

    def _start_what_may(self) -> None:
        """In order, up to the number of jobs; a check that wants the machine to itself waits for silence."""
        while self._waiting and len(self._running) < self.jobs:
            task = self._waiting[0]
            alone = task.job.check.alone or any(item.task.job.check.alone for item in self._running)
            if alone and self._running:
                return
            self._start(self._waiting.pop(0), attempt=1)

    def _start(self, task: Task, attempt: int) -> None:
        stack = accelerators.stack(task.job.accelerators[0].stack)
        limit_s = self.limit_s(task) * (1 if attempt == 1 else SECOND_TRY)
        worker = self.pool.start(task.job.asked(task.seed), fork=stack.forkable, limit_s=limit_s)
        self._running.append(_Running(task, worker, attempt))

    def limit_s(self, task: Task) -> float:
        """The limit of a first try. A planted chip has no second one, so it is generous where the healthy one was slow.

        A machine that is merely busy must not look like a hang.
        """
        check = task.job.check
        if self.timeout_s is not None:
            return self.timeout_s
        if task.planted is None:
            return task.job.limit_s
        limit_s = check.limit_s
        if task.planted in HANG_LIKE:
            limit_s = min(limit_s, 2 * check.typical_s + HANG_PATIENCE_S)
        return max(limit_s, round(SECOND_TRY * self._usual_s.get(check.id, 0.0), 1))

    def _finish(self, running: _Running) -> None:
        task, worker = running.task, running.worker
        if self.stop and worker.kill_sent is not None:
            return
        if worker.timed_out and worker.ready is not None and running.attempt == 1 and task.planted is None and not self.stop:
            self._start(task, attempt=2)
            return
        evidence = evidence_of(worker, task.job, running.attempt)
        if task.planted is None:
            check = evidence.check
            self._usual_s[check] = max(self._usual_s.get(check, 0.0), evidence.seconds)
        self.evidence[task.key] = evidence
        self.observer.finished(task, evidence)


def host_cpu(pool: Pool, stop: Sequence[str], limit_s: float = 180.0) -> AcceleratorFacts:
    """The host's CPU, the first yardstick. Raises InterruptedRunError and InternalError."""
    worker = pool.start({"job": "discover", "stack": "cpu"}, fork=True, limit_s=limit_s)
    deadline = time.monotonic() + limit_s
    while not worker.ended and time.monotonic() < deadline:
        pool.poll(_POLL_S)
        if stop:
            raise InterruptedRunError("interrupted before the rehearsal had begun", remedy="run it again")
    found, reason = discovered(worker)
    if found:
        return found[0]
    raise InternalError(f"this machine's CPU cannot be looked at: {reason}", remedy="see that torch can be imported")
