"""NaN and infinity through every reduction.

The largest gradient of all ranks is looked for with MAX, an overflow in one rank's scaled gradients with a sum: what gets
lost there lets a broken step through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from readiness.multichip.known_answers import scatter_single
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import Json, RankContext

#: Reductions by their name in labels.
REDUCTIONS = {"sum": "SUM", "max": "MAX", "min": "MIN", "prod": "PRODUCT", "avg": "AVG"}


def reports(context: RankContext, dtype: torch.dtype, name: str, calls: Counter[str]) -> Iterator[Json]:
    """How many NaN are lost on this rank, and how many positions with infinities hold something else than they must."""
    for combine, member in REDUCTIONS.items():
        if f"{combine} {name}" in context.accelerator.stack.beyond_reductions:
            continue
        operator = getattr(dist.ReduceOp, member)
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
    """Every rank gets the whole, to be judged like the others: what it puts in is as often there as there are ranks."""
    found = torch.empty_like(buffer)
    scatter_single()(found, buffer.repeat(dist.get_world_size()))
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
) -> Iterator[Json]:
    """`only` is the one rank that holds a result, None where all do."""
    rank, world = context.rank, context.world_size
    function = "all_reduce" if operation.startswith("all_reduce") else operation
    values = torch.ones(4 * world, dtype=torch.float64)
    values[rank] = torch.nan
    values[world + rank] = torch.inf
    values[2 * world + rank] = -torch.inf
    values[3 * world + rank] = torch.inf  # and there the rank before puts in the opposite
    if world > 1:
        values[3 * world + (rank + 1) % world] = -torch.inf
    calls[function] += 1
    title = f"{operation} with NaN and infinity, {name} ({function} number {calls[function]})"
    with unsupported_as_reason() as refusal, context.step(title):
        found = call(values.to(dtype).to(context.device))
        context.accelerator.synchronize()
    if refusal.reason:
        return
    if only is None or rank == only:
        result = found.cpu().double()
        right = torch.tensor(_expected(combine, world), dtype=torch.float64).repeat_interleave(world)
        wrong = (result[world:] != right) & ~(result[world:].isnan() & right.isnan())
        lost = int((~result[:world].isnan()).sum())
        yield {"nan": operation, "dtype": name, "lost": lost, "infinities_wrong": int(wrong.sum())}


def _expected(combine: str, world: int) -> list[float]:
    """What must come of one positive infinity, of one negative, and of both, among ones."""
    inf, nan = torch.inf, torch.nan
    if world == 1:
        return [inf, -inf, inf]
    return {
        "sum": [inf, -inf, nan], "avg": [inf, -inf, nan], "prod": [inf, -inf, -inf],
        "max": [inf, 1.0, inf], "min": [1.0, -inf, -inf],
    }[combine]  # fmt: skip
