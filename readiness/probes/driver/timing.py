"""Times that the stack measures on the device, beside those of the host: profiler and events. Only workers import this."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics.unsupported import is_unsupported

_OPERATOR = "aten::mm"
_LEAST_CALLS, _MOST_CALLS = 5, 200


@dataclass(frozen=True, slots=True)
class TimingComparison:
    """Time of the same work as reported by a source and by the host, in seconds; or why the source has none.

    `calls` is how many calls the source saw of those that were made, None if it does not count them.
    """

    source: str
    device_s: float | None = None
    host_s: float = 0.0
    calls: int | None = None
    made: int = 0
    refusal: str | None = None


class Work:
    """Matrix products that keep the device busy for a while."""

    def __init__(self, accelerator: Accelerator, size: int, busy_s: float) -> None:
        draw = accelerator.generator("timing")
        self._accelerator = accelerator
        self._factor = torch.randn(size, size, generator=draw).to(accelerator.device) / size**0.5
        self.calls = 1
        self.run()
        spent_s = self.run()
        self.calls = max(_LEAST_CALLS, min(_MOST_CALLS, round(busy_s / max(spent_s, 1e-6))))

    def run(self, mark: Callable[[], Any] = lambda: None) -> float:
        """Do the work; return the seconds by the host's clock until the device has done it. `mark` is called around it."""
        self._accelerator.synchronize()
        started = time.perf_counter()
        mark()
        for _ in range(self.calls):
            torch.mm(self._factor, self._factor)
        mark()
        self._accelerator.synchronize()
        return time.perf_counter() - started


def by_profiler(accelerator: Accelerator, work: Work) -> TimingComparison:
    """Time the work with torch.profiler."""
    on_host = accelerator.device.type == "cpu"
    try:
        with torch.profiler.profile() as profile:
            host_s = work.run()
        rows = [event for event in profile.key_averages() if event.key == _OPERATOR]
    except Exception as problem:
        if not is_unsupported(problem):
            raise
        return TimingComparison("profiler", refusal=f"{type(problem).__name__}: {problem}"[:200])
    if not rows:
        return TimingComparison("profiler", refusal=f"it reports no {_OPERATOR}")
    micros = sum(float(row.cpu_time_total if on_host else row.device_time_total) for row in rows)
    if not micros and not on_host:
        return TimingComparison("profiler", refusal="it reports no time of the device")
    return TimingComparison("profiler", micros / 1e6, host_s, sum(int(row.count) for row in rows), work.calls)


def by_events(accelerator: Accelerator, work: Work) -> TimingComparison:
    """Time the work with two events of the device."""
    module = accelerator.stack.module()
    if not hasattr(module, "Event"):
        return TimingComparison("events", refusal="torch has no Event for this device")
    events: list[Any] = []

    def mark() -> None:
        events.append(module.Event(enable_timing=True))
        events[-1].record()

    try:
        host_s = work.run(mark)
        device_s = float(events[0].elapsed_time(events[1])) / 1e3
    except (TypeError, AttributeError, NotImplementedError) as problem:
        return TimingComparison("events", refusal=f"{type(problem).__name__}: {problem}"[:200])
    except RuntimeError as problem:
        if not is_unsupported(problem):
            raise
        return TimingComparison("events", refusal=f"{type(problem).__name__}: {problem}"[:200])
    return TimingComparison("events", device_s, host_s)
