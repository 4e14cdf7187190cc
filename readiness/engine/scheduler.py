"""Scheduler: runs tasks in worker processes, some side by side, each with its limit and a second try."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from readiness import accelerators
from readiness.engine.plan import Job
from readiness.engine.worker_evidence import SECOND_TRY
from readiness.isolation.worker_pool import WorkerPool
from readiness.isolation.worker_process import Worker
from readiness.missing_evidence import KillCause, StopCause

POLL_S = 0.1

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Observer(Protocol[T_contra]):
    """Observer of the scheduler. Called from the loop: must return at once."""

    def running(self, tasks: Sequence[tuple[T_contra, Worker]], /) -> None:
        """These tasks are running; called several times a second."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The reason for a stop, as a cause for programs and as text."""

    cause: StopCause
    reason: str


@dataclass(slots=True)
class Running(Generic[T]):
    """A task in a worker; `stopped` once a stop has ended it, which is not evidence."""

    task: T
    worker: Worker
    attempt: int = 1
    earlier_tries_s: float = 0.0
    stopped: bool = False


class Scheduler(ABC, Generic[T]):
    """One thread that starts tasks, waits for events, and handles finished tasks.

    Tasks are started in order, at most `slots` at once (None: any number), and each lane does one at a time. A check that
    wants the machine to itself waits until all others are done, and is not overtaken meanwhile. What a task asks of its
    worker and what its end means is said by the subclass. Once there is a `stop`, nothing more is started.
    """

    def __init__(self, pool: WorkerPool, observer: Observer[T], waiting: Sequence[T], *, slots: int | None = None) -> None:
        self.pool = pool
        self.observer = observer
        self.waiting = list(waiting)
        self.running: list[Running[T]] = []
        self.slots = slots
        self.stop: Stop | None = None

    @abstractmethod
    def job(self, task: T) -> Job:
        """The job that a task does."""

    @abstractmethod
    def request(self, task: T) -> Mapping[str, Any]:
        """Return the request to the worker of a task."""

    @abstractmethod
    def limit_s(self, task: T) -> float:
        """The limit of a task's first try, in seconds."""

    @abstractmethod
    def wants_stop(self) -> Stop | None:
        """Return a reason to stop, or None."""

    @abstractmethod
    def finish(self, running: Running[T]) -> None:
        """Handle a finished worker: take its result, `try_again`, or `put_back`."""

    def lanes(self, task: T) -> set[str]:
        """Return the exclusive resources of a task: its accelerators."""
        return {facts.id for facts in self.job(task).accelerators}

    def admits(self, task: T) -> bool:  # noqa: ARG002
        """Return False for a task that was handled and will not run."""
        return True

    def started(self, running: Running[T]) -> None:
        """A worker was started for a task."""

    def stopping(self, reason: str) -> None:
        """Running tasks are about to be stopped, and waiting ones will not start."""

    def run(self) -> None:
        """Run until every task has finished, or after a stop until running tasks have ended."""
        while self.waiting or self.running:
            self.look_for_stop()
            if self.stop is None:
                self._start_what_may()
            elif not self.running:
                return
            self.pool.poll(POLL_S)
            for running in [item for item in self.running if item.worker.ended]:
                self.running.remove(running)
                self.finish(running)
            self.observer.running([(item.task, item.worker) for item in self.running])

    def look_for_stop(self) -> None:
        """Stop running tasks if there is a reason."""
        if self.stop is None and (stop := self.wants_stop()) is not None:
            self.stop = stop
            self.stopping(stop.reason)
            for running in self.running:
                running.stopped = running.worker.kill_sent is None
                self.pool.kill(running.worker, stop.reason, KillCause.STOP)

    def put_back(self, running: Running[T]) -> None:
        """Put the task back: it has not run."""
        self.waiting.insert(0, running.task)

    def try_again(self, running: Running[T]) -> bool:
        """Return whether a task gets a second, longer try after its limit: a cold compile is not a hang.

        After a stop it has not run.
        """
        worker = running.worker
        if not worker.timed_out or worker.ready is None or running.attempt > 1:
            return False
        if self.stop is None:
            self.start(running.task, attempt=2, earlier_tries_s=worker.seconds)
        else:
            self.put_back(running)
        return True

    def start(self, task: T, attempt: int = 1, earlier_tries_s: float = 0.0) -> None:
        """Start a worker for a task."""
        stack = accelerators.stack(self.job(task).accelerators[0].stack)
        limit_s = self.limit_s(task) * (1 if attempt == 1 else SECOND_TRY)
        worker = self.pool.start(self.request(task), fork=stack.from_forkserver, limit_s=limit_s)
        self.running.append(Running(task, worker, attempt, earlier_tries_s))
        self.started(self.running[-1])

    def _start_what_may(self) -> None:
        busy = {lane for running in self.running for lane in self.lanes(running.task)}
        for task in list(self.waiting):
            if not self.admits(task):
                self.waiting.remove(task)
                continue
            if self.slots is not None and len(self.running) >= self.slots:
                return
            lanes, alone = self.lanes(task), self.job(task).check.alone
            kept_apart = alone or any(self.job(running.task).check.alone for running in self.running)
            if lanes & busy or (kept_apart and self.running):
                busy |= lanes  # what comes later in the order must not overtake it on the same device
                if alone:
                    return
                continue
            self.waiting.remove(task)
            self.start(task)
            busy |= lanes
