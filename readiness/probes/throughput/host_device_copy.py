"""Copies of blocks between host and device, timed and compared. Only workers import this: it imports torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.accelerators.pcie import Slot
from readiness.host import memory
from readiness.probes.throughput.timing import Timing, repeat

#: Copies that are under way while the slot is looked at.
UNDER_WAY = 4


@dataclass(frozen=True, slots=True)
class Crossed:
    """Timings by direction, what differed afterwards, and the slot's state during the copies."""

    timings: Mapping[str, Timing]
    wrong_bytes: int
    slot: Slot | None


def block(accelerator: Accelerator, size: int) -> torch.Tensor:
    """Return random bytes on the host, at most an eighth of the free memory there or on the device."""
    reading = accelerator.memory()
    size = min(size, memory.available() // 8, *(() if reading is None else (reading[0] // 8,)))
    drawn = torch.randint(0, 256, (2**22 + 1,), dtype=torch.uint8, generator=accelerator.generator("crossing"))
    return drawn.repeat(max(1, -(-size // drawn.numel())))[: max(1, size)]


def within_host(content: torch.Tensor, *, budget_s: float) -> float:
    """Return the best bytes per second of a single-threaded copy within the host's memory."""
    plain: Any = content.numpy()
    source, target = memoryview(plain), memoryview(bytearray(content.numel()))
    seconds: list[float] = []
    deadline = time.perf_counter() + budget_s
    while len(seconds) < 3 or time.perf_counter() < deadline:
        began = time.perf_counter()
        target[:] = source
        seconds.append(time.perf_counter() - began)
    return len(source) / min(seconds)


def there_and_back(accelerator: Accelerator, content: torch.Tensor, *, pinned: bool, budget_s: float) -> Crossed:
    """Copy a block to the device and back, from and to pinned or pageable memory."""
    source = content.pin_memory() if pinned else content
    target = torch.empty_like(content)
    target = target.pin_memory() if pinned else target
    on_device = torch.empty_like(content, device=accelerator.device)
    timings = {
        direction: repeat(call, accelerator.synchronize, budget_s=budget_s, least=3)
        for direction, call in {
            "to device": lambda: on_device.copy_(source, non_blocking=pinned),
            "to host": lambda: target.copy_(on_device, non_blocking=pinned),
        }.items()
    }
    wrong = 0 if torch.equal(target, content) else int((target != content).sum())
    for _ in range(UNDER_WAY):
        on_device.copy_(source, non_blocking=pinned)
    slot = accelerator.stack.slot(accelerator.facts)
    accelerator.synchronize()
    return Crossed(timings, wrong, slot)
