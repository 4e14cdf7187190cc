"""The same sum of random numbers again and again: whether it is the same to the bit, and how far off it is in any case.

Random numbers do round: a result that depends on who came first changes from call to call, and differs between ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from readiness.multichip.comparing import digest
from readiness.multichip.known_answers import scatter_single
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import Json, RankContext


def reports(context: RankContext, dtype: torch.dtype, name: str, calls: Counter[str]) -> Iterator[Json]:
    """A report for all_reduce and one for reduce_scatter, unless the library refuses it."""
    world, size = context.world_size, context.settings["repeat_size"]
    size += -size % world
    every = [_values(context, dtype, name, rank, size) for rank in range(world)]
    exact = torch.stack([values.double() for values in every]).sum(0)
    most = torch.stack([values.double().abs() for values in every]).sum(0)
    part = slice(context.rank * size // world, (context.rank + 1) * size // world)
    scatter = scatter_single()

    def all_reduce(values: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(values)
        return values

    def reduce_scatter(values: torch.Tensor) -> torch.Tensor:
        found = torch.empty(size // world, dtype=dtype, device=values.device)
        scatter(found, values)
        return found

    mine = every[context.rank]
    yield from _repeated(context, "all_reduce_sum", all_reduce, mine, (exact, most), calls)
    yield from _repeated(context, "reduce_scatter", reduce_scatter, mine, (exact[part], most[part]), calls)


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
) -> Iterator[Json]:
    """`digests` of the results, the largest `spread` between them over the largest result, and the largest `error`.

    The error is told in units of what one rounding for each rank after the first may cost, eps times the sum of the
    magnitudes: rounding in any order stays below 1.
    """
    name = str(values.dtype).removeprefix("torch.")
    function = "all_reduce" if operation.startswith("all_reduce") else operation
    unit = torch.finfo(values.dtype).eps * max(1, context.world_size - 1) * known[1]
    digests: list[str] = []
    first: torch.Tensor | None = None
    spread = error = 0.0
    with unsupported_as_reason() as refusal:
        for number in range(context.settings["repeats"]):
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
        return  # told by the operation's own report
    yield {"repeat": name, "op": operation, "digests": digests, "spread": spread, "error": error}


def _largest(values: torch.Tensor) -> float:
    """Infinite where one of them is no number."""
    return float(values.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
