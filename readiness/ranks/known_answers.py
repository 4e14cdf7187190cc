"""Known answers: for every collective what each rank puts in, and what each must then hold.

Inputs are random integers that depend on the position, the rank and the run's seed, so small that every order of adding
them up is exact in the type at hand. A constant input would not show chunks that were swapped, and the common way out,
not to check where a constant would overflow, leaves large groups unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from readiness.ranks.values import RankContext


@dataclass(frozen=True, slots=True)
class Case:
    """One call: what this rank puts in and must hold afterwards (both on the CPU), and the call on device buffers.

    `call` gets the input and the output, which are the same buffer where `in_place`.
    """

    sent: torch.Tensor
    expected: torch.Tensor
    call: Callable[[torch.Tensor, torch.Tensor], object]
    in_place: bool = False


def largest_exact(dtype: torch.dtype) -> int:
    """Up to here the type holds all integers exactly; capped where more would tell no more. No input reaches it."""
    largest = int(2 / torch.finfo(dtype).eps) if dtype.is_floating_point else torch.iinfo(dtype).max
    return min(largest, 2**20)


def exact(values: torch.Tensor) -> torch.Tensor:
    """The values in a type of the CPU that holds them all and compares."""
    return values.double() if values.dtype.is_floating_point else values.long()


@dataclass(frozen=True, slots=True)
class Inputs:
    """What every rank puts into one operation; each rank can draw all of it and so knows the right answer.

    `size` is the number of elements of one rank's buffer; where that holds a part for each rank, the parts are smaller.
    """

    context: RankContext
    operation: str
    dtype: torch.dtype
    size: int
    round: int = 0
    limit: int = field(init=False)

    def __post_init__(self) -> None:
        """The largest integer of those that inputs and results may reach."""
        object.__setattr__(self, "limit", largest_exact(self.dtype))

    @property
    def part_size(self) -> int:
        """Elements of the part that goes to one rank; drawing them all would else grow with the square of the ranks."""
        return -(-self.size // self.context.world_size)

    def values(self, rank: int, numel: int, part: object = "", *, summed: bool = False) -> torch.Tensor:
        """A rank's input of `numel` elements. With `summed`, every partial sum over all ranks is exact in the type."""
        world = self.context.world_size
        # One below the limit, which fills guards and outputs beforehand: an element that was never written is seen.
        most = max(1, (self.limit - 1) // world) if summed else self.limit - 1
        lowest = 0 if not self.dtype.is_signed else -most
        labels = (self.operation, self.dtype, self.size, self.round, rank, part)
        generator = self.context.accelerator.generator("collectives", *labels)
        drawn = torch.randint(lowest, most + 1, (numel,), generator=generator)
        if summed and world >= self.limit:  # too many ranks for all of them to put something in at every position
            turns = -(-world // (self.limit - 1))
            drawn *= (torch.arange(numel) + rank) % turns == 0
        return drawn.to(self.dtype)

    def all_values(self, numel: int, *, summed: bool = False) -> list[torch.Tensor]:
        """The inputs of all ranks."""
        return [self.values(rank, numel, summed=summed) for rank in range(self.context.world_size)]


def _reduce(inputs: Inputs, combine: str) -> Iterator[Case]:
    every = inputs.all_values(inputs.size, summed=combine == "sum")
    stacked = torch.stack([exact(values) for values in every])
    expected = stacked.sum(0) if combine == "sum" else stacked.amax(0) if combine == "max" else stacked.amin(0)
    operator = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}[combine]
    yield Case(
        every[inputs.context.rank],
        expected.to(inputs.dtype),
        lambda _, out: dist.all_reduce(out, op=operator),
        in_place=True,
    )


def _all_gather(inputs: Inputs) -> Iterator[Case]:
    every = inputs.all_values(inputs.size)
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    yield Case(every[inputs.context.rank], torch.cat(every), lambda source, out: gather(out, source))


def _reduce_scatter(inputs: Inputs) -> Iterator[Case]:
    rank, world, size = inputs.context.rank, inputs.context.world_size, inputs.part_size
    every = inputs.all_values(world * size, summed=True)
    total = torch.stack([exact(values) for values in every]).sum(0)
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    expected = total.view(world, size)[rank].to(inputs.dtype)
    yield Case(every[rank], expected, lambda source, out: scatter(out, source))


def _all_to_all(inputs: Inputs, *, even: bool) -> Iterator[Case]:
    rank, world, size = inputs.context.rank, inputs.context.world_size, inputs.part_size

    def count(source: int, target: int) -> int:
        return size if even else size // (1 + (source + 2 * target) % 3) + (source + target) % 2

    outgoing = [[count(source, target) for target in range(world)] for source in range(world)]
    every = [inputs.values(source, sum(outgoing[source])) for source in range(world)]
    chunks = [torch.split_with_sizes(values, counts) for values, counts in zip(every, outgoing, strict=True)]
    incoming = [outgoing[source][rank] for source in range(world)]
    splits = {} if even else {"output_split_sizes": incoming, "input_split_sizes": outgoing[rank]}
    yield Case(
        every[rank],
        torch.cat([chunks[source][rank] for source in range(world)]),
        lambda source, out: dist.all_to_all_single(out, source, **splits),  # type: ignore[arg-type]
    )


def _broadcast(inputs: Inputs) -> Iterator[Case]:
    for root in range(inputs.context.world_size):
        mine = inputs.values(inputs.context.rank, inputs.size, root)
        yield Case(mine, inputs.values(root, inputs.size, root), _broadcast_from(root), in_place=True)


def _broadcast_from(root: int) -> Callable[[torch.Tensor, torch.Tensor], object]:
    return lambda _, out: dist.broadcast(out, src=root)


def _send_recv(inputs: Inputs) -> Iterator[Case]:
    rank, world = inputs.context.rank, inputs.context.world_size
    if world == 1:
        return
    following, previous = (rank + 1) % world, (rank - 1) % world

    def ring(source: torch.Tensor, out: torch.Tensor) -> None:
        both = [dist.P2POp(dist.isend, source, following), dist.P2POp(dist.irecv, out, previous)]
        for work in dist.batch_isend_irecv(both):
            work.wait()

    yield Case(inputs.values(rank, inputs.size), inputs.values(previous, inputs.size), ring)


#: Every operation by the name in labels.
OPERATIONS: dict[str, Callable[[Inputs], Iterator[Case]]] = {
    "all_reduce_sum": lambda inputs: _reduce(inputs, "sum"),
    "all_reduce_max": lambda inputs: _reduce(inputs, "max"),
    "all_reduce_min": lambda inputs: _reduce(inputs, "min"),
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": lambda inputs: _all_to_all(inputs, even=True),
    "all_to_all_uneven": lambda inputs: _all_to_all(inputs, even=False),
    "broadcast": _broadcast,
    "send_recv": _send_recv,
}
