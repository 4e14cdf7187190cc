"""Lead the children through all operators and dtypes; whatever one of them does costs one operator."""

from __future__ import annotations

import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from readiness.accelerators.base import Accelerator
from readiness.catalogue import children, database, forward_mode, opinfo_trial, shapes
from readiness.catalogue.children import Child
from readiness.catalogue.op_entry import Entry
from readiness.catalogue.opinfo_trial import TrialOptions
from readiness.catalogue.outcomes import Outcome, Phase, SweepResult

#: What a child may take to import torch, the plug-in and the database.
_START_LIMIT_S = 240.0
#: Children at most, unless told: each fresh one has a context of its own in the device's memory.
_MOST_FORKED, _MOST_FRESH = 8, 4
#: So many children in a row that die before they are ready end the sweep.
_MOST_FALSE_STARTS = 3
#: A task that ran into its limit is tried once more with that many times as much: a cold compiler is no hang.
_SECOND_LIMIT = 3.0


class SweepError(Exception):
    """The sweep cannot go on: no child comes up. The operators not reached are not judged."""


@dataclass(frozen=True, slots=True)
class Task:
    """One operator in one dtype; the first of a kind is `full_variants`: what no dtype of that kind changes is tried there.

    `fatal` is how its derivative ended the process that tried it: then the rest of forward is tried without.
    `refused_offset` is how it refused or crashed on an input at an offset: then the rest is tried without.
    """

    index: int
    dtype: str
    full_variants: bool = False
    second: bool = False
    fatal: SweepResult | None = None
    refused_offset: str = ""


#: All dtypes of one operator: one child does them, and draws inputs once.
Errand = deque[Task]


@dataclass(frozen=True, slots=True)
class Swept:
    """A task and what became of it."""

    entry: Entry
    dtype: str
    result: SweepResult


def usable_processes() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sweep(
    accelerator: Accelerator,
    entries: Sequence[Entry],
    chosen: Sequence[int],
    dtypes: Sequence[str],
    *,
    core_dtypes: Sequence[str] = (),
    options: TrialOptions,
    operator_limit_s: float,
    processes: int = 0,
    forks: bool | None = None,
) -> Iterator[Swept]:
    """Every chosen operator in every dtype that it claims, exactly once, in the order in which they finish.

    In `core_dtypes` only those that language models use.

    `processes` is the number of children (0: one per usable core, up to a few). `forks` decides how they start; None:
    as the device allows. Raises SweepError when children do not come up. All children are dead when the generator ends,
    however it does.
    """
    errands: deque[Errand] = deque()
    for index in chosen:
        entry = entries[index]
        errand: Errand = deque()
        kinds = set()
        for name in [*dtypes, *(core_dtypes if entry.core else ())]:
            dtype = database.dtype_of(name)
            if not entry.claims(dtype):
                continue
            host_only = None if accelerator.device.type == "cpu" else entry.host_only(dtype)
            if reason := entry.unjudgeable(dtype) or accelerator.stack.beyond.get(entry.name) or host_only:
                yield Swept(entry, name, opinfo_trial.unjudged(entry, dtype, reason))
            else:
                kind = dtype.is_floating_point, dtype.is_complex, dtype is torch.bool
                # Kernels for 16 bits are other code: what models use is tried in all circumstances there as well.
                narrow = dtype.is_floating_point and dtype.itemsize == 2 and (entry.core or shapes.has(entry.name))
                errand.append(Task(index, name, full_variants=kind not in kinds or narrow))
                kinds.add(kind)
        if errand:
            errands.append(errand)
    if forks is None:
        forks = accelerator.stack.forks and accelerator.stack.driverless

    def start() -> Child:
        return children.fork(accelerator, entries, options) if forks else children.spawn(accelerator, options)

    most = min(usable_processes(), _MOST_FORKED if forks else _MOST_FRESH)
    leader = _Leader(errands, start, operator_limit_s)
    try:
        for task, result in leader.run(min(processes or most, max(len(errands), 1))):
            entry = entries[task.index]
            yield Swept(entry, task.dtype, _with_dues(entry, database.dtype_of(task.dtype), task, result, options))
    finally:
        leader.close()


def _with_dues(entry: Entry, dtype: torch.dtype, task: Task, result: SweepResult, options: TrialOptions) -> SweepResult:
    """What a process that died could not tell: which derivatives were due."""
    if task.fatal is None and result.outcome not in (Outcome.CRASHED, Outcome.HANG):
        return result
    due = options.forward_mode and forward_mode.claims(entry, dtype)
    return replace(result, backward=entry.claims_backward(dtype), forward_mode=False if due else None)


class _Leader:
    def __init__(self, errands: deque[Errand], start: Callable[[], Child], limit_s: float) -> None:
        self._errands = errands
        self._start = start
        self._limit_s = limit_s
        self._selector = selectors.DefaultSelector()
        self._crew: list[Child] = []
        self._false_starts = 0

    def run(self, processes: int) -> Iterator[tuple[Task, SweepResult]]:
        while self._errands or self._busy():
            while self._errands and len(self._crew) < processes:
                self._recruit()
            ready = {key.data for key, _ in self._selector.select(self._patience())}
            for child in [child for child in self._crew if id(child) in ready]:
                yield from self._hear(child)
            for child in [child for child in self._crew if self._remaining(child) <= 0]:
                yield from self._give_up(child)

    def close(self) -> None:
        for child in self._crew:
            child.kill()
        self._crew.clear()
        self._selector.close()

    def _busy(self) -> bool:
        return any(child.task is not None for child in self._crew)

    def _recruit(self) -> None:
        child = self._start()
        self._crew.append(child)
        self._selector.register(child.connection, selectors.EVENT_READ, id(child))

    def _dismiss(self, child: Child, again: Task | None = None) -> None:
        """It is gone: others must do the rest of its errand, `again` first."""
        self._selector.unregister(child.connection)
        self._crew.remove(child)
        rest = deque([again, *child.errand] if again else child.errand)
        if rest:
            self._errands.appendleft(rest)

    def _employ(self, child: Child) -> None:
        if not child.errand and self._errands:
            child.errand = self._errands.popleft()
        if child.errand:
            task = child.errand.popleft()
            child.give(task, [task.index, task.dtype, task.full_variants, task.fatal is None, not task.refused_offset])

    def _remaining(self, child: Child) -> float:
        if child.ready and child.task is None:
            return float("inf")
        limit = self._limit_s * (_SECOND_LIMIT if child.task and child.task.second else 1) if child.ready else _START_LIMIT_S
        return child.since + limit - time.monotonic()

    def _patience(self) -> float | None:
        remaining = min((self._remaining(child) for child in self._crew), default=float("inf"))
        return None if remaining == float("inf") else max(remaining, 0.0)

    def _hear(self, child: Child) -> Iterator[tuple[Task, SweepResult]]:
        messages = child.receive()
        if messages is None:
            self._dismiss(child)
            yield from self._lost(child, child.bury())
            return
        for message in messages:
            if "ready" in message:
                child.ready = True
                self._false_starts = 0
            else:
                task, child.task = child.task, None
                child.leaves = message.pop("leaves")
                result = SweepResult(**message | {"outcome": Outcome(message["outcome"]), "phase": Phase(message["phase"])})
                yield from self._told(child, task, result)
            if child.leaves:  # what it would be given next is not to be blamed for its end
                self._dismiss(child)
                child.bury()
                return
            self._employ(child)

    def _told(self, child: Child, task: Task, result: SweepResult) -> Iterator[tuple[Task, SweepResult]]:
        if result.visible_failure_at_offset and not task.refused_offset:
            again = replace(task, second=False, refused_offset=result.explained)
            if child.leaves:
                self._errands.appendleft(deque([again]))
            else:
                child.errand.appendleft(again)
            return
        if task.full_variants and result.outcome is Outcome.UNJUDGED and child.errand:
            # Not claimed in this dtype, as fused attention is not in float32: the next one is looked at closely instead.
            child.errand[0] = replace(child.errand[0], full_variants=True)
        harmless = result.outcome.right or result.outcome is Outcome.UNJUDGED
        result = task.fatal if task.fatal is not None and harmless else result
        yield task, replace(result, refused_offset=task.refused_offset)

    def _lost(self, child: Child, ending: str) -> Iterator[tuple[Task, SweepResult]]:
        if child.task is not None:
            child.leaves = True
            crashed = SweepResult(Outcome.CRASHED, child.phase, f"the process {ending}", False, child.layout)
            yield from self._ended(child, crashed)
        elif not child.ready:
            self._false_starts += 1
            if self._false_starts >= _MOST_FALSE_STARTS:
                raise SweepError(f"no process could be started for the device: the last one {ending}")

    def _give_up(self, child: Child) -> Iterator[tuple[Task, SweepResult]]:
        task: Task | None = child.task
        again = replace(task, second=True) if task is not None and not task.second else None
        self._dismiss(child, again)
        ending = child.kill()
        if task is None:
            yield from self._lost(child, f"was not ready after {_START_LIMIT_S:g} s")
        elif again is None:
            detail = f"did not end within {self._limit_s * _SECOND_LIMIT:g} s"
            if "could not" in ending:
                detail += f"; its process {ending}"
            yield from self._ended(child, SweepResult(Outcome.HANG, child.phase, detail, False, child.layout))

    def _ended(self, child: Child, result: SweepResult) -> Iterator[tuple[Task, SweepResult]]:
        """A task was its process's end. Where a derivative was, what else forward does is tried once more without it."""
        task: Task = child.task
        if task.fatal is not None or result.phase is Phase.FORWARD or result.visible_failure_at_offset:
            yield from self._told(child, task, result)
        else:
            self._errands.appendleft(deque([replace(task, second=False, fatal=result)]))
