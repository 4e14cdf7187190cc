"""Cases of collectives with a root: broadcast, reduce, gather and scatter, to and from every rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from readiness.probes.ranks_common.exact_inputs import Case, Inputs, exact_sum

#: Up to so many elements every rank is the root in turn, in the first round; otherwise one is, another for each size.
EVERY_ROOT = 4096


def _roots(inputs: Inputs) -> Iterator[int]:
    world_size = inputs.context.world_size
    everybody = inputs.size <= EVERY_ROOT and inputs.round == 0
    yield from range(world_size) if everybody else [(inputs.size + inputs.round) % world_size]


def _broadcast(inputs: Inputs) -> Iterator[Case]:
    for root in _roots(inputs):
        own_input = inputs.values(inputs.context.rank, inputs.size, root)
        yield Case(own_input, inputs.values(root, inputs.size, root), _broadcast_from(root), in_place=True)


def _broadcast_from(root: int) -> Callable[[torch.Tensor, torch.Tensor], object]:
    return lambda _, out: dist.broadcast(out, src=root)


def _reduce(inputs: Inputs) -> Iterator[Case]:
    """Sum at one rank; the others' output is undefined, but only within the buffer."""
    rank = inputs.context.rank
    every = inputs.all_values(inputs.size, summed=True)
    expected = exact_sum(every)
    for root in _roots(inputs):
        yield Case(every[rank], expected, _reduce_to(root), in_place=True, defined=rank == root, function="reduce")


def _reduce_to(root: int) -> Callable[[torch.Tensor, torch.Tensor], object]:
    return lambda _, out: dist.reduce(out, dst=root)


def _gather(inputs: Inputs, *, strided: bool = False) -> Iterator[Case]:
    """Gather every rank's part at one rank. With `strided`, every other element of a buffer is sent."""
    rank, size, step = inputs.context.rank, inputs.part_size, 2 if strided else 1
    every = inputs.all_values(step * size)
    expected = torch.cat([values[::step] for values in every])
    for root in _roots(inputs):
        yield Case(every[rank], expected if rank == root else expected[:0], _gather_to(root, rank, step))


def _gather_to(root: int, rank: int, step: int) -> Callable[[torch.Tensor, torch.Tensor], object]:
    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        parts = list(out.tensor_split(dist.get_world_size()))
        dist.gather(source[::step], parts if rank == root else None, dst=root)

    return call


def _scatter(inputs: Inputs) -> Iterator[Case]:
    """Scatter one rank's parts to all ranks."""
    rank, world_size, size = inputs.context.rank, inputs.context.world_size, inputs.part_size
    for root in _roots(inputs):
        whole = inputs.values(root, world_size * size, root)
        sent = whole if rank == root else whole[:0]
        yield Case(sent, whole[rank * size : (rank + 1) * size], _scatter_from(root, rank))


def _scatter_from(root: int, rank: int) -> Callable[[torch.Tensor, torch.Tensor], object]:
    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        parts = list(source.tensor_split(dist.get_world_size()))
        dist.scatter(out, parts if rank == root else None, src=root)

    return call


OPERATIONS: dict[str, Callable[[Inputs], Iterator[Case]]] = {
    "broadcast": _broadcast,
    "reduce_sum": _reduce,
    "gather": _gather,
    "gather_strided": lambda inputs: _gather(inputs, strided=True),
    "scatter": _scatter,
}
