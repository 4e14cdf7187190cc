"""Cases of collectives with known answers: each rank's input and expected output.

The basic ones are here; those with a root are in `readiness.probes.collectives.cases.rooted`, those of some of the ranks,
of several communicators and of several calls at once in `readiness.probes.collectives.cases.subgroups`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from readiness.probes.collectives.cases import rooted, strided, subgroups
from readiness.probes.ranks_common.exact_inputs import Case, Inputs, exact, exact_sum
from readiness.probes.ranks_common.torch_collectives import all_gather_single, reduce_scatter_single

Maker = Callable[[Inputs], Iterator[Case]]


def _reduce(inputs: Inputs, combine: str) -> Iterator[Case]:
    every = inputs.all_values(inputs.size, summed=combine == "sum")
    stacked = torch.stack([exact(values) for values in every])
    expected = stacked.sum(0) if combine == "sum" else stacked.amax(0) if combine == "max" else stacked.amin(0)
    operator = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}[combine]
    yield _all_reduce(every[inputs.context.rank], expected.to(inputs.dtype), operator)


def _all_reduce(own_input: torch.Tensor, expected: torch.Tensor, operator: object) -> Case:
    return Case(own_input, expected, lambda _, out: dist.all_reduce(out, op=operator), in_place=True, function="all_reduce")


def _product(inputs: Inputs) -> Iterator[Case]:
    """Draw factors 1 and 2, of either sign for signed types; the twos are few enough for an exact product."""
    twos = int(math.log2(inputs.limit - 1))
    every = []
    for rank in range(inputs.context.world_size):
        generator = inputs.generator(rank, "factors")
        factors = 1 + torch.randint(0, 2, (inputs.size,), generator=generator)
        factors[~inputs.some_ranks(rank, inputs.size, twos)] = 1
        if inputs.dtype.is_signed:
            factors *= 1 - 2 * torch.randint(0, 2, (inputs.size,), generator=generator)
        every.append(factors)
    expected = torch.stack(every).prod(0)
    yield _all_reduce(every[inputs.context.rank].to(inputs.dtype), expected.to(inputs.dtype), dist.ReduceOp.PRODUCT)


def _average(inputs: Inputs) -> Iterator[Case]:
    """Draw multiples of the number of ranks, exact however the library divides. Only floats are averaged.

    It may divide the sum, or each input, or multiply each by the number's reciprocal, which NCCL and RCCL do: that is
    rounded unless it is a power of two, and only such parts are taken as come out right all the same.
    """
    for own_input, expected in _averaged(inputs, inputs.size):
        yield _all_reduce(own_input, expected, dist.ReduceOp.AVG)


def _averaged(inputs: Inputs, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield this rank's input to a mean, and the mean; nothing if no mean differs from a sum."""
    world_size = inputs.context.world_size
    if not inputs.dtype.is_floating_point or world_size >= inputs.limit:
        return
    most = max(1, (inputs.limit - 1) // world_size**2)
    at_once = max(1, (inputs.limit - 1) // world_size)
    every = []
    for rank in range(world_size):
        drawn = torch.randint(-most, most + 1, (size,), generator=inputs.generator(rank, "parts"))
        every.append(drawn * inputs.some_ranks(rank, size, at_once) * _survives(drawn, world_size, inputs.dtype))
    if size > 1 and not any(parts.any() for parts in every):
        return  # with so many ranks no part but 0 survives in this type: zeros would prove nothing
    own_input = (every[inputs.context.rank] * world_size).to(inputs.dtype)
    yield own_input, torch.stack(every).sum(0).to(inputs.dtype)


def _survives(parts: torch.Tensor, world_size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return which integers stay exact when multiplied by the number of ranks and its rounded reciprocal."""
    kept = torch.ones_like(parts, dtype=torch.bool)
    # In the type itself, or in float32 where that is wider; nobody multiplies in eight bits.
    for precision in {torch.float32 if dtype.itemsize < 4 else dtype, torch.float32 if dtype.itemsize < 2 else dtype}:
        wide = torch.float64 if precision is torch.float64 else torch.float32  # what NCCL has it in at first
        reciprocal = torch.tensor(1 / world_size, dtype=wide).to(precision)
        kept &= ((parts * world_size).to(dtype).to(precision) * reciprocal).to(dtype).double() == parts
    return kept


def _all_gather(inputs: Inputs) -> Iterator[Case]:
    every = inputs.all_values(inputs.size)
    gather = all_gather_single()
    yield Case(every[inputs.context.rank], torch.cat(every), lambda source, out: gather(out, source))


def _all_gather_in_place(inputs: Inputs) -> Iterator[Case]:
    """Use each rank's part of the output as its input, as fully sharded training gathers weights."""
    rank, size = inputs.context.rank, inputs.part_size
    every = inputs.all_values(size)
    unwritten = torch.full((size * len(every),), inputs.limit, dtype=inputs.dtype)
    unwritten[rank * size : (rank + 1) * size] = every[rank]
    gather = all_gather_single()
    yield Case(
        unwritten,
        torch.cat(every),
        lambda _, out: gather(out, out[rank * size : (rank + 1) * size]),
        in_place=True,
        function="all_gather",
    )


def _all_gather_list(inputs: Inputs, *, even: bool) -> Iterator[Case]:
    sizes = [inputs.part_size + (0 if even else rank % 3) for rank in range(inputs.context.world_size)]
    every = [inputs.values(rank, size) for rank, size in enumerate(sizes)]
    yield Case(
        every[inputs.context.rank],
        torch.cat(every),
        lambda source, out: dist.all_gather(list(torch.split_with_sizes(out, sizes)), source),
    )


def _reduce_scatter(inputs: Inputs) -> Iterator[Case]:
    every, expected = _scattered(inputs)
    scatter = reduce_scatter_single()
    yield Case(every[inputs.context.rank], expected, lambda source, out: scatter(out, source))


def _reduce_scatter_list(inputs: Inputs) -> Iterator[Case]:
    every, expected = _scattered(inputs)

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        dist.reduce_scatter(out, list(source.tensor_split(inputs.context.world_size)))

    yield Case(every[inputs.context.rank], expected, call)


def _reduce_scatter_avg(inputs: Inputs) -> Iterator[Case]:
    """Average parts, as fully sharded training averages gradients."""
    rank, size, scatter = inputs.context.rank, inputs.part_size, reduce_scatter_single()
    for own_input, expected in _averaged(inputs, inputs.context.world_size * size):
        part = expected[rank * size : (rank + 1) * size]
        yield Case(own_input, part, lambda source, out: scatter(out, source, op=dist.ReduceOp.AVG))


def _reduce_scatter_list_uneven_avg(inputs: Inputs) -> Iterator[Case]:
    """Average parts of different sizes: one library forgot to divide those."""
    sizes = [inputs.part_size + rank % 3 for rank in range(inputs.context.world_size)]

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        dist.reduce_scatter(out, list(torch.split_with_sizes(source, sizes)), op=dist.ReduceOp.AVG)

    for own_input, expected in _averaged(inputs, sum(sizes)):
        yield Case(own_input, torch.split_with_sizes(expected, sizes)[inputs.context.rank], call)


def _reduce_scatter_max(inputs: Inputs) -> Iterator[Case]:
    rank, world_size, size = inputs.context.rank, inputs.context.world_size, inputs.part_size
    scatter = reduce_scatter_single()
    every = inputs.all_values(world_size * size)
    largest = torch.stack([exact(values) for values in every]).amax(0).view(world_size, size)[rank]
    yield Case(every[rank], largest.to(inputs.dtype), lambda source, out: scatter(out, source, op=dist.ReduceOp.MAX))


def _scattered(inputs: Inputs) -> tuple[list[torch.Tensor], torch.Tensor]:
    rank, world_size, size = inputs.context.rank, inputs.context.world_size, inputs.part_size
    every = inputs.all_values(world_size * size, summed=True)
    return every, exact_sum(every).view(world_size, size)[rank]


def _all_to_all(inputs: Inputs, count: Callable[[int, int, int], int], *, listed: bool = False) -> Iterator[Case]:
    """Exchange parts: `count` returns from size, source and target how many elements are sent."""
    rank, world_size, size = inputs.context.rank, inputs.context.world_size, inputs.part_size
    outgoing = [[count(size, source, target) for target in range(world_size)] for source in range(world_size)]
    every = [inputs.values(source, sum(outgoing[source])) for source in range(world_size)]
    chunks = [torch.split_with_sizes(values, counts) for values, counts in zip(every, outgoing, strict=True)]
    incoming = [outgoing[source][rank] for source in range(world_size)]
    splits = {} if count is _even else {"output_split_sizes": incoming, "input_split_sizes": outgoing[rank]}

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        if listed:
            parts = torch.split_with_sizes(source, outgoing[rank])
            dist.all_to_all(list(torch.split_with_sizes(out, incoming)), list(parts))
        else:
            dist.all_to_all_single(out, source, **splits)  # type: ignore[arg-type]

    yield Case(every[rank], torch.cat([chunks[source][rank] for source in range(world_size)]), call)


def _even(size: int, _source: int, _target: int) -> int:
    return size


def _uneven(size: int, source: int, target: int) -> int:
    return size // (1 + (source + 2 * target) % 3) + (source + target) % 2


def _uneven_everywhere(size: int, source: int, target: int) -> int:
    """Give no rank parts of one size only: a library that accepts no others refuses on all ranks."""
    return size + (source + target) % 2


def _with_empty_parts(size: int, source: int, target: int) -> int:
    """Leave some parts empty, as for an expert that gets no token from a rank."""
    return 0 if (source + 2 * target) % 3 == 0 else size // 2 + 1


def _all_to_all_with_idle(inputs: Inputs, *, sends: bool) -> Iterator[Case]:
    """One rank, another for each size, sends nothing at all (`sends`) or gets nothing: its experts have no token."""
    idle = (inputs.size + inputs.round) % inputs.context.world_size

    def count(size: int, source: int, target: int) -> int:
        return 0 if (source if sends else target) == idle else size // 2 + 1 + (source + target) % 2

    return _all_to_all(inputs, count)


def _ring(inputs: Inputs, call: Callable[[torch.Tensor, torch.Tensor, int, int], None]) -> Iterator[Case]:
    """Build a ring: `call` sends the first buffer to the next rank, and fills the second from the previous one."""
    rank, world_size = inputs.context.rank, inputs.context.world_size
    if world_size == 1:
        return
    following, previous = (rank + 1) % world_size, (rank - 1) % world_size
    sent, expected = inputs.values(rank, inputs.size), inputs.values(previous, inputs.size)
    yield Case(sent, expected, lambda source, out: call(source, out, following, previous))


def _batched(source: torch.Tensor, out: torch.Tensor, following: int, previous: int) -> None:
    """Send and receive in one batch; odd ranks receive first, so that not all begin with a send."""
    both = [dist.P2POp(dist.isend, source, following), dist.P2POp(dist.irecv, out, previous)]
    for work in dist.batch_isend_irecv(both if dist.get_rank() % 2 == 0 else both[::-1]):
        work.wait()


def _in_turn(source: torch.Tensor, out: torch.Tensor, following: int, previous: int) -> None:
    """Send then receive on the first rank, the other way round on the others: each waits for its predecessor."""
    if dist.get_rank() == 0:
        dist.send(source, following)
        dist.recv(out, previous)
    else:
        dist.recv(out, previous)
        dist.send(source, following)


def _at_once(source: torch.Tensor, out: torch.Tensor, following: int, previous: int) -> None:
    """Start both, and wait in reverse order: even ranks send first, so that no library must pair them up."""
    if dist.get_rank() % 2 == 0:
        works = [dist.isend(source, following), dist.irecv(out, previous)]
    else:
        works = [dist.irecv(out, previous), dist.isend(source, following)]
    for work in reversed(works):
        if work is not None:
            work.wait()


#: Messages that each rank sends in one batch, as pipelines of many stages and exchanges of experts do.
_MANY = 256


def _many_at_once(inputs: Inputs) -> Iterator[Case]:
    """Hundreds of messages in one batch, several to each other rank, of two sizes; they arrive in the order of sending."""
    rank, world_size = inputs.context.rank, inputs.context.world_size
    if world_size == 1:
        return
    to_each = max(2, _MANY // (world_size - 1))
    parts = to_each * world_size
    sent = [inputs.values(other, inputs.size, "many").tensor_split(parts) for other in range(world_size)]
    # Of every rank the pieces for this one, where its own would be nothing.
    received = [sent[other][rank * to_each : (rank + 1) * to_each] for other in range(world_size) if other != rank]
    sizes = [piece.numel() for pieces in received for piece in pieces]

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        outgoing, incoming = source.tensor_split(parts), iter(torch.split_with_sizes(out, sizes))
        peers = [other for other in range(world_size) if other != rank]
        operations = [dist.P2POp(dist.irecv, next(incoming), peer) for peer in peers for _ in range(to_each)]
        operations += [
            dist.P2POp(dist.isend, outgoing[peer * to_each + number], peer) for number in range(to_each) for peer in peers
        ]
        for work in dist.batch_isend_irecv(operations):
            work.wait()

    expected = torch.cat([piece for pieces in received for piece in pieces])
    yield Case(torch.cat(sent[rank]), expected, call, function="isend_irecv", calls=len(sizes))


#: Every operation by its name in labels. The first of each function come first: their calls are counted from the start.
OPERATIONS: dict[str, Maker] = {
    "all_reduce_sum": lambda inputs: _reduce(inputs, "sum"),
    "all_reduce_max": lambda inputs: _reduce(inputs, "max"),
    "all_reduce_min": lambda inputs: _reduce(inputs, "min"),
    "all_reduce_prod": _product,
    "all_reduce_avg": _average,
    "all_gather": _all_gather,
    "all_gather_in_place": _all_gather_in_place,
    "all_gather_list": lambda inputs: _all_gather_list(inputs, even=True),
    "all_gather_uneven": lambda inputs: _all_gather_list(inputs, even=False),
    "reduce_scatter": _reduce_scatter,
    "reduce_scatter_list": _reduce_scatter_list,
    "reduce_scatter_avg": _reduce_scatter_avg,
    "reduce_scatter_max": _reduce_scatter_max,
    "reduce_scatter_list_uneven_avg": _reduce_scatter_list_uneven_avg,
    "all_to_all": lambda inputs: _all_to_all(inputs, _even),
    "all_to_all_uneven": lambda inputs: _all_to_all(inputs, _uneven),
    "all_to_all_zeros": lambda inputs: _all_to_all(inputs, _with_empty_parts),
    "all_to_all_idle_sender": lambda inputs: _all_to_all_with_idle(inputs, sends=True),
    "all_to_all_idle_receiver": lambda inputs: _all_to_all_with_idle(inputs, sends=False),
    "all_to_all_list": lambda inputs: _all_to_all(inputs, _even, listed=True),
    "all_to_all_list_uneven": lambda inputs: _all_to_all(inputs, _uneven_everywhere, listed=True),
    "send_recv": lambda inputs: _ring(inputs, _batched),
    "send_recv_in_turn": lambda inputs: _ring(inputs, _in_turn),
    "isend_irecv": lambda inputs: _ring(inputs, _at_once),
    "send_recv_many": _many_at_once,
    **rooted.OPERATIONS,
    **subgroups.OPERATIONS,
    **strided.OPERATIONS,
}
#: What torch.distributed does not promise of every library: measured where it works, and no fault where it does not.
OPTIONAL = frozenset({
    "all_gather_uneven", "all_to_all_list_uneven", "gather_strided", "reduce_scatter_avg", "reduce_scatter_max",
    "reduce_scatter_list_uneven_avg", *strided.OPERATIONS,
})  # fmt: skip
#: Those in strided memory; what is wrong of them is a measure of its own.
STRIDED = frozenset(strided.OPERATIONS)
#: What the other calls of a function cover in all sizes and rounds: tried once, in buffers that hold a few for each rank.
ONCE, ONCE_SIZES = frozenset({"send_recv_many", *strided.OPERATIONS}), range(2, 4097)
#: Those tried at every power of two and beside it: libraries change algorithm and protocol with the size.
SWEPT = ("all_reduce_sum", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
