"""Lead the process in which operators are played: one at a time, since what is timed must not be disturbed.

Whatever happens to the process costs the operator it was at and nothing else. All of them are played small first, so that
each has its outcome; what time is left is spent on large sizes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.catalogue.outcomes import Outcome, Phase
from readiness.numerics import USUAL, Strictness
from readiness.workload import hands, sizes
from readiness.workload.document import Workload
from readiness.workload.hands import Child
from readiness.workload.outcomes import ReplayResult
from readiness.workload.playing import Part

#: What a child may take to import torch and the plug-in.
_START_LIMIT_S = 240.0
_MOST_FALSE_STARTS = 3
#: A call that ran into its limit is tried once more with that many times as much: a cold compiler is no hang.
_SECOND_LIMIT = 2.0


class CrewError(Exception):
    """No process comes up for the device."""


@dataclass(frozen=True, slots=True)
class Task:
    """What all children of a run are told."""

    file: Path
    call_limit_s: float
    strictness: Strictness


def run(
    accelerator: Accelerator, workload: Workload, file: Path, *, parts: Sequence[Part], budget_s: float, large_s: float,
    call_limit_s: float, strictness: Strictness = USUAL, forks: bool | None = None,
) -> Iterator[tuple[Part, ReplayResult]]:  # fmt: skip
    """Each part exactly once, with what became of it. Those not begun within `budget_s` are told as not reached.

    Of that time, at most `large_s` are spent on large sizes, once all are played small.

    `call_limit_s` is what a single call, or the comparison of one, may take. Raises CrewError.
    """
    if forks is None:
        forks = accelerator.stack.forks and accelerator.stack.driverless
    crew = _Crew(accelerator, workload, Task(file, call_limit_s, strictness), forks, time.monotonic() + budget_s)
    found: dict[Part, ReplayResult] = {}
    try:
        for part in parts:
            found[part] = crew.play(part, large=False)
        # The cheap ones first: what they leave of their share is for those that need more.
        left = sorted((part for part in parts if found[part].outcome.right), key=crew.burden)
        if left and large_s > 0:
            crew.look()
        crew.deadline = min(crew.deadline, time.monotonic() + large_s)
        for position, part in enumerate(left):
            records = sum(len(other.records) for other in left[position:])
            later = crew.play(part, large=True, records=records)
            if later.reached:
                found[part] = _together(found[part], later)
            yield part, crew.priced(found[part])
        yield from ((part, crew.priced(found[part])) for part in parts if part not in left)
    finally:
        crew.close()


def _together(small: ReplayResult, large: ReplayResult) -> ReplayResult:
    """What both sizes say of an operator: the worse of the two, and all that was played."""
    worse = small if small.outcome in (Outcome.FALLBACK, Outcome.NONDETERMINISTIC) and large.outcome.right else large
    forward = small.forward or (small.outcome if worse.phase is Phase.BACKWARD else None)
    timings = {**small.timings, **large.timings}
    return replace(worse, backward=small.backward, forward=forward, timings=timings, refused_offset=small.refused_offset)


@dataclass(slots=True)
class _Crew:
    """The one child there is, or will be."""

    accelerator: Accelerator
    workload: Workload
    task: Task
    forks: bool
    deadline: float
    child: Child | None = None
    pace: tuple[float, float] | None = None

    def burden(self, part: Part) -> float:
        """How much there is to move for it at the model's own size."""
        return sizes.burden(self.workload, (self.workload.records[number] for number in part.records))

    def priced(self, result: ReplayResult) -> ReplayResult:
        """With times as at the model's own size, by what the device was seen to do."""
        pace = self.pace or sizes.UNMEASURED
        return replace(result, timings={number: timing.extrapolate(*pace) for number, timing in result.timings.items()})

    def look(self) -> None:
        """How fast the device is, where that can be told without losing a process."""
        with contextlib.suppress(CrewError):
            self.child = self.child or _started(self.accelerator, self.workload, self.task, forks=self.forks)
            self.child.say({"look": True})
            try:
                message = self.child.hear(self.task.call_limit_s)
            except TimeoutError:
                message = None
            if message is None:
                self.child.end(kill=True)
                self.child = None
            elif message["pace"] is not None:
                self.pace = (message["pace"][0], message["pace"][1])

    def play(self, part: Part, *, large: bool, records: int = 1) -> ReplayResult:
        """One part, in a child that may die of it. `records` are those that must share the time left.

        Where it refuses inputs at an offset, it is played once more without. Whatever is to be told of its gradient, it may
        serve: it is played once more without that.
        """
        result = self._play(part, large=large, records=records, gradients=True)
        offsets, refused = True, ""
        if result.visible_failure_at_offset:
            offsets, refused = False, result.explained
            result = self._play(part, large=large, records=records, gradients=True, offsets=False)
            result = replace(result, refused_offset=refused)
        if large or result.phase is not Phase.BACKWARD:
            return result
        alone = self._play(part, large=False, records=records, gradients=False, offsets=offsets)
        if alone.reached and not alone.outcome.right and alone.outcome is not Outcome.UNJUDGED:
            return replace(alone, refused_offset=refused)
        return replace(result, forward=alone.outcome, reached=alone.reached, timings=alone.timings or result.timings)

    def _play(self, part: Part, *, large: bool, records: int, gradients: bool, offsets: bool = True) -> ReplayResult:
        limit_s = self.task.call_limit_s
        while True:
            left_s = self.deadline - time.monotonic()
            if left_s <= 0:
                return ReplayResult(Outcome.UNJUDGED, detail="time was up", reached=False)
            if self.child is None:
                self.child = _started(self.accelerator, self.workload, self.task, forks=self.forks)
            task = {
                "left_s": left_s, "large": large, "record_s": left_s / records, "pace": self.pace, "gradients": gradients,
                "offsets": offsets, "strictness": asdict(self.task.strictness),
            }  # fmt: skip
            result, self.child = _played(self.child, part, limit_s, task)
            if result.outcome is not Outcome.HANG or limit_s > self.task.call_limit_s:
                return result
            limit_s *= _SECOND_LIMIT

    def close(self) -> None:
        """End it."""
        if self.child is not None:
            self.child.end(kill=True)


def _played(child: Child, part: Part, limit_s: float, task: dict[str, Any]) -> tuple[ReplayResult, Child | None]:
    """The result, and the child if it is still of use."""
    child.say({"part": [part.name, part.dtype, list(part.records)], **task})
    phase, where = Phase.FORWARD, ""
    while True:
        try:
            message = child.hear(limit_s)
        except TimeoutError:
            ending = child.end(kill=True)
            detail = f"did not end within {limit_s:g} s"
            detail += f"; its process {ending}" if "could not" in ending else ""
            return ReplayResult(Outcome.HANG, phase, detail, True, where), None
        if message is None:
            return ReplayResult(Outcome.CRASHED, phase, f"the process {child.end(kill=False)}", True, where), None
        if "begins" in message:
            phase, where = Phase(message["begins"]), message["where"]
            continue
        lost = bool(message.pop("lost", False))
        result = hands.from_json(message)
        if lost:
            child.end(kill=True)
        return result, None if lost else child


def _started(accelerator: Accelerator, workload: Workload, task: Task, *, forks: bool) -> Child:
    ending = ""
    for _ in range(_MOST_FALSE_STARTS):
        child = hands.fork(accelerator, workload) if forks else hands.spawn(accelerator, task.file)
        try:
            if child.hear(_START_LIMIT_S) is not None:
                return child
            ending = child.end(kill=False)
        except TimeoutError:
            child.end(kill=True)
            ending = f"was not ready after {_START_LIMIT_S:g} s"
    raise CrewError(f"no process could be started for the device: the last one {ending}")
