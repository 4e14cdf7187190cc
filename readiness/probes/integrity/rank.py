"""Ranks of `multichip.integrity`: equal computations on all ranks, and known data between every two.

Every result is compared where it arrives; what is wrong goes to the parent through a pipe, never through the collectives
under test. The culprit is found there (`readiness.probes.integrity.error_localisation`): one rank alone sees only its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.ranks_common.known_allreduce import known_allreduce, known_sum
from readiness.probes.ranks_common.process_groups import Subgroup, pairings
from readiness.probes.ranks_common.tensor_diff import TensorDiff, Unsupported, difference, digest
from readiness.probes.ranks_common.torch_collectives import all_gather_single

#: Width of the products with known answers: sums of so many products of -1, 0 and 1 are exact in every type of 8 bits.
WIDTH = 64
#: Pairings in which ranks meet: of many ranks not all pairs, but all ranks about equally often.
MOST_PAIRINGS = 15
#: Calls between two exchanges of the ranks.
AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: rounds of each exchange, products of each rank, elements of a block, and types."""

    rounds: int
    products: int
    size: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FirstWrong:
    """First wrong element of the first wrong result of one kind of work, and its call."""

    wrong: int
    index: int
    found: int | float
    expected: int | float
    call: str


@dataclass(frozen=True, slots=True)
class WorkReport(Report):
    """Report: how often this rank did one kind of work, and how many results were wrong.

    `source` is the other rank of transfers, `subgroup` the ranks of sums; `slots` counts wrong parts of all-gathers by
    the rank that they are from, `wrong_calls` has the numbers of sums whose result was wrong.
    """

    kind: str
    calls: int
    wrong: int
    first: FirstWrong | None
    source: int | None = None
    subgroup: Subgroup | None = None
    slots: tuple[tuple[int, int], ...] | None = None
    wrong_calls: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Vote(Report):
    """Report: digests of this rank's results from the same random inputs as all others, by operation, in one type."""

    dtype: str
    digests: dict[str, str]


def rank_main(context: RankContext[Settings]) -> Iterator[Report]:
    """Do each kind of work; report how often, and which results were wrong."""
    rounds = pairings(context.world_size)[:MOST_PAIRINGS]
    with context.step("making groups of ranks"):
        groups = {subgroup: dist.new_group(list(subgroup)) for subgroup in chain(*rounds)}
    yield from _products(context)
    yield from _votes(context)
    for subgroups in rounds:
        own_subgroup = next((subgroup for subgroup in subgroups if context.rank in subgroup), None)
        yield from _transfers(context, own_subgroup)
        yield from _sums(context, own_subgroup, groups)
    if context.world_size > 2:
        yield from _sums(context, tuple(range(context.world_size)), {})
    yield from _gathers(context)


def _products(context: RankContext[Settings]) -> Iterator[WorkReport]:
    """Compute products of small integers, whose exact results are known on the host."""
    generator = context.accelerator.generator("integrity", "product")
    left, right = (torch.randint(-1, 2, (WIDTH, WIDTH), generator=generator) for _ in range(2))
    expected = left @ right
    products = context.settings.products
    for name in context.settings.dtypes:
        dtype = getattr(torch, name)
        a, b = (matrix.to(dtype).to(context.device) for matrix in (left, right))
        wrong = 0
        first: FirstWrong | None = None
        for begin in range(0, products, 50):
            with context.step(f"products in {name}, from number {begin + 1} on"):
                for number in range(begin, min(begin + 50, products)):
                    if found := difference((a @ b).cpu().double().flatten(), expected.double().flatten()):
                        wrong += 1
                        first = first or _first(found, f"product number {number + 1} in {name}")
        yield WorkReport("compute", products, wrong, first)


def _votes(context: RankContext[Settings]) -> Iterator[Vote]:
    """Yield digests of computations from the same random inputs on all ranks: chips of one model agree bit for bit."""
    generator = context.accelerator.generator("integrity", "vote")
    drawn = torch.randn(128, 256, generator=generator), torch.randn(256, 128, generator=generator)
    work: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "product": torch.mm,
        "softmax": lambda x, _: functional.softmax(x, -1),
        "norm": lambda x, _: functional.layer_norm(x, (256,)),
        "gelu": lambda x, _: functional.gelu(x),
        "sum": lambda x, _: x.sum(0),
    }
    for name in context.settings.dtypes:
        left, right = (matrix.to(getattr(torch, name)).to(context.device) for matrix in drawn)
        digests: dict[str, str] = {}
        for what, call in work.items():
            with context.step(f"{what} in {name} for a vote"):
                digests[what] = digest(call(left, right))
        yield Vote(name, digests)


def _block(context: RankContext[Settings], *labels: object, limit: int = 2**20) -> torch.Tensor:
    generator = context.accelerator.generator("integrity", *labels)
    return torch.randint(-limit, limit, (context.settings.size,), generator=generator).float()


def _transfers(context: RankContext[Settings], subgroup: Subgroup | None) -> Iterator[Report]:
    """Send blocks there and back, each different from the last; the receiver knows the content."""
    rounds = context.settings.rounds
    blocks = {} if subgroup is None else {end: _block(context, "transfer", *subgroup, end) for end in subgroup}
    calls, wrong, refused = 0, 0, ""
    first: FirstWrong | None = None
    for begin in range(0, rounds, AT_ONCE):
        context.exchange()
        with context.step(f"transfers from number {begin + 1} on, {_between(subgroup)}"):
            with unsupported_as_reason() as refusal:
                for number in range(begin, min(begin + AT_ONCE, rounds)) if subgroup else ():
                    sent, expected = (blocks[end] + number for end in _ends(context.rank, subgroup))
                    received = torch.zeros_like(expected).to(context.device)
                    _send_and_receive(context, subgroup, sent.to(context.device), received)
                    calls += 1
                    if found := difference(received.cpu(), expected):
                        wrong += 1
                        first = first or _first(found, f"transfer number {number + 1}")
            refused = refusal.reason or ""
        if any(context.exchange(bool(refused))):
            break
    if refused:
        yield Unsupported("send and recv", refused)
    elif subgroup is not None and calls:
        yield WorkReport("transfer", calls, wrong, first, source=subgroup[0] + subgroup[1] - context.rank)


def _ends(rank: int, subgroup: Subgroup | None) -> tuple[int, int]:
    assert subgroup is not None
    return rank, subgroup[0] + subgroup[1] - rank


def _send_and_receive(context: RankContext, subgroup: Subgroup | None, sent: torch.Tensor, received: torch.Tensor) -> None:
    rank, other = _ends(context.rank, subgroup)
    if rank < other:
        dist.send(sent, other)
        dist.recv(received, other)
    else:
        dist.recv(received, other)
        dist.send(sent, other)
    context.accelerator.synchronize()


def _sums(context: RankContext[Settings], subgroup: Subgroup | None, groups: Mapping[Subgroup, Any]) -> Iterator[WorkReport]:
    """Sum integers in a subgroup; report the calls with a wrong result on this rank at the end."""
    rounds = context.settings.rounds
    blocks = {} if subgroup is None else {rank: _block(context, "sum", rank, limit=2**16) for rank in subgroup}
    wrong: list[int] = []
    first: FirstWrong | None = None
    for begin in range(0, rounds, AT_ONCE):
        context.exchange()
        with context.step(f"all_reduce from number {begin + 1} on, {_between(subgroup)}"):
            for number in range(begin, min(begin + AT_ONCE, rounds)) if subgroup else ():
                known = known_sum(context, {rank: block + number for rank, block in blocks.items()})
                if found := known_allreduce(context, known, groups.get(subgroup or ())):
                    wrong.append(number)
                    first = first or _first(found, f"all_reduce number {number + 1}")
    if subgroup is not None:
        yield WorkReport("all_reduce", rounds, len(wrong), first, subgroup=subgroup, wrong_calls=tuple(wrong))


def _gathers(context: RankContext[Settings]) -> Iterator[WorkReport]:
    """Call all_gather; report the ranks whose parts arrived wrong."""
    rounds, size = context.settings.rounds, context.settings.size
    blocks = [_block(context, "gather", rank) for rank in range(context.world_size)]
    gather = all_gather_single()
    slots: Counter[int] = Counter()
    first: FirstWrong | None = None
    for begin in range(0, rounds, AT_ONCE):
        context.exchange()
        with context.step(f"all_gather from number {begin + 1} on"):
            for number in range(begin, min(begin + AT_ONCE, rounds)):
                found = torch.zeros(size * context.world_size).to(context.device)
                gather(found, (blocks[context.rank] + number).to(context.device))
                context.accelerator.synchronize()
                for rank, part in enumerate(found.cpu().tensor_split(context.world_size)):
                    if wrong := difference(part, blocks[rank] + number):
                        slots[rank] += 1
                        first = first or _first(wrong, f"all_gather number {number + 1}")
    yield WorkReport("all_gather", rounds, sum(slots.values()), first, slots=tuple(slots.items()))


def _first(found: TensorDiff, call: str) -> FirstWrong:
    return FirstWrong(found.wrong, found.index, found.found, found.expected, call)


def _between(subgroup: Subgroup | None) -> str:
    if subgroup is None:
        return "of others"
    return f"between ranks {subgroup[0]} and {subgroup[1]}" if len(subgroup) == 2 else "of all ranks"
