"""The ranks' side of `multichip.integrity`: the same things computed by all, and known data between every two of them.

Every result is compared where it arrives; what is wrong goes to the parent through a pipe, never through the collectives
under test. Who is to blame is found there (`readiness.multichip.suspects`): one rank alone sees only its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional

from readiness.multichip.comparing import difference, digest
from readiness.multichip.known_answers import gather_single
from readiness.multichip.teams import Team, pairings
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import Json, RankContext

#: Width of the products with known answers: sums of so many products of -1, 0 and 1 are exact in every type of 8 bits.
WIDTH = 64
#: Pairs that meet: in a large world not all of them, but all ranks about equally often.
MOST_MEETINGS = 15
#: Calls between two meetings of the ranks.
AT_ONCE = 10


def rank_main(context: RankContext) -> Iterator[Json]:
    """A report for each kind of work: how often this rank did it, and what of it was wrong."""
    meetings = pairings(context.world_size)[:MOST_MEETINGS]
    with context.step("making groups of ranks"):
        groups = {team: dist.new_group(list(team)) for team in chain(*meetings)}
    yield from _products(context)
    yield from _votes(context)
    for teams in meetings:
        mine = next((team for team in teams if context.rank in team), None)
        yield from _transfers(context, mine)
        yield from _sums(context, mine, groups)
    if context.world_size > 2:
        yield from _sums(context, tuple(range(context.world_size)), {})
    yield from _gathers(context)


def _products(context: RankContext) -> Iterator[Json]:
    """Products whose every element is a small whole number, known from whole numbers on the host."""
    generator = context.accelerator.generator("integrity", "product")
    left, right = (torch.randint(-1, 2, (WIDTH, WIDTH), generator=generator) for _ in range(2))
    expected = left @ right
    for name in context.settings["dtypes"]:
        dtype = getattr(torch, name)
        a, b = (matrix.to(dtype).to(context.device) for matrix in (left, right))
        wrong = 0
        first: Json = {}
        for begin in range(0, context.settings["products"], 50):
            with context.step(f"products in {name}, number {begin + 1} and on"):
                for number in range(begin, min(begin + 50, context.settings["products"])):
                    if found := difference((a @ b).cpu().double().flatten(), expected.double().flatten()):
                        wrong += 1
                        first = first or {**found, "call": f"product number {number + 1} in {name}"}
        yield {"made": "compute", "calls": context.settings["products"], "wrong": wrong, **_first(first)}


def _votes(context: RankContext) -> Iterator[Json]:
    """Digests of what every rank computes from the same random numbers: chips of one make agree to the bit."""
    generator = context.accelerator.generator("integrity", "vote")
    drawn = torch.randn(128, 256, generator=generator), torch.randn(256, 128, generator=generator)
    work: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "product": torch.mm,
        "softmax": lambda x, _: functional.softmax(x, -1),
        "norm": lambda x, _: functional.layer_norm(x, (256,)),
        "gelu": lambda x, _: functional.gelu(x),
        "sum": lambda x, _: x.sum(0),
    }
    for name in context.settings["dtypes"]:
        left, right = (matrix.to(getattr(torch, name)).to(context.device) for matrix in drawn)
        digests: dict[str, str] = {}
        for what, call in work.items():
            with context.step(f"{what} in {name} for a vote"):
                digests[what] = digest(call(left, right))
        yield {"vote": name, "digests": digests}


def _block(context: RankContext, *labels: object, limit: int = 2**20) -> torch.Tensor:
    size = context.settings["size"]
    generator = context.accelerator.generator("integrity", *labels)
    return torch.randint(-limit, limit, (size,), generator=generator).float()


def _transfers(context: RankContext, team: Team | None) -> Iterator[Json]:
    """Blocks there and back, each unlike the one before; the receiver knows what must come."""
    rounds = context.settings["rounds"]
    blocks = {} if team is None else {end: _block(context, "transfer", *team, end) for end in team}
    calls, wrong, refused = 0, 0, ""
    first: Json = {}
    for begin in range(0, rounds, AT_ONCE):
        context.share()
        with context.step(f"transfers {begin + 1} and on {_between(team)}"):
            with unsupported_as_reason() as refusal:
                for number in range(begin, min(begin + AT_ONCE, rounds)) if team else ():
                    sent, expected = (blocks[end] + number for end in _ends(context.rank, team))
                    received = torch.zeros_like(expected).to(context.device)
                    _exchange(context, team, sent.to(context.device), received)
                    calls += 1
                    if found := difference(received.cpu(), expected):
                        wrong += 1
                        first = first or {**found, "call": f"transfer number {number + 1}"}
            refused = refusal.reason or ""
        if any(context.share(bool(refused))):
            break
    if refused:
        yield {"refused": "send and recv", "reason": refused}
    elif team is not None and calls:
        other = team[0] + team[1] - context.rank
        yield {"made": "transfer", "source": other, "calls": calls, "wrong": wrong, **_first(first)}


def _ends(rank: int, team: Team | None) -> tuple[int, int]:
    assert team is not None
    return rank, team[0] + team[1] - rank


def _exchange(context: RankContext, team: Team | None, sent: torch.Tensor, received: torch.Tensor) -> None:
    rank, other = _ends(context.rank, team)
    if rank < other:
        dist.send(sent, other)
        dist.recv(received, other)
    else:
        dist.recv(received, other)
        dist.send(sent, other)
    context.accelerator.synchronize()


def _sums(context: RankContext, team: Team | None, groups: Mapping[Team, Any]) -> Iterator[Json]:
    """Sums of a team, of whole numbers; at the end the calls whose result was wrong here, each with its digest."""
    rounds = context.settings["rounds"]
    blocks = {} if team is None else {rank: _block(context, "sum", rank, limit=2**16) for rank in team}
    wrong: dict[int, str] = {}
    first: Json = {}
    for begin in range(0, rounds, AT_ONCE):
        context.share()
        with context.step(f"all_reduce {begin + 1} and on {_between(team)}"):
            for number in range(begin, min(begin + AT_ONCE, rounds)) if team else ():
                buffer = (blocks[context.rank] + number).to(context.device)
                dist.all_reduce(buffer, group=groups.get(team or ()))
                context.accelerator.synchronize()
                expected = torch.stack([block.double() + number for block in blocks.values()]).sum(0).float()
                if found := difference(buffer.cpu(), expected):
                    wrong[number] = found["digest"]
                    first = first or {**found, "call": f"all_reduce number {number + 1}"}
    if team is not None:
        told = {"wrong": len(wrong), "which": list(wrong.items()), **_first(first)}
        yield {"made": "all_reduce", "team": list(team), "calls": rounds, **told}


def _gathers(context: RankContext) -> Iterator[Json]:
    """all_gather, and from which ranks what arrived here was wrong."""
    rounds, size = context.settings["rounds"], context.settings["size"]
    blocks = [_block(context, "gather", rank) for rank in range(context.world_size)]
    gather = gather_single()
    slots: Counter[int] = Counter()
    first: Json = {}
    for begin in range(0, rounds, AT_ONCE):
        context.share()
        with context.step(f"all_gather {begin + 1} and on"):
            for number in range(begin, min(begin + AT_ONCE, rounds)):
                found = torch.zeros(size * context.world_size).to(context.device)
                gather(found, (blocks[context.rank] + number).to(context.device))
                context.accelerator.synchronize()
                for rank, part in enumerate(found.cpu().tensor_split(context.world_size)):
                    if wrong := difference(part, blocks[rank] + number):
                        slots[rank] += 1
                        first = first or {**wrong, "call": f"all_gather number {number + 1}"}
    told = {"slots": list(slots.items()), "wrong": sum(slots.values()), **_first(first)}
    yield {"made": "all_gather", "calls": rounds, **told}


def _first(found: Json) -> Json:
    return {"first": {key: value for key, value in found.items() if key != "digest"}} if found else {}


def _between(team: Team | None) -> str:
    if team is None:
        return "of others"
    return f"between ranks {team[0]} and {team[1]}" if len(team) == 2 else "of all ranks"
