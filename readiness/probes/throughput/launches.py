"""Latency of starting kernels: in a queue, and there and back. Only workers import this: it imports torch."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Timing


@dataclass(frozen=True, slots=True)
class Launches:
    """Seconds a kernel of a full queue, seconds until a start returns to the caller, and of a start and a wait for its end.

    `lost` is by how many the kernel's own count differs from the calls that were made.
    """

    queued: Timing
    returned: Timing
    round_trip: Timing
    lost: float


def measure(accelerator: Accelerator, *, budget_s: float, queue: int = 200, trips: int = 200) -> Launches:
    """Time an addition of one element: many in a row, and each by itself. Its sum says whether all of them ran."""
    counter = torch.zeros(1, dtype=torch.float32, device=accelerator.device)
    made = 0

    def add() -> None:
        nonlocal made
        counter.add_(1.0)
        made += 1

    clock, returned = timing.clock_of(accelerator), list[float]()

    def batch() -> float:
        def work() -> None:
            began = time.perf_counter()
            for _ in range(queue):
                add()
            returned.append((time.perf_counter() - began) / queue)

        return clock(work) / queue

    batch()
    returned.clear()
    queued = timing.sampled(batch, budget_s=budget_s / 2, least=5, most=50)
    accelerator.synchronize()
    single = timing.sampled(lambda: clock(add), budget_s=budget_s / 2, least=20, most=trips)
    return Launches(queued, Timing(tuple(returned), queued.waited), single, abs(float(counter) - made))
