"""Operator sweep: all operators in all dtypes, in processes that may die; a crash affects one operator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from readiness.accelerators.base import Accelerator
from readiness.host import disk
from readiness.host.runqueue_wait import usable_cores
from readiness.isolation.task_process import TaskProcess
from readiness.isolation.task_supervisor import TaskEnd, TaskQueue, TaskStatus, TaskSupervisor
from readiness.probes.operators import edge_shapes, forward_mode, opinfo, opinfo_trial, sweep_worker
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.opinfo_trial import TrialOptions
from readiness.probes.operators.outcomes import Outcome, Phase, SweepResult

#: Processes at most, unless told: each fresh one has a context of its own in the device's memory.
_MOST_FORKED, _MOST_FRESH = 8, 4
#: A task that ran into its limit is tried once more with that many times as much: a cold compiler is no hang.
_SECOND_LIMIT = 3.0


@dataclass(frozen=True, slots=True)
class Task:
    """Trial of one operator in one dtype; the first of a kind is `full_variants` and tries what no dtype changes.

    `fatal` is how its derivative ended the process that tried it: then the rest of forward is tried without.
    `refused_offset` is how it refused or crashed on an input at an offset: then the rest is tried without.
    """

    index: int
    dtype: str
    full_variants: bool = False
    second: bool = False
    fatal: SweepResult | None = None
    refused_offset: str = ""

    @property
    def message(self) -> list[object]:
        """Message to the worker."""
        return [self.index, self.dtype, self.full_variants, self.fatal is None, not self.refused_offset]


@dataclass(frozen=True, slots=True)
class Swept:
    """Task and its result."""

    entry: Entry
    dtype: str
    result: SweepResult


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
    fork_safe: bool | None = None,
) -> Iterator[Swept]:
    """Yield every chosen operator in every dtype that it claims, exactly once, as they finish.

    In `core_dtypes` only those that language models use.

    `processes` is the number of workers (0: one per usable core, up to a few). `fork_safe` decides how they start; None:
    as the device allows. Raises StartError when they do not come up, OSError for want of disk. All of them are dead when
    the generator ends, however it does.
    """
    queue: TaskQueue[Task] = TaskQueue()
    for index in chosen:
        entry = entries[index]
        batch: list[Task] = []  # all dtypes of one operator: one worker does them, and draws inputs once
        kinds = set()
        for name in [*dtypes, *(core_dtypes if entry.core else ())]:
            dtype = opinfo.dtype_of(name)
            if not entry.claims(dtype):
                continue
            host_only = None if accelerator.device.type == "cpu" else entry.host_only(dtype)
            if reason := entry.unjudgeable or accelerator.stack.unsupported_ops.get(entry.name) or host_only:
                yield Swept(entry, name, opinfo_trial.unjudged(entry, dtype, reason))
            else:
                kind = dtype.is_floating_point, dtype.is_complex, dtype is torch.bool
                # Kernels for 16 bits are other code: what models use is tried in all circumstances there as well.
                narrow = dtype.is_floating_point and dtype.itemsize == 2 and (entry.core or edge_shapes.has(entry.name))
                batch.append(Task(index, name, full_variants=kind not in kinds or narrow))
                kinds.add(kind)
        if batch:
            queue.put(batch)
    if fork_safe is None:
        fork_safe = accelerator.stack.fork_safe and accelerator.stack.host_backed

    def start() -> TaskProcess:
        return sweep_worker.fork(accelerator, entries, options) if fork_safe else sweep_worker.spawn(accelerator, options)

    def limit_s(task: Task) -> float:
        return operator_limit_s * (_SECOND_LIMIT if task.second else 1)

    most = min(usable_cores(), _MOST_FORKED if fork_safe else _MOST_FRESH)
    processes = min(processes or most, max(len(queue), 1))
    with TaskSupervisor(start, lambda task: task.message, limit_s, queue=queue, processes=processes) as supervisor:
        for end in supervisor.run():
            entry, task = entries[end.task.index], end.task
            if (result := _result_of(end)) is not None:
                yield Swept(
                    entry, task.dtype, _with_due_derivatives(entry, opinfo.dtype_of(task.dtype), task, result, options)
                )


def _with_due_derivatives(
    entry: Entry, dtype: torch.dtype, task: Task, result: SweepResult, options: TrialOptions
) -> SweepResult:
    """Add the derivatives that were due to the result of a process that died."""
    if task.fatal is None and result.outcome not in (Outcome.CRASHED, Outcome.HANG):
        return result
    due = options.forward_mode and forward_mode.claims(entry, dtype)
    return replace(result, backward=entry.claims_backward(dtype), forward_mode=False if due else None)


def _result_of(end: TaskEnd[Task]) -> SweepResult | None:
    """Return the result of a task's end; None if something else is tried first."""
    task = end.task
    if end.status is TaskStatus.DONE:
        result = sweep_worker.result_of(end.result)
    elif end.status is TaskStatus.HUNG and not task.second:
        end.rest.appendleft(replace(task, second=True))
        return None
    else:
        outcome = Outcome.HANG if end.status is TaskStatus.HUNG else Outcome.CRASHED
        result = SweepResult(outcome, Phase(end.phase or Phase.FORWARD), end.reason, False, end.detail)
        if not (task.fatal is not None or result.phase is Phase.FORWARD or result.visible_failure_at_offset):
            # Its derivative was its process's end: what else forward does is tried once more without it.
            end.rest.appendleft(replace(task, second=False, fatal=result))
            return None
    if result.visible_failure_at_offset and not task.refused_offset:
        end.rest.appendleft(replace(task, second=False, refused_offset=result.explained))
        return None
    if task.full_variants and result.outcome is Outcome.UNJUDGED and end.rest:
        # Not claimed in this dtype, as fused attention is not in float32: the next one is looked at closely instead.
        end.rest[0] = replace(end.rest[0], full_variants=True)
    harmless = result.outcome.right or result.outcome is Outcome.UNJUDGED
    if not harmless:
        disk.raise_if_full(result.detail)
    result = task.fatal if task.fatal is not None and harmless else result
    return replace(result, refused_offset=task.refused_offset)
