"""Transfers between every two ranks, one pair at a time: one way, both ways, and the raw transfer.

The three take turns within a fraction of a second, so that other users of the machine disturb all of them alike.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from socket import socket

import torch
import torch.distributed as dist

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.bandwidth import transport_baseline
from readiness.probes.bandwidth.reports import PairTimes, Settings
from readiness.probes.ranks_common.message_sizes import GROWTH, most_bytes
from readiness.probes.ranks_common.process_groups import Subgroup, pairs
from readiness.probes.ranks_common.tensor_diff import Unsupported, difference

#: Turns around all pairs, and of each kind of transfer in one turn; the first, which connects, is not timed.
PASSES, TURNS = 4, 4
#: Where a pair reaches less of the raw transfer than this, more is tried: a slow link stays slow, a busy host does not.
MOST_PASSES, DOUBTFUL_SHARE = 40, 0.15
MEBIBYTE = 2**20
#: Blocks grow until there and back takes so long on the slowest pair: by then the start of a transfer costs little of it.
LONG_ENOUGH_S = 0.0005


@dataclass(slots=True)
class _Times:
    """Seconds of one pair's transfers of blocks of a size, and the number of wrong ones."""

    numel: int
    latency: list[float] = field(default_factory=list)
    one_way: list[float] = field(default_factory=list)
    both_ways: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    wrong: int = 0

    def restart_with(self, numel: int) -> None:
        """Restart with larger blocks."""
        self.numel, self.one_way, self.both_ways, self.raw = numel, [], [], []


def reports(context: RankContext[Settings]) -> Iterator[Report]:
    """Yield for each pair the seconds of a block there and back, both ways at once, and raw; and wrong results."""
    found: dict[Subgroup, _Times] = {}
    numel = max(1, int(context.settings.block_mib * MEBIBYTE) // 4)
    most = most_bytes(context, context.settings.most_mib, at_once=2)
    started = time.monotonic()
    number = 0
    while number < MOST_PASSES:
        for pair in pairs(context.world_size):
            times = _Times(numel) if context.rank not in pair else found.setdefault(pair, _Times(numel))
            refused = yield from _turn(context, pair, times, number)
            if refused:
                return
        number += 1
        slowest = max(context.exchange(max((min(times.one_way, default=0.0) for times in found.values()), default=0.0)))
        if slowest < LONG_ENOUGH_S and 4 * numel * GROWTH <= most:
            numel *= GROWTH
            for times in found.values():
                times.restart_with(numel)
            number = 0
            continue
        too_long = max(context.exchange(time.monotonic() - started)) > context.settings.budget_s
        timed = [times for times in found.values() if times.raw and times.one_way]
        share = min((min(times.raw) / min(times.one_way) for times in timed), default=math.inf)
        if too_long or (min(context.exchange(share)) >= DOUBTFUL_SHARE and number >= PASSES):
            break
    for pair, times in found.items():
        yield PairTimes(
            pair, transport_baseline.kind(context), 4 * times.numel, tuple(times.latency), tuple(times.one_way),
            tuple(times.both_ways), tuple(times.raw), times.wrong,
        )  # fmt: skip


def _turn(context: RankContext, pair: Subgroup, times: _Times, number: int) -> Generator[Report, None, bool]:
    """Do one turn of a pair, while the other ranks wait. Return True if the library refuses it."""
    with contextlib.ExitStack() as stack:
        with context.step(f"raw connection between ranks {pair[0]} and {pair[1]}"):
            own_values = pair if context.rank in pair else None
            link = stack.enter_context(transport_baseline.connection(context, own_values))
        for what, transfer in (("numbers", _numbers), ("blocks", _blocks)):
            context.exchange()
            if what == "numbers" and own_values is not None and link is None:
                yield Unsupported("raw connection", "no loopback connection")
            with context.step(f"{what} between ranks {pair[0]} and {pair[1]}"), unsupported_as_reason() as refusal:
                if link is not None:
                    transfer(context, pair, link, times, number)
            if any(context.exchange(bool(refusal.reason))):
                if refusal.reason:
                    yield Unsupported("send and recv", refusal.reason)
                return True
    return False


def _numbers(context: RankContext, pair: Subgroup, link: socket, times: _Times, _number: int) -> None:
    """Send one number there and back; half of that time is the latency."""
    sent = torch.ones(1).to(context.device)
    for _ in range(TURNS):
        transport_baseline.synchronize(link)
        times.latency.append(_there_and_back(context, pair, sent, torch.zeros_like(sent)) / 2)


def _blocks(context: RankContext, pair: Subgroup, link: socket, times: _Times, number: int) -> None:
    generators = [context.accelerator.generator("bandwidth", "pair", *pair, end, number) for end in pair]
    contents = [torch.randint(-(2**20), 2**20, (times.numel,), generator=one).float() for one in generators]
    place = pair.index(context.rank)
    own_values, expected = contents[place], contents[1 - place]
    sent = own_values.to(context.device)
    plain, into = memoryview(bytearray(own_values.numpy().tobytes())), memoryview(bytearray(4 * times.numel))
    for turn in range(TURNS):
        received = torch.zeros_like(sent)
        transport_baseline.synchronize(link)
        seconds = _there_and_back(context, pair, sent, received)
        times.wrong += difference(received.cpu(), expected) is not None
        if number or turn:
            times.one_way.append(seconds)
        received = torch.zeros_like(sent)
        transport_baseline.synchronize(link)
        times.both_ways.append(_both_at_once(context, pair, sent, received))
        times.wrong += difference(received.cpu(), expected) is not None
        if transport_baseline.kind(context) == "socket":
            transport_baseline.synchronize(link)
            times.raw.append(transport_baseline.there_and_back(link, plain, into, first=place == 0))
        else:
            times.raw.append(transport_baseline.copy(context, sent, received))


def _there_and_back(context: RankContext, pair: Subgroup, sent: torch.Tensor, received: torch.Tensor) -> float:
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


def _both_at_once(context: RankContext, pair: Subgroup, sent: torch.Tensor, received: torch.Tensor) -> float:
    """Send both ways at once: the first rank starts its send first, the other its receive."""
    other = pair[0] + pair[1] - context.rank
    context.accelerator.synchronize()
    began = time.perf_counter()
    both = [dist.P2POp(dist.isend, sent, other), dist.P2POp(dist.irecv, received, other)]
    for work in dist.batch_isend_irecv(both if context.rank < other else both[::-1]):
        work.wait()
    context.accelerator.synchronize()
    return time.perf_counter() - began
