"""What the stack's layers report of the memory in use, beside what was allocated. Only workers import this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator

MIB = 2**20


@dataclass(frozen=True, slots=True)
class FigureComparison:
    """How a source's figure moved while memory was allocated, and after it was given back; None if it has no figure."""

    source: str
    allocated_bytes: int
    rise_bytes: int | None = None
    left_bytes: int | None = None
    refusal: str | None = None

    @property
    def error(self) -> float | None:
        """The deviation of the rise, and of its end, relative to what was allocated: the larger one."""
        if self.rise_bytes is None or self.left_bytes is None:
            return None
        return max(abs(self.rise_bytes - self.allocated_bytes), abs(self.left_bytes)) / self.allocated_bytes


def compare(accelerator: Accelerator, size_bytes: int, tries: int) -> Iterator[FigureComparison]:
    """Allocate and free a block and ask torch, the driver and the vendor's library about it, again where one is off: other
    processes use the device as well.
    """
    sources: tuple[tuple[str, Callable[[Accelerator], int | None]], ...] = (
        ("torch", _torch), ("driver", _driver), ("vendor", _vendor),
    )  # fmt: skip
    for source, ask in sources:
        best: FigureComparison | None = None
        for _ in range(tries):
            found = _once(accelerator, source, ask, size_bytes)
            if best is None or best.error is None or (found.error is not None and found.error < best.error):
                best = found
            if best.error is None or best.error < 0.05:
                break
        assert best is not None
        yield best


def _once(
    accelerator: Accelerator, source: str, ask: Callable[[Accelerator], int | None], size_bytes: int
) -> FigureComparison:
    accelerator.release()
    accelerator.synchronize()
    try:
        before = ask(accelerator)
        if before is None:
            return FigureComparison(source, size_bytes, refusal="it reports no memory in use")
        block = torch.empty(size_bytes, dtype=torch.uint8, device=accelerator.device)
        block.fill_(7)
        accelerator.synchronize()
        during = ask(accelerator)
        del block
        accelerator.release()
        accelerator.synchronize()
        after = ask(accelerator)
    except (NotImplementedError, AttributeError) as problem:
        return FigureComparison(source, size_bytes, refusal=f"{type(problem).__name__}: {problem}"[:200])
    if during is None or after is None:
        return FigureComparison(source, size_bytes, refusal="it reported memory in use, and then none")
    return FigureComparison(source, size_bytes, during - before, after - before)


def _torch(accelerator: Accelerator) -> int | None:
    allocated = getattr(accelerator.stack.module(), "memory_allocated", None)
    return None if allocated is None else int(allocated(accelerator.device))


def _driver(accelerator: Accelerator) -> int | None:
    reading = accelerator.memory()
    return None if reading is None else reading[1] - reading[0]


def _vendor(accelerator: Accelerator) -> int | None:
    reading = accelerator.reading()
    used = None if reading is None else reading.value("memory_used_bytes")
    return None if used is None else int(used)
