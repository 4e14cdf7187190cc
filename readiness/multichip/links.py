"""The ranks' side of `multichip.links`: transfers between two, sums by two and by all, and work of each rank alone.

Ranks meet and agree through shared memory, never through the collectives under test. In every phase all ranks mark the
same number of steps, those that only wait included: where nothing moves, the one that has marked fewer is the one that
hangs.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from itertools import chain, combinations

import torch
import torch.distributed as dist

from readiness.multichip.comparing import difference
from readiness.multichip.growing import GROWTH, PERIOD, most_bytes, repeated
from readiness.multichip.repeated import Sums
from readiness.multichip.series import Series, quantiles
from readiness.multichip.stragglers import compare_ranks
from readiness.multichip.teams import Team, groups, pairings
from readiness.multichip.witness import Witness
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import TRANSFERS, Json, RankContext

#: Pairs that exchange blocks, one after the other; more would take long and say little more.
MOST_PAIRS = 28
#: How often all of them take turns: on a busy machine a pair's best time wants more than one moment.
PASSES, MOST_PASSES, DOUBTFUL_SHARE = 5, 40, 0.75
#: The same of large blocks, which a moment of the host's disturbs less, and which take long to be compared.
GROWN_PASSES = 3
#: How often they do at the end, at least; and what share of the speed at first is enough, as that was the best of more.
LATER_PASSES, LATER_SHARE = 2, 0.65
#: Transfers between two meetings of the ranks, and for how long a pair may go on.
AT_ONCE, PAIR_S = 4, 1.0
MEBIBYTE = 2**20
#: Shorter than this, there and back is mostly the start of transfers: a link of half the speed would hide in it.
LONG_ENOUGH_S = 0.00025


def rank_main(context: RankContext) -> Iterator[Json]:
    """All phases; a report for whatever is wrong as soon as it is seen, and for each team or pair at its end.

    Transfers come first: sums by thousands are what hangs, and links that have been measured stay measured.
    """
    with context.step("making groups of ranks"):
        teams = groups(context.world_size)
    witness = Witness(context.clock)
    sums = Sums(context, teams)
    for report in _transfers_and_sums(context, sums):
        yield {**report, "gaps": witness.gaps}
    yield from compare_ranks(context, teams, sums)


def _transfers_and_sums(context: RankContext, sums: Sums) -> Iterator[Json]:
    taken, numel = yield from _passes(context)
    yield {"done": TRANSFERS}
    yield from sums.run()
    yield from _later(context, taken, numel)


def _later(context: RankContext, taken: Mapping[Team, list[float]], numel: int) -> Iterator[Json]:
    """The same transfers once more, after all those sums: a link that has lost lanes or speed is slow from then on."""
    later: dict[Team, list[float]] = {pair: [] for pair in taken}
    started = time.monotonic()
    for number in range(MOST_PASSES):
        for pair, seconds in later.items():
            yield from _transfers(context, pair, numel, seconds)
        kept = [min(taken[pair]) / min(seconds) for pair, seconds in later.items() if seconds and taken[pair]]
        too_long = max(context.share(time.monotonic() - started)) > context.settings["budget_s"] / 2
        worst = min(context.share(min(kept, default=1.0)))
        if number + 1 >= LATER_PASSES and (worst >= LATER_SHARE or too_long):
            break
    for pair, seconds in later.items():
        if seconds and taken[pair]:
            best = {"first": min(taken[pair]), "last": min(seconds)}
            yield {"later": list(pair), "bytes": 4 * numel, **best, "calls": len(seconds)}


def _passes(context: RankContext) -> Generator[Json, None, tuple[dict[Team, list[float]], int]]:
    """All pairs in turn, again where one seems slow: a slow link stays slow, a busy host lets a good time through.

    Returns what each pair took, in seconds, of blocks of so many elements.

    Blocks grow until there and back takes long enough even on the fastest pair: what it takes to begin is alike on all.
    """
    taken: dict[Team, list[float]] = {}
    numel = max(1, int(context.settings["block_mib"] * MEBIBYTE) // 4)
    most = most_bytes(context, at_once=2)
    started, number, grown = time.monotonic(), 0, False
    while number < MOST_PASSES:
        for pair in pairs(context.world_size):
            yield from _transfers(context, pair, numel, taken.setdefault(pair, []))
        number += 1
        best = [min(seconds) for seconds in taken.values() if seconds]
        slowest = max(context.share(max(best, default=0.0)))
        fastest = min(context.share(min(best, default=slowest)))
        too_long = max(context.share(time.monotonic() - started)) > context.settings["budget_s"]
        if 0 < fastest < LONG_ENOUGH_S and 4 * numel * GROWTH <= most and not too_long:
            numel, number, grown = numel * GROWTH, 0, True
            taken.clear()
        elif number >= (GROWN_PASSES if grown else PASSES) and (slowest <= fastest / DOUBTFUL_SHARE or too_long):
            break
    for pair, seconds in taken.items():
        if seconds:
            yield {"link": list(pair), "bytes": 4 * numel, "quantiles": quantiles(seconds), "calls": len(seconds)}
    return taken, numel


def pairs(world_size: int) -> list[Team]:
    """All pairs; in a large world so many of them that all ranks take part about equally often."""
    every: list[Team] = sorted(combinations(range(world_size), 2))
    return every if len(every) <= MOST_PAIRS else list(chain(*pairings(world_size)))[:MOST_PAIRS]


def _transfers(context: RankContext, pair: Team, numel: int, taken: list[float]) -> Iterator[Json]:
    """A block there and back, again and again, while the other ranks rest. The first one, which connects, is not timed.

    The others' seconds join `taken`.
    """
    settings, takes_part = context.settings, context.rank in pair
    generator = context.accelerator.generator("links", "block", *pair)
    drawn = torch.randint(-(2**20), 2**20, (min(numel, PERIOD),), generator=generator).float()
    expected = repeated(drawn, 0, numel if takes_part else 0)
    block = expected.to(context.device)
    series, started, refused = Series(), time.monotonic(), ""
    for begin in range(0, settings["rounds"] + 1, AT_ONCE):
        with context.step(f"transfers {begin + 1} to {begin + AT_ONCE} between ranks {pair[0]} and {pair[1]}"):
            with unsupported_as_reason() as refusal:
                for number in range(begin, min(begin + AT_ONCE, settings["rounds"] + 1)) if takes_part else ():
                    began, received = context.clock(), torch.zeros_like(block)
                    _there_and_back(context, pair, block, received)
                    if number:
                        series.add(number, began, context.clock() - began)
                        taken.append(series.calls[-1][2])
                    if wrong := difference(received.cpu(), expected):
                        told = {"op": "send_recv", "dtype": "float32", "team": list(pair), "turn": number}
                        yield {**told, "call": f"transfer number {number + 1}", **wrong}
            refused = refusal.reason or ""
        if any(context.share(bool(refused))) or max(context.share(time.monotonic() - started)) > PAIR_S:
            break
    if refused:
        yield {"refused": "send_recv", "reason": refused}
    elif series.calls:
        yield {"transfers": list(pair), **series.summary(settings["interruption_s"])}


def _there_and_back(context: RankContext, pair: Team, block: torch.Tensor, received: torch.Tensor) -> None:
    if context.rank == pair[0]:
        dist.send(block, pair[1])
        dist.recv(received, pair[1])
    else:
        dist.recv(received, pair[0])
        dist.send(received, pair[0])
    context.accelerator.synchronize()
