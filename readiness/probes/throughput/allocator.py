"""Allocator of a device: how long requests take, what fragments leave, how much can be had. Only workers import this."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics.unsupported import is_out_of_memory
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Timing

Tensor = torch.Tensor
MIB = 2**20
#: Sizes of blocks, in powers of two, that a training step asks for: a bias to an activation.
_SMALLEST, _LARGEST = 2**12, 2**26
#: What is left when the search for the largest request ends.
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


@dataclass(slots=True)
class Fragments:
    """What was asked for and given back in pieces, and the largest request that succeeds afterwards."""

    held_bytes: int = 0
    freed_bytes: int = 0
    largest_bytes: int = 0
    blocks: int = 0
    _held: list[Tensor] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The largest request over all that was given back."""
        return min(1.0, self.largest_bytes / self.freed_bytes) if self.freed_bytes else 0.0


def fragments(accelerator: Accelerator, total_bytes: int) -> Fragments:
    """Fill `total_bytes` with blocks of random sizes, give every other one back, and ask for one as large as possible.

    All of the rest of the memory is taken by one block meanwhile, as far as it can be: only what was given back is there.
    """
    draw = accelerator.generator("throughput", "allocator")
    found, blocks = Fragments(), list[Tensor]()
    while found.held_bytes < total_bytes:
        exponent = float(torch.rand((), generator=draw)) * (_LARGEST.bit_length() - _SMALLEST.bit_length())
        size = min(int(_SMALLEST * 2**exponent), total_bytes - found.held_bytes)
        blocks.append(torch.empty(max(size, 1), dtype=torch.uint8, device=accelerator.device))
        found.held_bytes += blocks[-1].numel()
    rest = _take_rest(accelerator)
    found.blocks = len(blocks)
    for number in range(0, len(blocks), 2):
        found.freed_bytes += blocks[number].numel()
    found.held_bytes -= found.freed_bytes
    del blocks[::2]
    found.largest_bytes = _largest(accelerator, found.freed_bytes)
    del rest, blocks
    accelerator.release()
    return found


def capacity(accelerator: Accelerator, total_bytes: int, share: float = 1.0) -> int:
    """Return how many bytes can be allocated at once, at most this share of the total; all are given back."""
    held, size, got = list[Tensor](), max(total_bytes // 16, _FINEST), 0
    while size >= _FINEST and got < share * total_bytes:
        block = _request(accelerator, min(size, int(share * total_bytes) - got))
        if block is None:
            size //= 2
        else:
            held.append(block)
            got += block.numel()
    held.clear()
    accelerator.release()
    return got


def _take_rest(accelerator: Accelerator) -> list[Tensor]:
    taken, size = list[Tensor](), 2**40
    while size >= _FINEST:
        block = _request(accelerator, size)
        if block is None:
            size //= 2
        else:
            taken.append(block)
    return taken


def _largest(accelerator: Accelerator, most: int) -> int:
    """Return the largest request up to `most` that succeeds, to a thirty-second of it."""
    low, high = 0, most
    if _request(accelerator, most) is not None:
        return most
    while high - low > max(most // 32, 1):
        middle = (low + high) // 2
        if _request(accelerator, middle) is not None:
            low = middle
        else:
            high = middle
    return low


def _request(accelerator: Accelerator, size: int) -> Tensor | None:
    """Return a block of so many bytes; None if there is no room. Raises every other error."""
    try:
        return torch.empty(max(size, 1), dtype=torch.uint8, device=accelerator.device)
    except (RuntimeError, MemoryError) as problem:
        if not is_out_of_memory(problem):
            raise
        return None
