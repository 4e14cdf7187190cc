"""Task supervisor: runs a queue of tasks in task processes, even if processes die.

A single call that may block in a driver is one task of one process:

    def start() -> TaskProcess:
        return TaskProcess.spawn("module:serve", request, capture=True, own_group=True)

    with TaskSupervisor[str](start, str, lambda task: 5.0) as supervisor:
        end = supervisor.do("health")  # done, crashed or hung after 5 s; what a crashed or hung one printed is `end.output`
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from readiness.isolation.task_process import ProcessEnd, TaskProcess

#: What a child may take to import torch and a plug-in before it is ready.
START_LIMIT_S = 240.0
#: So many children in a row that end before they are ready are enough.
MOST_FALSE_STARTS = 3

T = TypeVar("T")


class StartError(Exception):
    """No child process can be started for the device. The remaining tasks are not judged."""


class TaskQueue(Generic[T]):
    """Batches of tasks in order.

    One child does a batch, so that it may keep what its tasks share; what is left when it ends is done by another.
    """

    def __init__(self, batches: Iterable[Iterable[T]] = ()) -> None:
        self._batches = deque(deque(batch) for batch in batches)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def put(self, batch: Iterable[T]) -> None:
        """Add a batch behind all others."""
        self._batches.append(deque(batch))

    def put_first(self, batch: Iterable[T]) -> None:
        """Add a batch before all others."""
        self._batches.appendleft(deque(batch))

    def take(self) -> deque[T]:
        """Return the next batch; an empty one if there is none."""
        return self._batches.popleft() if self._batches else deque()


class TaskStatus(StrEnum):
    """Status of a task at its end."""

    DONE = "done"
    CRASHED = "crashed"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class TaskEnd(Generic[T]):
    """End of a task: its `result`, or its last phase with the phase's detail and a `reason`.

    `rest` are the tasks of its batch that are still to do: what is put there first is done next. `output` is what the child
    had printed, where that is captured.
    """

    task: T
    status: TaskStatus
    rest: deque[T]
    result: Any = None
    phase: str = ""
    detail: str = ""
    reason: str = ""
    output: str = ""


@dataclass(slots=True)
class _Child(Generic[T]):
    """Child process of a supervisor. `since` is when it was started or given its task (monotonic)."""

    process: TaskProcess
    ready: bool = False
    task: T | None = None
    rest: deque[T] = field(default_factory=deque)
    since: float = field(default_factory=time.monotonic)


class TaskSupervisor(Generic[T]):
    """Runs a queue of tasks in child processes: starts them, assigns tasks, enforces limits, reports each result.

    `start` makes a child and `message` what it is told of a task. `limit_s` is what a task may take, or each of its phases
    where `phases` says so. All children are dead when the block of this context manager ends.
    """

    def __init__(
        self, start: Callable[[], TaskProcess], message: Callable[[T], Any], limit_s: Callable[[T], float], *,
        queue: TaskQueue[T] | None = None, processes: int = 1, phases: bool = False, start_limit_s: float = START_LIMIT_S,
    ) -> None:  # fmt: skip
        self.queue: TaskQueue[T] = TaskQueue() if queue is None else queue
        self._start = start
        self._message = message
        self._limit_s = limit_s
        self._processes = processes
        self._phases = phases
        self._start_limit_s = start_limit_s
        self._children: list[_Child[T]] = []
        self._false_starts = 0

    def __enter__(self) -> TaskSupervisor[T]:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.process.reap(kill=True)
        self._children.clear()

    def do(self, task: T) -> TaskEnd[T]:
        """Run a single task on an empty queue. Raises StartError."""
        self.queue.put([task])
        (end,) = self.run()
        return end

    def run(self) -> Iterator[TaskEnd[T]]:
        """Run the queue; yield the end of each task. Raises StartError if children cannot be started."""
        while self.queue or any(child.task is not None or child.rest for child in self._children):
            for child in self._children:
                if child.ready and child.task is None:
                    self.assign(child)
            while len(self.queue) and len(self._children) < self._processes:
                self.start()
            processes = [child.process for child in self._children]
            period_s = min(process.check_period_s for process in processes)
            remaining_s = min(period_s, *map(self._remaining, self._children))
            wait([process.connection for process in processes], None if remaining_s == float("inf") else remaining_s)
            for child in list(self._children):
                yield from self._advance(child)

    def start(self) -> None:
        """Start one more child."""
        self._children.append(_Child(self._start()))

    def assign(self, child: _Child[T]) -> None:
        """Give a child the next task of its batch, or of the next batch."""
        child.rest = child.rest or self.queue.take()
        if child.rest:
            child.task, child.since = child.rest.popleft(), time.monotonic()
            child.process.submit(self._message(child.task))

    def retire(self, child: _Child[T], *, kill: bool) -> ProcessEnd:
        """End a child and return how it ended."""
        self._children.remove(child)
        return child.process.reap(kill=kill)

    def _remaining(self, child: _Child[T]) -> float:
        if not child.ready:
            return child.since + self._start_limit_s - time.monotonic()
        if child.task is None:
            return float("inf")
        now = time.monotonic()
        begun = max(child.since, min(child.process.phase.entered, now)) if self._phases else child.since
        return begun + self._limit_s(child.task) - now

    def _advance(self, child: _Child[T]) -> Iterator[TaskEnd[T]]:
        """Handle a child's message or the end of its connection."""
        try:
            message = child.process.recv(0.0)
        except TimeoutError:
            if self._remaining(child) <= 0:
                yield from self._ended(child, hung=True)
            return
        if message is None:
            yield from self._ended(child, hung=False)
        elif "ready" in message:
            child.ready = True
            self._false_starts = 0
        elif child.task is not None:
            end = TaskEnd(child.task, TaskStatus.DONE, child.rest, result=message["result"])
            child.task = None
            if message["leaves"]:  # what it would be given next is not to be blamed for its end
                self.retire(child, kill=False)
            yield from self._requeue_rest(child, end)

    def _ended(self, child: _Child[T], *, hung: bool) -> Iterator[TaskEnd[T]]:
        """Handle a child that died or exceeded its limit."""
        end = self.retire(child, kill=hung)
        if child.task is not None:
            phase, detail = child.process.phase.read()
            status, reason = TaskStatus.CRASHED, f"the process {end}"
            if hung:
                status, reason = TaskStatus.HUNG, f"did not finish within {self._limit_s(child.task):g} s"
                reason += f"; its process {end}" if end.exit_code is None else ""
            yield from self._requeue_rest(child, TaskEnd(
                child.task, status, child.rest, None, phase, detail, reason, child.process.output()
            ))  # fmt: skip
        elif not child.ready:
            self._false_starts += 1
            if self._false_starts >= MOST_FALSE_STARTS:
                self._false_starts = 0
                cause = f"was not ready after {self._start_limit_s:g} s" if hung else str(end)
                raise StartError(f"no process could be started for the device: the last one {cause}")

    def _requeue_rest(self, child: _Child[T], end: TaskEnd[T]) -> Iterator[TaskEnd[T]]:
        """Return the end of a task; another child does the rest of a dead child's batch."""
        yield end
        if child not in self._children and end.rest:
            self.queue.put_first(end.rest)
