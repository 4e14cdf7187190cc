"""Replay supervisor: replays a model's operators on a device, one at a time, for undisturbed timing.

They are played in a process that may die of them; whatever happens to it costs the operator it was at and nothing else. All
of them are played small first, so that each has its outcome; what time is left is spent on large sizes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.host import disk
from readiness.isolation.task_process import TaskProcess
from readiness.isolation.task_supervisor import StartError, TaskEnd, TaskStatus, TaskSupervisor
from readiness.numerics import USUAL, Strictness
from readiness.probes.model_operators import replay_sizes, replay_worker
from readiness.probes.model_operators.outcomes import ReplayResult
from readiness.probes.model_operators.replay import OpGroup
from readiness.probes.operators.outcomes import Outcome, Phase
from readiness.tracing.workload_schema import Workload

#: A call that ran into its limit is tried once more with that many times as much: a cold compiler is no hang.
_SECOND_LIMIT = 2.0


@dataclass(frozen=True, slots=True)
class Task:
    """Task for the worker, and the limit of each of its calls."""

    message: dict[str, Any]
    limit_s: float


def run(
    accelerator: Accelerator, workload: Workload, file: Path, *, op_groups: Sequence[OpGroup], budget_s: float,
    large_s: float,
    call_limit_s: float, strictness: Strictness = USUAL, fork_safe: bool | None = None,
) -> Iterator[tuple[OpGroup, ReplayResult]]:  # fmt: skip
    """Yield each group once, with its result. Groups not started within `budget_s` are reported as not reached.

    Of that time, at most `large_s` are spent on large sizes, once all are played small.

    `call_limit_s` is what a single call, or the comparison of one, may take. Raises StartError, OSError for want of disk.
    """
    if fork_safe is None:
        fork_safe = accelerator.stack.fork_safe and accelerator.stack.host_backed

    def start() -> TaskProcess:
        return replay_worker.fork(accelerator, workload) if fork_safe else replay_worker.spawn(accelerator, file)

    with TaskSupervisor[Task](
        start, lambda task: task.message, lambda task: task.limit_s, phases=True
    ) as supervisor:
        replay = _Replay(workload, supervisor, call_limit_s, strictness, time.monotonic() + budget_s)
        found = {group: replay.replay_group(group, large=False) for group in op_groups}
        # The cheap ones first: what they leave of their share is for those that need more.
        left = sorted((group for group in op_groups if found[group].outcome.right), key=replay.bytes_moved)
        if left and large_s > 0:
            replay.measure_speed()
        replay.deadline = min(replay.deadline, time.monotonic() + large_s)
        for position, group in enumerate(left):
            records = sum(len(other.records) for other in left[position:])
            later = replay.replay_group(group, large=True, records=records)
            if later.reached:
                found[group] = _merged(found[group], later)
            yield group, replay.extrapolate(found[group])
        yield from ((group, replay.extrapolate(found[group])) for group in op_groups if group not in left)


def _merged(small: ReplayResult, large: ReplayResult) -> ReplayResult:
    """Combine the results at both sizes: the worse outcome, and all timings."""
    worse = small if small.outcome in (Outcome.FALLBACK, Outcome.NONDETERMINISTIC) and large.outcome.right else large
    forward = small.forward or (small.outcome if worse.phase is Phase.BACKWARD else None)
    timings = {**small.timings, **large.timings}
    return replace(worse, backward=small.backward, forward=forward, timings=timings, refused_offset=small.refused_offset)


@dataclass(slots=True)
class _Replay:
    """Running replay: nothing starts after `deadline` (monotonic)."""

    workload: Workload
    supervisor: TaskSupervisor[Task]
    call_limit_s: float
    strictness: Strictness
    deadline: float
    speed: tuple[float, float] | None = None

    def bytes_moved(self, group: OpGroup) -> float:
        """Return the bytes of the group's calls at the model's own size."""
        return replay_sizes.bytes_moved(self.workload, (self.workload.records[number] for number in group.records))

    def extrapolate(self, result: ReplayResult) -> ReplayResult:
        """Extrapolate timings to the model's own size with the device's measured speed."""
        speed = self.speed or replay_sizes.UNMEASURED
        return replace(result, timings={number: timing.extrapolate(*speed) for number, timing in result.timings.items()})

    def measure_speed(self) -> None:
        """Measure the device's speed, unless the process dies of it."""
        with contextlib.suppress(StartError):
            end = self.supervisor.do(Task({"measure": True}, self.call_limit_s))
            if end.status is TaskStatus.DONE and end.result is not None:
                self.speed = (end.result[0], end.result[1])

    def replay_group(self, group: OpGroup, *, large: bool, records: int = 1) -> ReplayResult:
        """Replay one group in a process that may die. `records` is the number of records that share the remaining time.

        Where it refuses inputs at an offset, it is played once more without. Whatever is to be told of its gradient, it may
        serve: it is played once more without that.
        """
        result = self._replay_group(group, large=large, records=records, gradients=True)
        offsets, refused = True, ""
        if result.visible_failure_at_offset:
            offsets, refused = False, result.explained
            result = self._replay_group(group, large=large, records=records, gradients=True, offsets=False)
            result = replace(result, refused_offset=refused)
        if large or result.phase is not Phase.BACKWARD:
            return result
        forward_only = self._replay_group(group, large=False, records=records, gradients=False, offsets=offsets)
        if forward_only.reached and not forward_only.outcome.right and forward_only.outcome is not Outcome.UNJUDGED:
            return replace(forward_only, refused_offset=refused)
        return replace(
            result,
            forward=forward_only.outcome,
            reached=forward_only.reached,
            timings=forward_only.timings or result.timings,
        )

    def _replay_group(
        self, group: OpGroup, *, large: bool, records: int, gradients: bool, offsets: bool = True
    ) -> ReplayResult:
        limit_s = self.call_limit_s
        while True:
            left_s = self.deadline - time.monotonic()
            if left_s <= 0:
                return ReplayResult(Outcome.UNJUDGED, detail="no time was left", reached=False)
            end = self.supervisor.do(Task({
                "group": [group.name, group.dtype, list(group.records)], "left_s": left_s, "large": large,
                "record_s": left_s / records, "speed": self.speed, "gradients": gradients, "offsets": offsets,
                "strictness": asdict(self.strictness),
            }, limit_s))  # fmt: skip
            if end.status is not TaskStatus.HUNG or limit_s > self.call_limit_s:
                return _result_of(end)
            limit_s *= _SECOND_LIMIT


def _result_of(end: TaskEnd[Task]) -> ReplayResult:
    if end.status is TaskStatus.DONE:
        result = replay_worker.result_of(end.result)
    else:
        outcome = Outcome.HANG if end.status is TaskStatus.HUNG else Outcome.CRASHED
        result = ReplayResult(outcome, Phase(end.phase or Phase.FORWARD), end.reason, True, end.detail)
    if not result.outcome.right:
        disk.raise_if_full(result.detail)
    return result
