"""Blocks of bytes that cross between host and device, timed and compared. Only workers import this: it imports torch."""

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
    """The timings of one block by direction, what differed afterwards, and the slot as it was while copies passed it."""

    timings: Mapping[str, Timing]
    wrong_bytes: int
    slot: Slot | None


def block(accelerator: Accelerator, size: int) -> torch.Tensor:
    """So many random bytes on the host, never more than an eighth of the memory that is free there or on the device."""
    reading = accelerator.memory()
    size = min(size, memory.available() // 8, *(() if reading is None else (reading[0] // 8,)))
    drawn = torch.randint(0, 256, (2**22 + 1,), dtype=torch.uint8, generator=accelerator.generator("crossing"))
    return drawn.repeat(max(1, -(-size // drawn.numel())))[: max(1, size)]


def within_host(content: torch.Tensor, *, budget_s: float) -> float:
    """Bytes a second of a copy by one thread within the host's memory; the best, as others use that memory too."""
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
    """A block to the device and back again, from and to pinned or pageable memory."""
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
