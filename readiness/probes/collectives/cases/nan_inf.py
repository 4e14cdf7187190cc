"""Cases of reductions with NaN and infinity.

The largest gradient of all ranks is found with MAX, an overflow in one rank's scaled gradients with a sum: a NaN that is
lost there lets a broken step through.
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
from readiness.probes.ranks_common.torch_collectives import reduce_scatter_single

#: Reductions by their name in labels.
REDUCTIONS = {"sum": "SUM", "max": "MAX", "min": "MIN", "prod": "PRODUCT", "avg": "AVG"}


@dataclass(frozen=True, slots=True)
class NanReport(Report):
    """Report: NaN that were lost on this rank, and positions with wrong values among the infinities."""

    op: str
    dtype: str
    nan_lost: int
    infinities_wrong: int


def reports(context: RankContext, dtype: torch.dtype, name: str, calls: Counter[str]) -> Iterator[NanReport]:
    """Yield a report of each reduction that the library has."""
    for combine, operator_name in REDUCTIONS.items():
        if f"{combine} {name}" in context.accelerator.stack.unsupported_reductions:
            continue
        operator = getattr(dist.ReduceOp, operator_name)
        yield from _report(context, f"all_reduce_{combine}", dtype, name, calls, _all_reduce(operator), combine)
    yield from _report(context, "reduce_sum", dtype, name, calls, _reduce, "sum", only=0)
    yield from _report(context, "reduce_scatter", dtype, name, calls, _reduce_scatter, "sum")


def _all_reduce(operator: object) -> Callable[[torch.Tensor], torch.Tensor]:
    def call(buffer: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(buffer, op=operator)
        return buffer

    return call


def _reduce(buffer: torch.Tensor) -> torch.Tensor:
    dist.reduce(buffer, dst=0)
    return buffer


def _reduce_scatter(buffer: torch.Tensor) -> torch.Tensor:
    """Scatter the same values to every rank, so that the result is judged like the others."""
    found = torch.empty_like(buffer)
    reduce_scatter_single()(found, buffer.repeat(dist.get_world_size()))
    return found


def _report(
    context: RankContext,
    operation: str,
    dtype: torch.dtype,
    name: str,
    calls: Counter[str],
    call: Callable[[torch.Tensor], torch.Tensor],
    combine: str,
    only: int | None = None,
) -> Iterator[NanReport]:
    """Return a report. `only` is the rank that holds a result, None if all do."""
    rank, world_size = context.rank, context.world_size
    function = "all_reduce" if operation.startswith("all_reduce") else operation
    values = torch.ones(4 * world_size, dtype=torch.float64)
    values[rank] = torch.nan
    values[world_size + rank] = torch.inf
    values[2 * world_size + rank] = -torch.inf
    values[3 * world_size + rank] = torch.inf  # and there the rank before puts in the opposite
    if world_size > 1:
        values[3 * world_size + (rank + 1) % world_size] = -torch.inf
    calls[function] += 1
    title = f"{operation} with NaN and infinity, {name} ({function} number {calls[function]})"
    with unsupported_as_reason() as refusal, context.step(title):
        found = call(values.to(dtype).to(context.device))
        context.accelerator.synchronize()
    if refusal.reason:
        return
    if only is None or rank == only:
        result = found.cpu().double()
        right = torch.tensor(_expected(combine, world_size), dtype=torch.float64).repeat_interleave(world_size)
        wrong = (result[world_size:] != right) & ~(result[world_size:].isnan() & right.isnan())
        lost = int((~result[:world_size].isnan()).sum())
        yield NanReport(operation, name, lost, int(wrong.sum()))


def _expected(combine: str, world_size: int) -> list[float]:
    """Return the results of one positive infinity, of one negative, and of both, among ones."""
    inf, nan = torch.inf, torch.nan
    if world_size == 1:
        return [inf, -inf, inf]
    return {
        "sum": [inf, -inf, nan], "avg": [inf, -inf, nan], "prod": [inf, -inf, -inf],
        "max": [inf, 1.0, inf], "min": [1.0, -inf, -inf],
    }[combine]  # fmt: skip
