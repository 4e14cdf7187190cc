"""Calls with lengths and numbers that were not seen before, and what of host and device memory they keep.

Stacks keep what they compile or choose for each shape, and some for each number that is an argument: with texts of every
length, or a learning rate that changes with every step, that grows as long as the process lives. Only workers import this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from readiness.accelerators.base import Accelerator
from readiness.numerics.unsupported import is_unsupported
from readiness.probes.driver.lifecycle import growth_per_step, own_bytes, trim_heap, used_bytes

Tensor = torch.Tensor

#: New values between two readings of memory.
STEP = 25
#: The shortest length; the longest comes first, so that buffers have grown before memory is looked at.
SHORTEST = 17


@dataclass(frozen=True, slots=True)
class MemoryGrowth:
    """Bytes that each new value keeps in one memory, over the second half of them; how many there were."""

    memory: str
    bytes_per_value: float
    values: int


def lengths(count: int, generator: torch.Generator) -> Sequence[float]:
    """Different lengths in no order, the longest first."""
    order = torch.randperm(count, generator=generator).tolist()
    return [SHORTEST + count, *(SHORTEST + number for number in order)]


def numbers(count: int, generator: torch.Generator) -> Sequence[float]:
    """Different numbers between 1 and 2."""
    return list(map(float, 1 + torch.rand(count + 1, generator=generator, dtype=torch.float64)))


def with_length(device: torch.device, value: float) -> Iterator[Callable[[], object]]:
    """Calls of what language models call with each new length, forward and backward."""
    length = int(value)
    weight = torch.ones(16, 16, device=device, requires_grad=True)
    x = torch.ones(1, length, 16, device=device)
    yield lambda: functional.linear(x, weight).sum().backward()  # type: ignore[no-untyped-call]
    yield lambda: functional.softmax(x, 1)
    yield lambda: functional.layer_norm(x, (length, 16))
    yield lambda: functional.conv1d(x.transpose(1, 2), weight[:, :, None])
    yield lambda: functional.scaled_dot_product_attention(x[None], x[None], x[None], is_causal=True)
    yield lambda: torch.bmm(x.transpose(1, 2), x)
    yield lambda: torch.cumsum(x, 1)
    yield lambda: torch.cat([x, x], 1)
    yield lambda: functional.silu(x.bfloat16())


def with_number(device: torch.device, number: float) -> Iterator[Callable[[], object]]:
    """Calls in which a number is an argument, as learning rates, temperatures and scales are."""
    x = torch.ones(16, 16, device=device)
    yield lambda: x * number
    yield lambda: torch.add(x, x, alpha=number)
    yield lambda: x**number
    yield lambda: x.clamp(max=number)
    yield lambda: torch.full((16,), number, device=device)
    yield lambda: torch.addmm(x, x, x, beta=number, alpha=number)
    yield lambda: functional.softplus(x, beta=number)
    yield lambda: functional.leaky_relu(x, number - 1)
    yield lambda: x.bfloat16() / number


def measure_growth(
    accelerator: Accelerator, values: Sequence[float], calls: Callable[[torch.device, float], Iterator[Callable[[], object]]]
) -> list[MemoryGrowth]:
    """Call everything with each value once, and read memory in between; nothing of a memory that cannot be read."""
    readings: dict[str, list[int]] = {"host": [], "device": []}
    for number, value in enumerate(values):
        if not _called(calls(accelerator.device, value)):
            break  # the device's memory is full: what was read before shows how fast it filled
        if number % STEP == 0:
            accelerator.synchronize()
            accelerator.release()
            trim_heap()
            readings["host"].append(own_bytes())
            if accelerator.device.type != "cpu":
                with contextlib.suppress(RuntimeError):
                    used = used_bytes(accelerator)
                    readings["device"] += [] if used is None else [used]
    found = []
    for memory, read in readings.items():
        slope = growth_per_step(read[len(read) // 2 :])
        if slope is not None:
            found.append(MemoryGrowth(memory, slope / STEP, len(values)))
    return found


def _called(calls: Iterator[Callable[[], object]]) -> bool:
    """Call each; what the device does not have is left out. False where its memory has run out."""
    try:
        for call in calls:
            try:
                call()
            except (RuntimeError, NotImplementedError, TypeError) as problem:
                if not is_unsupported(problem):
                    raise
    except torch.OutOfMemoryError:
        return False
    return True
