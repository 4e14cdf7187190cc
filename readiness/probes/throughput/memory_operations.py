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
    result: Callable[[], Tensor]
    expected: Callable[[], Tensor]

    def wrong(self) -> int:
        """Return how many of the compared elements differ from the host's by more than a rounding."""
        wanted = self.expected()
        found = self.result().flatten()[: wanted.numel()].cpu()
        return int((~torch.isclose(found, wanted, rtol=1e-6, atol=1e-6)).sum())


@dataclass(slots=True)
class Blocks:
    """Blocks of memory: two that are read, one that is written, a number, and the rows that are gathered."""

    a: Tensor
    b: Tensor
    out: Tensor
    total: Tensor
    rows: Tensor

    @classmethod
    def drawn(cls, accelerator: Accelerator, size_bytes: int) -> Blocks:
        """Return blocks of about so many bytes of random float32 numbers."""
        count = max(size_bytes // 4 // _COLUMNS, 1) * _COLUMNS
        a, b = (inputs.drawn(accelerator, (count,), torch.float32, "memory", name) for name in ("a", "b"))
        rows = torch.randperm(count // _COLUMNS, generator=accelerator.generator("throughput", "gather"))
        return cls(a, b, torch.zeros_like(a), torch.empty((), device=a.device), rows.to(a.device))

    def move(self) -> None:
        """Move the blocks one by one: the first to new memory, the next where it lay or to new memory as well."""
        self.a = self.a.clone()
        self.b = self.b.clone()
        self.out = self.out.clone()


def operations(blocks: Blocks) -> Iterator[Operation]:
    """Yield the operations of STREAM, writing alone, reading alone, and a gather of random rows, on float32 blocks."""
    count = blocks.a.numel()
    some, width = min(count, _COMPARED), float(4 * count)
    first, second, index = blocks.a[:some].cpu(), blocks.b[:some].cpu(), blocks.rows[: some // _COLUMNS].cpu()

    def out() -> Tensor:
        return blocks.out

    yield Operation("copy", 2 * width, lambda: blocks.out.copy_(blocks.a), out, lambda: first)
    yield Operation(
        "scale", 2 * width, lambda: torch.mul(blocks.a, _FACTOR, out=blocks.out), out, lambda: first * _FACTOR
    )
    yield Operation("add", 3 * width, lambda: torch.add(blocks.a, blocks.b, out=blocks.out), out, lambda: first + second)
    yield Operation(
        "triad", 3 * width, lambda: torch.add(blocks.a, blocks.b, alpha=_FACTOR, out=blocks.out), out,
        lambda: first + _FACTOR * second,
    )  # fmt: skip
    yield Operation("write", width, lambda: blocks.out.fill_(_FACTOR), out, lambda: torch.full((some,), _FACTOR))
    yield Operation(
        "read", width, lambda: torch.amax(blocks.a, 0, out=blocks.total), lambda: blocks.total,
        lambda: blocks.a.cpu().amax().view(1),
    )  # fmt: skip
    yield Operation(
        "gather", 2 * width + 8.0 * blocks.rows.numel(),
        lambda: torch.index_select(
            blocks.a.view(-1, _COLUMNS), 0, blocks.rows, out=blocks.out.view(-1, _COLUMNS)
        ), out, lambda: _rows(blocks.a, index),
    )  # fmt: skip


def measure(accelerator: Accelerator, size_bytes: int, *, budget_s: float) -> Iterator[tuple[Operation, Timing]]:
    """Time each operation for its part of the budget. Raises what the device raises.

    On devices of the host's memory in turns, in each round on other memory; on others one after the other, so that what was
    measured is told before the next begins.
    """
    blocks = Blocks.drawn(accelerator, size_bytes)
    chosen, budget_s = list(operations(blocks)), budget_s / 7
    if not timing.on_host(accelerator):
        for operation in chosen:
            yield operation, timing.measured(accelerator, operation.call, budget_s=budget_s, least=3)
        return
    timed = timing.in_turns(
        accelerator, [operation.call for operation in chosen], budget_s=budget_s, least=timing.ROUNDS,
        renew=blocks.move, block_bytes=blocks.a.nbytes,
    )  # fmt: skip
    for operation, one in zip(chosen, timed, strict=True):
        operation.call()  # the next ones have written over its result
        yield operation, one


@dataclass(slots=True)
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

    def move(self) -> None:
        """Move the block and its copy, one after the other."""
        self.source = self.source.clone()
        self.target = self.target.clone()

    def wrong_bytes(self) -> int:
        """Return how many bytes of the copy differ from the block's."""
        return 0 if torch.equal(self.source, self.target) else int((self.source.cpu() != self.target.cpu()).sum())

    def timed(self, accelerator: Accelerator, *, budget_s: float) -> Timing:
        """Time the copy."""
        return timing.measured(
            accelerator, self.copy, budget_s=budget_s, renew=self.move, block_bytes=self.source.nbytes
        )  # fmt: skip


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Return these rows of a block, taken on the host."""
    return values.cpu().view(-1, _COLUMNS)[index].flatten()
