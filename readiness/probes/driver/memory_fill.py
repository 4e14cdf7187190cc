"""Filling of a device's memory with a pattern, reading it back, and over-allocation. Only workers import this."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from readiness.accelerators.base import Accelerator

GIB = 2**30
_BLOCK_BYTES = 2**24
_SLACK_BYTES = 2**20
_STEP = 4099  # odd: consecutive blocks start at offsets that do not repeat within the slack
_LEAST_PIECE_BYTES = 2**26


@dataclass(slots=True)
class MemoryFill:
    """Filled memory of the device in pieces, and the random pattern whose windows their blocks contain."""

    pattern: torch.Tensor
    on_device: torch.Tensor
    pieces: list[torch.Tensor] = field(default_factory=list)
    refusal: str | None = None

    @property
    def allocated_bytes(self) -> int:
        """Allocated bytes, including the pattern."""
        return self.on_device.numel() + sum(piece.numel() for piece in self.pieces)


def fill(accelerator: Accelerator, target_bytes: int, piece_bytes: int) -> MemoryFill:
    """Allocate up to `target_bytes` in pieces, smaller after a refusal, and write the pattern to all of them.

    Every block holds another window of the pattern: pieces that overlap in memory would overwrite each other's.
    """
    pattern = torch.randint(
        0, 256, (_BLOCK_BYTES + _SLACK_BYTES,), dtype=torch.uint8, generator=accelerator.generator("memory")
    )
    device = accelerator.device
    on_device = torch.empty(pattern.shape, dtype=torch.uint8, device=device).copy_(pattern)
    memory = MemoryFill(pattern, on_device)
    size, least = piece_bytes, min(piece_bytes, _LEAST_PIECE_BYTES)
    while (left := target_bytes - memory.allocated_bytes) > 0 and size >= min(least, left):
        try:
            memory.pieces.append(torch.empty(min(size, left), dtype=torch.uint8, device=device))
        except (RuntimeError, MemoryError) as problem:
            memory.refusal = f"{type(problem).__name__}: {problem}"
            size //= 2
    for position, block in enumerate(_blocks(memory)):
        block.copy_(_window(memory.on_device, position, block.numel()))
    accelerator.synchronize()
    return memory


def wrong_bytes(memory: MemoryFill) -> int:
    """Return the number of wrong bytes: every block is compared on the device, the first of each piece on the host."""
    wrong = position = 0
    for piece in memory.pieces:
        for number, block in enumerate(_split(piece)):
            differing = _differing(block, _window(memory.on_device, position, block.numel()))
            if number == 0:  # the same bytes once more, without trusting the device's comparison or its pattern
                differing = max(differing, _differing(block.cpu(), _window(memory.pattern, position, block.numel())))
            wrong += differing
            position += 1
    return wrong


def _blocks(memory: MemoryFill) -> Iterator[torch.Tensor]:
    for piece in memory.pieces:
        yield from _split(piece)


def _split(piece: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.split(piece, _BLOCK_BYTES)


def _window(pattern: torch.Tensor, position: int, size: int) -> torch.Tensor:
    offset = (position + 1) * _STEP % _SLACK_BYTES
    return pattern[offset : offset + size]


def _differing(found: torch.Tensor, wanted: torch.Tensor) -> int:
    return 0 if torch.equal(found, wanted) else int((found.cpu() != wanted.cpu()).sum())


@dataclass(frozen=True, slots=True)
class Refusal:
    """Result of an over-allocation: the error, and whether a program can recognise it."""

    requested_bytes: int
    clean: bool
    text: str


def over_allocate(accelerator: Accelerator, requested_bytes: int) -> Refusal:
    """Request more memory than there is. A clean error is torch's OutOfMemoryError, or mentions memory."""
    try:
        tensor = torch.empty(requested_bytes, dtype=torch.uint8, device=accelerator.device)
        accelerator.synchronize()
    except (RuntimeError, MemoryError) as problem:
        text = f"{type(problem).__name__}: {problem}".splitlines()[0]
        typed = isinstance(problem, torch.OutOfMemoryError | MemoryError)
        return Refusal(requested_bytes, typed or "memory" in text.lower() or "alloc" in text.lower(), text)
    del tensor
    return Refusal(requested_bytes, False, "it was allocated without an error")


def works(accelerator: Accelerator, size_bytes: int) -> str | None:
    """Return why the device does not allocate and compute now, or None. Values are exact in float32."""
    side = max(16, min(512, int((size_bytes / 4) ** 0.5)))
    drawn = torch.randint(-8, 9, (side, side), generator=accelerator.generator("memory", "works"))
    try:
        x = drawn.float().to(accelerator.device)
        buffer = torch.empty(size_bytes, dtype=torch.uint8, device=accelerator.device)
        result = (x @ x + x).cpu()
        del buffer
    except (RuntimeError, MemoryError) as problem:
        return f"{type(problem).__name__}: {problem}".splitlines()[0]
    return None if torch.equal(result.long(), drawn @ drawn + drawn) else "it computes wrong results"
