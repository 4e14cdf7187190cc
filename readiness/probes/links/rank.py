"""Ranks of `multichip.links`: transfers in pairs, sums in pairs and over all, and work of each rank alone.

Ranks agree through shared memory, never through the collectives under test. In every phase all ranks mark the same number
of steps, those that only wait included: where nothing moves, the one that has marked fewer is the one that hangs.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping

import torch
import torch.distributed as dist

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.host.runqueue_wait import in_line_s
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.links.repeated_allreduce import RepeatedAllReduce
from readiness.probes.links.reports import (
    PRODUCTS,
    TRANSFERS,
    CallReport,
    HostStalls,
    LaterLinkTimes,
    LinkTimes,
    Settings,
    TransfersDone,
    WrongResult,
)
from readiness.probes.links.stragglers import compare_ranks, waited_share
from readiness.probes.ranks_common import settling
from readiness.probes.ranks_common.call_timings import CallTimings, quantiles
from readiness.probes.ranks_common.host_pauses import StallDetector
from readiness.probes.ranks_common.message_sizes import GROWTH, PERIOD, most_bytes, repeat_values
from readiness.probes.ranks_common.process_groups import Subgroup, groups, pairs
from readiness.probes.ranks_common.tensor_diff import Unsupported, difference

#: How often all pairs take turns: on a busy machine a pair's best time needs more than one moment.
PASSES, MOST_PASSES, DOUBTFUL_SHARE = 5, 40, 0.85
#: The same of large blocks, which a moment of the host's disturbs less, and which take long to be compared.
GROWN_PASSES = 3
#: How often they do at the end, at least; and what share of the speed at first is enough, as that was the best of more.
LATER_PASSES, LATER_SHARE = 2, 0.65
#: For so much of the time limit they do while the host keeps ranks waiting: that is no time in which a link could be fast.
WAITED_SHARE = 4.0
#: Transfers between two exchanges of the ranks, and for how long a pair may go on.
AT_ONCE, PAIR_S = 4, 1.0
MEBIBYTE = 2**20
#: Shorter than this, there and back is mostly the start of transfers: a link of half the speed would hide in it.
LONG_ENOUGH_S = 0.00025


def rank_main(context: RankContext[Settings]) -> Iterator[Report]:
    """Run all phases; report errors at once, and each subgroup or pair at its end.

    Transfers come first: sums by thousands are what hangs, and links that have been measured stay measured.
    """
    yield from settling.settle(context, TRANSFERS)
    with context.step("making groups of ranks"):
        subgroups = groups(context.world_size)
    detector, reported = StallDetector(context.clock), 0
    sums = RepeatedAllReduce(context, subgroups)
    for report in _transfers_and_sums(context, sums):
        yield report
        if new := detector.stalls[reported:]:
            reported += len(new)
            yield HostStalls(tuple(new))
    yield from settling.settle(context, PRODUCTS)
    yield from compare_ranks(context, subgroups, sums)


def _transfers_and_sums(context: RankContext[Settings], sums: RepeatedAllReduce) -> Iterator[Report]:
    first_s, numel = yield from _passes(context)
    yield TransfersDone()
    yield from sums.run()
    yield from _later(context, first_s, numel)


def _later(context: RankContext[Settings], first_s: Mapping[Subgroup, list[float]], numel: int) -> Iterator[Report]:
    """Repeat the transfers after all sums: a link that has lost lanes or speed stays slow, a busy host does not."""
    later: dict[Subgroup, list[float]] = {pair: [] for pair in first_s}
    started, in_line = time.monotonic(), in_line_s()
    for number in range(MOST_PASSES):
        for pair, seconds in later.items():
            yield from _transfers(context, pair, numel, seconds)
        kept = [min(first_s[pair]) / min(seconds) for pair, seconds in later.items() if seconds and first_s[pair]]
        passed = time.monotonic() - started
        ran = max(passed - (in_line_s() - in_line), passed / WAITED_SHARE)
        too_long = min(context.exchange(ran)) > context.settings.budget_s / 2  # of the rank that was kept waiting longest
        worst = min(context.exchange(min(kept, default=1.0)))
        if number + 1 >= LATER_PASSES and (worst >= LATER_SHARE or too_long):
            break
    for pair, seconds in later.items():
        if seconds and first_s[pair]:
            waited = waited_share(time.monotonic() - started, in_line_s() - in_line)
            yield LaterLinkTimes(pair, 4 * numel, min(first_s[pair]), min(seconds), len(seconds), waited)


def _passes(context: RankContext[Settings]) -> Generator[Report, None, tuple[dict[Subgroup, list[float]], int]]:
    """Transfer between all pairs in turn, again if one seems slow: a slow link stays slow, a busy host does not.

    Returns what each pair took, in seconds, of blocks of so many elements. Blocks grow until there and back takes long
    enough even on the fastest pair: the start of a transfer takes as long on all.
    """
    first_s: dict[Subgroup, list[float]] = {}
    numel = max(1, int(context.settings.block_mib * MEBIBYTE) // 4)
    most = most_bytes(context, context.settings.most_mib, at_once=2)
    started, in_line, number, grown = time.monotonic(), in_line_s(), 0, False
    while number < MOST_PASSES:
        for pair in pairs(context.world_size):
            yield from _transfers(context, pair, numel, first_s.setdefault(pair, []))
        number += 1
        best = [min(seconds) for seconds in first_s.values() if seconds]
        slowest = max(context.exchange(max(best, default=0.0)))
        fastest = min(context.exchange(min(best, default=slowest)))
        too_long = max(context.exchange(time.monotonic() - started)) > context.settings.budget_s
        if 0 < fastest < LONG_ENOUGH_S and 4 * numel * GROWTH <= most and not too_long:
            numel, number, grown = numel * GROWTH, 0, True
            first_s.clear()
        elif number >= (GROWN_PASSES if grown else PASSES) and (slowest <= fastest / DOUBTFUL_SHARE or too_long):
            break
    for pair, seconds in first_s.items():
        if seconds:
            waited = waited_share(time.monotonic() - started, in_line_s() - in_line)
            yield LinkTimes(pair, 4 * numel, quantiles(seconds), len(seconds), waited)
    return first_s, numel


def _transfers(context: RankContext[Settings], pair: Subgroup, numel: int, first_s: list[float]) -> Iterator[Report]:
    """Send a block there and back repeatedly, while other ranks rest. The first one, which connects, is not timed.

    The others' seconds are added to `first_s`.
    """
    rounds, takes_part = context.settings.rounds, context.rank in pair
    generator = context.accelerator.generator("links", "block", *pair)
    drawn = torch.randint(-(2**20), 2**20, (min(numel, PERIOD),), generator=generator).float()
    expected = repeat_values(drawn, 0, numel if takes_part else 0)
    block = expected.to(context.device)
    timings, started, refused = CallTimings(), time.monotonic(), ""
    for begin in range(0, rounds + 1, AT_ONCE):
        with context.step(f"transfers {begin + 1} to {begin + AT_ONCE} between ranks {pair[0]} and {pair[1]}"):
            with unsupported_as_reason() as refusal:
                for number in range(begin, min(begin + AT_ONCE, rounds + 1)) if takes_part else ():
                    began, received = context.clock(), torch.zeros_like(block)
                    _there_and_back(context, pair, block, received)
                    if number:
                        timings.add(number, began, context.clock() - began)
                        first_s.append(timings.calls[-1][2])
                    if wrong := difference(received.cpu(), expected):
                        yield WrongResult("send_recv", "float32", pair, number, f"transfer number {number + 1}", wrong)
            refused = refusal.reason or ""
        if any(context.exchange(bool(refused))) or max(context.exchange(time.monotonic() - started)) > PAIR_S:
            break
    if refused:
        yield Unsupported("send_recv", refused)
    elif timings.calls:
        yield CallReport("send_recv", pair, timings.summary(context.settings.interruption_s))


def _there_and_back(context: RankContext, pair: Subgroup, block: torch.Tensor, received: torch.Tensor) -> None:
    if context.rank == pair[0]:
        dist.send(block, pair[1])
        dist.recv(received, pair[1])
    else:
        dist.recv(received, pair[0])
        dist.send(received, pair[0])
    context.accelerator.synchronize()
