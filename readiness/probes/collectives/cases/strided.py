"""Cases of collectives in strided memory: every other element of a buffer, which must be refused or come out right.

Elements between belong to somebody else: they hold what guards hold, and are compared as guards are. Where one rank alone
holds what another form would have strided (the parts that a root gathers), it is left out: a library that refuses there
refuses on one rank, and the others wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from readiness.probes.ranks_common.exact_inputs import Case, Inputs, exact_sum, largest_exact
from readiness.probes.ranks_common.torch_collectives import all_gather_single, reduce_scatter_single

Call = Callable[[torch.Tensor, torch.Tensor], object]

#: Whether the input, the output or both lie in every other element.
_INPUT, _OUTPUT, _BOTH = (2, 1), (1, 2), (2, 2)


def _spread(values: torch.Tensor, step: int) -> torch.Tensor:
    """A buffer in which the values lie `step` elements apart."""
    buffer = torch.full((step * values.numel(),), largest_exact(values.dtype), dtype=values.dtype)
    buffer[::step] = values
    return buffer


def _case(sent: torch.Tensor, expected: torch.Tensor, call: Call, steps: tuple[int, int], function: str) -> Case:
    into, out_of = steps
    return Case(
        _spread(sent, into),
        _spread(expected, out_of),
        lambda source, out: call(source[::into], out[::out_of]),
        function=function,
    )


def _in_place(
    mine: torch.Tensor, expected: torch.Tensor, call: Callable[[torch.Tensor], object], function: str, defined: bool = True
) -> Case:
    return Case(
        _spread(mine, 2),
        _spread(expected, 2),
        lambda _, out: call(out[::2]),
        in_place=True,
        defined=defined,
        function=function,
    )


def _all_reduce(inputs: Inputs) -> Iterator[Case]:
    every = inputs.all_values(inputs.size, summed=True)
    yield _in_place(every[inputs.context.rank], exact_sum(every), dist.all_reduce, "all_reduce")


def _root(inputs: Inputs) -> int:
    return (inputs.size + inputs.round) % inputs.context.world_size


def _reduce(inputs: Inputs) -> Iterator[Case]:
    root = _root(inputs)
    every = inputs.all_values(inputs.size, summed=True)
    mine = every[inputs.context.rank]
    here = inputs.context.rank == root
    yield _in_place(mine, exact_sum(every), lambda out: dist.reduce(out, dst=root), "reduce", defined=here)


def _broadcast(inputs: Inputs) -> Iterator[Case]:
    root = _root(inputs)
    mine, expected = (inputs.values(rank, inputs.size) for rank in (inputs.context.rank, root))
    yield _in_place(mine, expected, lambda out: dist.broadcast(out, src=root), "broadcast")


def _all_gather(inputs: Inputs, steps: tuple[int, int]) -> Iterator[Case]:
    every, gather = inputs.all_values(inputs.part_size), all_gather_single()
    mine = every[inputs.context.rank]
    yield _case(mine, torch.cat(every), lambda source, out: gather(out, source), steps, "all_gather")


def _all_gather_list(inputs: Inputs, steps: tuple[int, int]) -> Iterator[Case]:
    every = inputs.all_values(inputs.part_size)

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        dist.all_gather(list(out.tensor_split(len(every))), source)

    yield _case(every[inputs.context.rank], torch.cat(every), call, steps, "all_gather_list")


def _reduce_scatter(inputs: Inputs, steps: tuple[int, int]) -> Iterator[Case]:
    rank, size, scatter = inputs.context.rank, inputs.part_size, reduce_scatter_single()
    every = inputs.all_values(inputs.context.world_size * size, summed=True)
    expected = exact_sum(every)[rank * size : (rank + 1) * size]
    yield _case(every[rank], expected, lambda source, out: scatter(out, source), steps, "reduce_scatter")


def _all_to_all(inputs: Inputs, steps: tuple[int, int]) -> Iterator[Case]:
    rank, size = inputs.context.rank, inputs.part_size
    every = inputs.all_values(inputs.context.world_size * size)
    expected = torch.cat([values[rank * size : (rank + 1) * size] for values in every])
    yield _case(every[rank], expected, lambda source, out: dist.all_to_all_single(out, source), steps, "all_to_all")


def _scatter(inputs: Inputs) -> Iterator[Case]:
    rank, world_size, size, root = inputs.context.rank, inputs.context.world_size, inputs.part_size, _root(inputs)
    whole = inputs.values(root, world_size * size, root)

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        dist.scatter(out, list(source.tensor_split(world_size)) if rank == root else None, src=root)

    sent = whole if rank == root else whole[:0]
    yield _case(sent, whole[rank * size : (rank + 1) * size], call, _BOTH, "scatter")


def _send_recv(inputs: Inputs) -> Iterator[Case]:
    """To the next rank, in a group of its own: where one half is refused, the other must not meet a later message."""
    rank, world_size = inputs.context.rank, inputs.context.world_size
    group = inputs.groups.get(("apart", tuple(range(world_size))))
    if world_size == 1 or group is None:
        return
    following, previous = (rank + 1) % world_size, (rank - 1) % world_size

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        begin: list[Callable[[], Any]] = [
            lambda: dist.isend(source, following, group=group),
            lambda: dist.irecv(out, previous, group=group),
        ]
        for work in [one() for one in (begin if rank % 2 == 0 else begin[::-1])]:
            if work is not None:
                work.wait()

    yield _case(inputs.values(rank, inputs.size), inputs.values(previous, inputs.size), call, _BOTH, "isend_irecv")


#: Each by its name in labels. `gather_strided` is the oldest of them and stands among the rooted ones.
OPERATIONS: dict[str, Callable[[Inputs], Iterator[Case]]] = {
    "all_reduce_strided": _all_reduce,
    "reduce_strided": _reduce,
    "broadcast_strided": _broadcast,
    "all_gather_strided_input": lambda inputs: _all_gather(inputs, _INPUT),
    "all_gather_strided_output": lambda inputs: _all_gather(inputs, _OUTPUT),
    "all_gather_list_strided_input": lambda inputs: _all_gather_list(inputs, _INPUT),
    "all_gather_list_strided_output": lambda inputs: _all_gather_list(inputs, _OUTPUT),
    "reduce_scatter_strided_input": lambda inputs: _reduce_scatter(inputs, _INPUT),
    "reduce_scatter_strided_output": lambda inputs: _reduce_scatter(inputs, _OUTPUT),
    "all_to_all_strided_input": lambda inputs: _all_to_all(inputs, _INPUT),
    "all_to_all_strided_output": lambda inputs: _all_to_all(inputs, _OUTPUT),
    "scatter_strided": _scatter,
    "send_recv_strided": _send_recv,
}
