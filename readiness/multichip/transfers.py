"""Transfers between every two ranks, one pair at a time: one way, both ways at once, and the raw way beside them.

The three take turns within a fraction of a second, so that whoever else uses the machine disturbs all of them alike.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator
from socket import socket

import torch
import torch.distributed as dist

from readiness.multichip import raw
from readiness.multichip.comparing import difference
from readiness.multichip.growing import GROWTH, most_bytes
from readiness.multichip.links import pairs
from readiness.multichip.teams import Team
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import Json, RankContext

#: Turns around all pairs, and of each kind of transfer in one turn; the first, which connects, is not timed.
PASSES, TURNS = 4, 4
#: Where a pair reaches less of the raw way than this, more is tried: a slow link stays slow, a busy host does not.
MOST_PASSES, DOUBTFUL_SHARE = 40, 0.15
MEBIBYTE = 2**20
#: Blocks grow until there and back takes so long on the slowest pair: by then the start of a transfer costs little of it.
LONG_ENOUGH_S = 0.0005


def reports(context: RankContext) -> Iterator[Json]:
    """For each pair the seconds of a block there and back, of both at once, and of the raw way; and what was wrong."""
    found: dict[Team, Json] = {}
    numel = max(1, int(context.settings["block_mib"] * MEBIBYTE) // 4)
    most = most_bytes(context, at_once=2)
    started = time.monotonic()
    number = 0
    while number < MOST_PASSES:
        for pair in pairs(context.world_size):
            told = _nothing(numel) if context.rank not in pair else found.setdefault(pair, _nothing(numel))
            refusal = yield from _meet(context, pair, told, number)
            if refusal:
                return
        number += 1
        slowest = max(context.share(max((min(told["one_way"], default=0.0) for told in found.values()), default=0.0)))
        if slowest < LONG_ENOUGH_S and 4 * numel * GROWTH <= most:
            numel *= GROWTH
            for told in found.values():
                told.update(_nothing(numel) | {"wrong": told["wrong"], "latency": told["latency"]})
            number = 0
            continue
        too_long = max(context.share(time.monotonic() - started)) > context.settings["budget_s"]
        both = [told for told in found.values() if told["raw"] and told["one_way"]]
        share = min((min(told["raw"]) / min(told["one_way"]) for told in both), default=math.inf)
        if too_long or (min(context.share(share)) >= DOUBTFUL_SHARE and number >= PASSES):
            break
    for pair, told in found.items():
        yield {"pair": list(pair), "raw_kind": raw.kind(context), **told}


def _nothing(numel: int) -> Json:
    return {"bytes": 4 * numel, "latency": [], "one_way": [], "both_ways": [], "raw": [], "wrong": 0}


def _meet(context: RankContext, pair: Team, told: Json, number: int) -> Generator[Json, None, bool]:
    """One turn of a pair, the other ranks looking on. Whether the library refused it."""
    with contextlib.ExitStack() as stack:
        with context.step(f"raw connection between ranks {pair[0]} and {pair[1]}"):
            mine = pair if context.rank in pair else None
            link = stack.enter_context(raw.connection(context, mine))
        for what, turn in (("numbers", _numbers), ("blocks", _blocks)):
            context.share()
            if what == "numbers" and mine is not None and link is None:
                yield {"pair": list(pair), "refused": "raw connection", "reason": "no loopback connection"}
            with context.step(f"{what} between ranks {pair[0]} and {pair[1]}"), unsupported_as_reason() as refusal:
                if link is not None:
                    turn(context, pair, link, told, number)
            if any(context.share(bool(refusal.reason))):
                if refusal.reason:
                    yield {"pair": list(pair), "refused": "send and recv", "reason": refusal.reason}
                return True
    return False


def _numbers(context: RankContext, pair: Team, link: socket, told: Json, _number: int) -> None:
    """One number there and back: half of that is the latency."""
    sent = torch.ones(1).to(context.device)
    for _ in range(TURNS):
        raw.meet(link)
        told["latency"].append(_there_and_back(context, pair, sent, torch.zeros_like(sent)) / 2)


def _blocks(context: RankContext, pair: Team, link: socket, told: Json, number: int) -> None:
    generators = [context.accelerator.generator("bandwidth", "pair", *pair, end, number) for end in pair]
    numel = told["bytes"] // 4
    contents = [torch.randint(-(2**20), 2**20, (numel,), generator=one).float() for one in generators]
    place = pair.index(context.rank)
    mine, theirs = contents[place], contents[1 - place]
    sent = mine.to(context.device)
    plain, into = memoryview(bytearray(mine.numpy().tobytes())), memoryview(bytearray(4 * numel))
    for turn in range(TURNS):
        received = torch.zeros_like(sent)
        raw.meet(link)
        seconds = _there_and_back(context, pair, sent, received)
        told["wrong"] += bool(difference(received.cpu(), theirs))
        if number or turn:
            told["one_way"].append(seconds)
        received = torch.zeros_like(sent)
        raw.meet(link)
        told["both_ways"].append(_both_at_once(context, pair, sent, received))
        told["wrong"] += bool(difference(received.cpu(), theirs))
        if raw.kind(context) == "socket":
            raw.meet(link)
            told["raw"].append(raw.there_and_back(link, plain, into, first=place == 0))
        else:
            told["raw"].append(raw.copy(context, sent, received))


def _there_and_back(context: RankContext, pair: Team, sent: torch.Tensor, received: torch.Tensor) -> float:
    context.accelerator.synchronize()
    began = time.perf_counter()
    if context.rank == pair[0]:
        dist.send(sent, pair[1])
        dist.recv(received, pair[1])
    else:
        dist.recv(received, pair[0])
        dist.send(sent, pair[0])
    context.accelerator.synchronize()
    return time.perf_counter() - began


def _both_at_once(context: RankContext, pair: Team, sent: torch.Tensor, received: torch.Tensor) -> float:
    """The first of a pair names what it sends first, the other what it receives: neither begins with what nobody takes."""
    other = pair[0] + pair[1] - context.rank
    context.accelerator.synchronize()
    began = time.perf_counter()
    both = [dist.P2POp(dist.isend, sent, other), dist.P2POp(dist.irecv, received, other)]
    for work in dist.batch_isend_irecv(both if context.rank < other else both[::-1]):
        work.wait()
    context.accelerator.synchronize()
    return time.perf_counter() - began
