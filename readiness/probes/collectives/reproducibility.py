"""Reproducibility: the same sum of random numbers repeated, compared to the bit and with the exact sum.

Sums of random numbers round: a result that depends on which rank came first changes from call to call and between ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.ranks_common.tensor_diff import digest
from readiness.probes.ranks_common.torch_collectives import reduce_scatter_single


@dataclass(frozen=True, slots=True)
class RepetitionReport(Report):
    """Report: digests of the results, the largest spread relative to the largest result, and the largest error.

    The error is in units of what one rounding for each rank after the first may cost, eps times the sum of the
    magnitudes: rounding in any order stays below 1.
    """

    dtype: str
    op: str
    digests: tuple[str, ...]
    spread: float
    error: float


def reports(
    context: RankContext, dtype: torch.dtype, name: str, calls: Counter[str], *, repeats: int, size: int
) -> Iterator[RepetitionReport]:
    """Yield a report of all_reduce and one of reduce_scatter, unless the library refuses it."""
    world_size = context.world_size
    size += -size % world_size
    every = [_values(context, dtype, name, rank, size) for rank in range(world_size)]
    exact = torch.stack([values.double() for values in every]).sum(0)
    most = torch.stack([values.double().abs() for values in every]).sum(0)
    part = slice(context.rank * size // world_size, (context.rank + 1) * size // world_size)
    scatter = reduce_scatter_single()

    def all_reduce(values: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(values)
        return values

    def reduce_scatter(values: torch.Tensor) -> torch.Tensor:
        found = torch.empty(size // world_size, dtype=dtype, device=values.device)
        scatter(found, values)
        return found

    own_input = every[context.rank]
    yield from _repeated(context, "all_reduce_sum", all_reduce, own_input, (exact, most), calls, repeats)
    yield from _repeated(context, "reduce_scatter", reduce_scatter, own_input, (exact[part], most[part]), calls, repeats)


def _values(context: RankContext, dtype: torch.dtype, name: str, rank: int, size: int) -> torch.Tensor:
    generator = context.accelerator.generator("collectives", "repeat", name, rank)
    return torch.randn(size, generator=generator).to(dtype)


def _repeated(
    context: RankContext,
    operation: str,
    call: Callable[[torch.Tensor], torch.Tensor],
    values: torch.Tensor,
    known: tuple[torch.Tensor, torch.Tensor],
    calls: Counter[str],
    repeats: int,
) -> Iterator[RepetitionReport]:
    """Repeat a call; `known` are the exact sums and the sums of magnitudes."""
    name = str(values.dtype).removeprefix("torch.")
    function = "all_reduce" if operation.startswith("all_reduce") else operation
    unit = torch.finfo(values.dtype).eps * max(1, context.world_size - 1) * known[1]
    digests: list[str] = []
    first: torch.Tensor | None = None
    spread = error = 0.0
    with unsupported_as_reason() as refusal:
        for number in range(repeats):
            buffer = values.clone().to(context.device)
            calls[function] += 1
            with context.step(f"repetition {number} of {operation}, {name} ({function} number {calls[function]})"):
                found = call(buffer)
                context.accelerator.synchronize()
            result = found.cpu().double()
            digests.append(digest(found))
            first = result if first is None else first
            spread = max(spread, _largest((result - first).abs() / first.abs().max()))
            error = max(error, _largest((result - known[0]).abs() / unit))
    if refusal.reason:
        return  # the operation's own report says so
    yield RepetitionReport(name, operation, tuple(digests), spread, error)


def _largest(values: torch.Tensor) -> float:
    """Return the largest value; infinite if one of them is NaN."""
    return float(values.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
