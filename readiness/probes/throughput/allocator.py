"""Allocator of a device: how long requests take, what fragments leave, how much can be had. Only workers import this."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics.unsupported import is_out_of_memory
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Timing

Tensor = torch.Tensor
MIB = 2**20
#: Sizes of blocks, in powers of two, that a training step asks for: a bias to an activation.
_SMALLEST, _LARGEST = 2**12, 2**26
#: Requests are halved down to this size where there is no room.
_FINEST = 2**20


@dataclass(frozen=True, slots=True)
class Requests:
    """Seconds of a request with its release: from the device, and of memory that the stack has kept."""

    fresh: Timing
    kept: Timing


def requests(accelerator: Accelerator, size_bytes: int, *, budget_s: float) -> Requests:
    """Time requests of one size, with their release: after all kept memory was given back, and right after the last one."""
    clock = timing.clock_of(accelerator)

    def ask() -> None:
        torch.empty(size_bytes, dtype=torch.uint8, device=accelerator.device)

    def fresh() -> float:
        accelerator.release()
        return clock(ask)

    ask()
    return Requests(
        timing.sampled(fresh, budget_s=budget_s / 2, least=5, most=50),
        timing.sampled(lambda: clock(ask), budget_s=budget_s / 2, least=20, most=500),
    )


@dataclass(frozen=True, slots=True)
class Fragments:
    """Bytes that were given back in pieces, and of those the bytes that the device has again; number of all blocks."""

    freed_bytes: int
    returned_bytes: int
    blocks: int

    @property
    def share(self) -> float:
        """Share of what was given back that can be used again, for blocks of any size."""
        return min(1.0, max(0.0, self.returned_bytes / self.freed_bytes))


def fragments(accelerator: Accelerator, total_bytes: int) -> Fragments | None:
    """Fill `total_bytes` with blocks of random sizes, give every other one back, and see how much the device has again.

    A stack cuts blocks out of larger ones, and can give back only those of which nothing is held. None if the stack does not
    report its free memory.
    """
    draw = accelerator.generator("throughput", "allocator")
    blocks, held = list[Tensor](), 0
    while held < total_bytes:
        exponent = float(torch.rand((), generator=draw)) * (_LARGEST.bit_length() - _SMALLEST.bit_length())
        size = min(int(_SMALLEST * 2**exponent), total_bytes - held)
        blocks.append(torch.empty(max(size, 1), dtype=torch.uint8, device=accelerator.device))
        held += blocks[-1].numel()
    accelerator.release()
    full, count = accelerator.memory(), len(blocks)
    freed = sum(block.numel() for block in blocks[::2])
    del blocks[::2]
    accelerator.release()
    after = accelerator.memory()
    blocks.clear()
    accelerator.release()
    return None if full is None or after is None else Fragments(freed, after[0] - full[0], count)


def capacity(accelerator: Accelerator, most_bytes: int) -> int:
    """Return how many bytes, up to a number of them, can be allocated at once; all are given back."""
    held, size, got = list[Tensor](), max(most_bytes // 16, _FINEST), 0
    while size >= _FINEST and got < most_bytes:
        block = _request(accelerator, min(size, most_bytes - got))
        if block is None:
            size //= 2
        else:
            held.append(block)
            got += block.numel()
    held.clear()
    accelerator.release()
    return got


def _request(accelerator: Accelerator, size: int) -> Tensor | None:
    """Return a block of so many bytes; None if there is no room. Raises every other error."""
    try:
        return torch.empty(max(size, 1), dtype=torch.uint8, device=accelerator.device)
    except (RuntimeError, MemoryError) as problem:
        if not is_out_of_memory(problem):
            raise
        return None
