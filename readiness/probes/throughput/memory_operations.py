"""Bandwidth of simple operations on large blocks, and of random gathers. Only workers import this: it imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator
from readiness.probes.throughput import inputs, timing
from readiness.probes.throughput.timing import Timing

Tensor = torch.Tensor
#: Columns of the table whose rows are gathered: 512 bytes in a row, as a head of keys in bfloat16 for two tokens.
_COLUMNS = 128
#: Elements of a result that are compared with the host's.
_COMPARED = 4096
_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: bytes that it reads and writes, its call, its result, and the result of some elements on the host."""

    name: str
    bytes: float
    call: Callable[[], object]
    result: Tensor
    expected: Callable[[], Tensor]

    def wrong(self) -> int:
        """Return how many of the compared elements differ from the host's by more than a rounding."""
        wanted = self.expected()
        found = self.result.flatten()[: wanted.numel()].cpu()
        return int((~torch.isclose(found, wanted, rtol=1e-6, atol=1e-6)).sum())


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of memory: two that are read, one that is written, and the rows that are gathered, on host and device."""

    a: Tensor
    b: Tensor
    out: Tensor
    index: Tensor
    chosen: Tensor

    @classmethod
    def drawn(cls, accelerator: Accelerator, size_bytes: int) -> Blocks:
        """Return blocks of about so many bytes of random float32 numbers."""
        count = max(size_bytes // 4 // _COLUMNS, 1) * _COLUMNS
        a, b = (inputs.drawn(accelerator, (count,), torch.float32, "memory", name) for name in ("a", "b"))
        index = torch.randperm(count // _COLUMNS, generator=accelerator.generator("throughput", "gather"))
        return cls(a, b, torch.zeros_like(a), index, index.to(a.device))

    def renewed(self) -> Blocks:
        """Return the same in memory of their own."""
        return Blocks(self.a.clone(), self.b.clone(), self.out.clone(), self.index, self.chosen)


def operations(blocks: Blocks) -> Iterator[Operation]:
    """Yield the operations of STREAM, writing alone, reading alone, and a gather of random rows, on float32 blocks."""
    a, b, out, index, chosen = blocks.a, blocks.b, blocks.out, blocks.index, blocks.chosen
    count = a.numel()
    some = min(count, _COMPARED)
    first, second = a[:some].cpu(), b[:some].cpu()
    width = float(4 * count)
    yield Operation("copy", 2 * width, lambda: out.copy_(a), out, lambda: first)
    yield Operation("scale", 2 * width, lambda: torch.mul(a, _FACTOR, out=out), out, lambda: first * _FACTOR)
    yield Operation("add", 3 * width, lambda: torch.add(a, b, out=out), out, lambda: first + second)
    yield Operation(
        "triad", 3 * width, lambda: torch.add(a, b, alpha=_FACTOR, out=out), out, lambda: first + _FACTOR * second
    )
    yield Operation("write", width, lambda: out.fill_(_FACTOR), out, lambda: torch.full((some,), _FACTOR))
    total = torch.empty((), device=a.device)
    yield Operation("read", width, lambda: torch.amax(a, 0, out=total), total, lambda: a.cpu().amax().view(1))
    table, rows = a.view(-1, _COLUMNS), count // _COLUMNS
    gathered = out.view(-1, _COLUMNS)
    yield Operation(
        "gather", 2 * width + 8.0 * rows, lambda: torch.index_select(table, 0, chosen, out=gathered), gathered,
        lambda: _rows(a, index[: some // _COLUMNS]),
    )  # fmt: skip


def measure(accelerator: Accelerator, size_bytes: int, *, budget_s: float) -> Iterator[tuple[Operation, Timing]]:
    """Time each operation for its part of the budget. Raises what the device raises.

    On devices of the host's memory in turns, each round in blocks of its own; on others one after the other, so that what
    was measured is told before the next begins.
    """
    blocks = Blocks.drawn(accelerator, size_bytes)
    chosen, budget_s, least = list(operations(blocks)), budget_s / 7, 3
    if not timing.on_host(accelerator):
        for operation in chosen:
            yield operation, timing.measured(accelerator, operation.call, budget_s=budget_s, least=least)
        return
    timed = timing.in_turns(
        accelerator, [operation.call for operation in chosen], budget_s=budget_s, least=timing.ROUNDS,
        renewed=lambda: [operation.call for operation in operations(blocks.renewed())], size_bytes=3 * blocks.a.nbytes,
    )  # fmt: skip
    for operation, one in zip(chosen, timed, strict=True):
        operation.call()  # the next ones have written over its result
        yield operation, one


@dataclass(frozen=True, slots=True)
class BlockCopy:
    """A block of random bytes and where it is copied to."""

    source: Tensor
    target: Tensor

    @classmethod
    def drawn(cls, accelerator: Accelerator, size_bytes: int) -> BlockCopy:
        """Return a block of so many bytes on the device, and memory for its copy."""
        drawn = torch.randint(0, 256, (2**22 + 1,), dtype=torch.uint8, generator=accelerator.generator("bandwidth"))
        source = drawn.repeat(-(-size_bytes // drawn.numel()))[:size_bytes].to(accelerator.device)
        return cls(source, torch.empty_like(source))

    def copy(self) -> None:
        """Copy the block."""
        self.target.copy_(self.source)

    def renewed(self) -> BlockCopy:
        """Return the same in memory of its own."""
        return BlockCopy(self.source.clone(), self.target.clone())

    def wrong_bytes(self) -> int:
        """Return how many bytes differ from the block's."""
        return 0 if torch.equal(self.source, self.target) else int((self.source.cpu() != self.target.cpu()).sum())

    def timed(self, accelerator: Accelerator, *, budget_s: float) -> Timing:
        """Time the copy."""
        return timing.measured(
            accelerator, self.copy, budget_s=budget_s, renewed=lambda: self.renewed().copy,
            size_bytes=2 * self.source.nbytes,
        )  # fmt: skip


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Return these rows of a block, taken on the host."""
    return values.cpu().view(-1, _COLUMNS)[index].flatten()
