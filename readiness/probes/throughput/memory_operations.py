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


def operations(accelerator: Accelerator, size_bytes: int) -> Iterator[Operation]:
    """Yield the operations of STREAM, writing alone, reading alone, and a gather of random rows, on float32 blocks."""
    count = max(size_bytes // 4 // _COLUMNS, 1) * _COLUMNS
    a, b = (inputs.drawn(accelerator, (count,), torch.float32, "memory", name) for name in ("a", "b"))
    out = torch.empty_like(a)
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
    index = torch.randperm(rows, generator=accelerator.generator("throughput", "gather"))
    chosen, gathered = index.to(a.device), out.view(-1, _COLUMNS)
    yield Operation(
        "gather", 2 * width + 8.0 * rows, lambda: torch.index_select(table, 0, chosen, out=gathered), gathered,
        lambda: _rows(a, index[: some // _COLUMNS]),
    )  # fmt: skip


def measure(accelerator: Accelerator, size_bytes: int, *, budget_s: float) -> Iterator[tuple[Operation, Timing]]:
    """Time each operation for its part of the budget. Raises what the device raises."""
    for operation in operations(accelerator, size_bytes):
        yield operation, timing.measured(accelerator, operation.call, budget_s=budget_s / 7, least=3)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Return these rows of a block, taken on the host."""
    return values.cpu().view(-1, _COLUMNS)[index].flatten()
