"""Cases of collectives of subgroups, of several communicators, and of several calls in flight.

Models split over chips in more than one way use all of these in every step: tensor-parallel pairs, data-parallel halves,
a second communicator over the same ranks, and sums of gradients that are waited for only at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist

from readiness.probes.ranks_common.exact_inputs import Case, Inputs, exact_sum
from readiness.probes.ranks_common.process_groups import Subgroup

Groups = Mapping[tuple[str, Subgroup], Any]

#: Sums under way at once, waited for in the reverse order.
IN_FLIGHT = 5


def subgroups_of(kind: str, world_size: int) -> list[Subgroup]:
    """Return the subgroups of one kind; none if there are too few ranks for a proper subgroup."""
    everyone = tuple(range(world_size))
    middle = world_size // 2
    match kind:
        case "pairs":
            return [(first, first + 1) for first in range(0, world_size - 1, 2)] if world_size > 2 else []
        case "halves":
            return [everyone[:middle], everyone[middle:]] if world_size > 3 else []
        case "overlapping":
            ring = [(rank, (rank + 1) % world_size) for rank in everyone]
            return [(min(pair), max(pair)) for pair in ring] if world_size > 2 else []
        case "communicators":
            return [everyone] * 2 if world_size > 1 else []
        case "apart":
            return [everyone] if world_size > 1 else []
    raise AssertionError(kind)


#: "apart" is a group for calls of which a library may refuse one half.
KINDS = ("pairs", "halves", "overlapping", "communicators", "apart")


def make_groups(world_size: int) -> Groups:
    """Make all groups, in the same order on every rank as torch.distributed requires. The default one is first."""
    made: dict[tuple[str, Subgroup], Any] = {}
    for kind in KINDS:
        for number, subgroup in enumerate(subgroups_of(kind, world_size)):
            if kind == "communicators" and number == 0:
                made["default", subgroup] = None
            else:
                made[kind, subgroup] = dist.new_group(list(subgroup))
    return made


def _handle(groups: Groups, kind: str, number: int, subgroup: Subgroup) -> Any:
    return groups["default", subgroup] if kind == "communicators" and number == 0 else groups[kind, subgroup]


def _sums(inputs: Inputs, kind: str) -> Iterator[Case]:
    """Sum in every group of this rank at the same time, each in a piece of the buffer."""
    if not inputs.groups:
        return
    rank, size = inputs.context.rank, inputs.size
    own_subgroups = [
        (n, subgroup) for n, subgroup in enumerate(subgroups_of(kind, inputs.context.world_size)) if rank in subgroup
    ]
    if not own_subgroups:
        return
    sent = torch.cat([inputs.values(rank, size, number, summed=True) for number, _ in own_subgroups])
    expected = torch.cat([_total(inputs, subgroup, number) for number, subgroup in own_subgroups])
    handles = [_handle(inputs.groups, kind, number, subgroup) for number, subgroup in own_subgroups]

    def call(_: torch.Tensor, out: torch.Tensor) -> None:
        pieces = zip(out.tensor_split(len(own_subgroups)), handles, strict=True)
        _wait([dist.all_reduce(piece, group=group, async_op=True) for piece, group in pieces])

    yield Case(sent, expected, call, in_place=True, function="all_reduce", calls=len(own_subgroups))


def _total(inputs: Inputs, subgroup: Sequence[int], number: int) -> torch.Tensor:
    return exact_sum(inputs.values(rank, inputs.size, number, summed=True) for rank in subgroup)


def _gathers(inputs: Inputs, kind: str) -> Iterator[Case]:
    """Call all_gather within groups: parts come in the order of the group's ranks."""
    rank = inputs.context.rank
    subgroup = next((subgroup for subgroup in subgroups_of(kind, inputs.context.world_size) if rank in subgroup), None)
    if subgroup is None or not inputs.groups:
        return
    size = inputs.part_size
    every = [inputs.values(other, size) for other in subgroup]
    group = inputs.groups[kind, subgroup]

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        dist.all_gather(list(out.tensor_split(len(subgroup))), source, group=group)

    yield Case(every[subgroup.index(rank)], torch.cat(every), call, function="all_gather")


def _broadcasts(inputs: Inputs) -> Iterator[Case]:
    """Broadcast from the last rank of each half, whose number in the group differs from its global rank."""
    rank = inputs.context.rank
    subgroup = next((subgroup for subgroup in subgroups_of("halves", inputs.context.world_size) if rank in subgroup), None)
    if subgroup is None or not inputs.groups:
        return
    group, root = inputs.groups["halves", subgroup], subgroup[-1]
    yield Case(
        inputs.values(rank, inputs.size),
        inputs.values(root, inputs.size),
        lambda _, out: dist.broadcast(out, src=root, group=group),
        in_place=True,
        function="broadcast",
    )


def _in_flight(inputs: Inputs) -> Iterator[Case]:
    """Sum unaligned pieces of one buffer, started one after the other and waited for in reverse."""
    every = inputs.all_values(inputs.size, summed=True)
    expected = exact_sum(every)

    def call(_: torch.Tensor, out: torch.Tensor) -> None:
        _wait([dist.all_reduce(piece, async_op=True) for piece in out.tensor_split(IN_FLIGHT)])

    yield Case(every[inputs.context.rank], expected, call, in_place=True, function="all_reduce", calls=IN_FLIGHT)


def _mixed(inputs: Inputs) -> Iterator[Case]:
    """Run all_gather, broadcast, all_to_all and a sum at the same time, waited for in reverse."""
    rank, world_size, size = inputs.context.rank, inputs.context.world_size, inputs.part_size
    gathered = [inputs.values(other, size, "gather") for other in range(world_size)]
    exchanged = [inputs.values(other, size * world_size, "exchange").tensor_split(world_size) for other in range(world_size)]
    root = (inputs.size + inputs.round) % world_size
    spread = [inputs.values(other, size, "broadcast") for other in (rank, root)]
    summed = [inputs.values(other, size, "sum", summed=True) for other in range(world_size)]
    sent = torch.cat([gathered[rank], *exchanged[rank], spread[0], summed[rank]])
    expected = torch.cat([*gathered, *(parts[rank] for parts in exchanged), spread[1], exact_sum(summed)])

    def call(source: torch.Tensor, out: torch.Tensor) -> None:
        one, whole = size, world_size * size
        sends = torch.split_with_sizes(source, [one, whole, one, one])
        outs = torch.split_with_sizes(out, [whole, whole, one, one])
        for given, received in ((sends[2], outs[2]), (sends[3], outs[3])):
            received.copy_(given)
        _wait(
            [
                dist.all_gather(list(outs[0].tensor_split(world_size)), sends[0], async_op=True),
                dist.broadcast(outs[2], src=root, async_op=True),
                dist.all_to_all_single(outs[1], sends[1], async_op=True),
                dist.all_reduce(outs[3], async_op=True),
            ]
        )

    yield Case(sent, expected, call)


def _wait(works: Sequence[Any]) -> None:
    for work in reversed(works):
        if work is not None:  # some libraries finish at once what is empty
            work.wait()


OPERATIONS: dict[str, Callable[[Inputs], Iterator[Case]]] = {
    "all_reduce_in_flight": _in_flight,
    "mixed_in_flight": _mixed,
    "all_reduce_pairs": lambda inputs: _sums(inputs, "pairs"),
    "all_reduce_halves": lambda inputs: _sums(inputs, "halves"),
    "all_reduce_overlapping": lambda inputs: _sums(inputs, "overlapping"),
    "all_reduce_communicators": lambda inputs: _sums(inputs, "communicators"),
    "all_gather_pairs": lambda inputs: _gathers(inputs, "pairs"),
    "all_gather_halves": lambda inputs: _gathers(inputs, "halves"),
    "broadcast_halves": _broadcasts,
}
