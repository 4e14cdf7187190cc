"""Stragglers: equal work on each rank, in turn while the others rest, and on all together.

In a collective all wait for the slowest, so all look slow. The time that each rank takes by itself shows which one it is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.host.runqueue_wait import in_line_s
from readiness.probes.links.repeated_allreduce import RepeatedAllReduce
from readiness.probes.links.reports import OwnAllReduceTime, ProductTimes
from readiness.probes.ranks_common.process_groups import Subgroup
from readiness.probes.throughput.timing import quartiles

#: Widths of a product of square matrices, until one takes this long: a short one would time the launch, not the chip.
WIDTHS, LONG_ENOUGH_S = (256, 512, 1024, 2048, 4096), 3e-4
#: Turns around all ranks; how often each repeats in one turn for its best time, and for how long at most.
TURNS, REPETITIONS, REPEAT_S = 8, 30, 0.1
#: What is summed while a rank computes, and the turns of that around all ranks.
EXCHANGED_BYTES, EXCHANGING_TURNS = 2**24, 3
#: So many times as many turns again, while a rank looks slower than the median by more than this share: a busy host may be
#: what is slow, and best times of a rank that is not will show it.
FURTHER, SUSPECT = 2, 0.9


def compare_ranks(context: RankContext, groups: Mapping[Subgroup, Any], sums: RepeatedAllReduce) -> Iterator[Report]:
    """Report this rank's best times: of products by width, alone and together, and of an all_reduce with itself."""
    block = torch.ones(256).to(context.device)
    best: dict[str, float] = {}
    for rank in [*range(context.world_size)] * TURNS:
        yield from _turn(context, rank, best)
        with context.step(f"all_reduce of rank {rank} with itself, from number {sums.number + 1} on"):
            if rank == context.rank:
                started, in_line = time.monotonic(), in_line_s()
                seconds = _seconds(context, partial(sums.all_reduce, block, groups[context.rank,]))
                yield OwnAllReduceTime(min(seconds), waited_share(time.monotonic() - started, in_line_s() - in_line))
        context.exchange()
    for _ in range(FURTHER):
        if not _suspicious(context, best):
            break
        for rank in [*range(context.world_size)] * TURNS:
            yield from _turn(context, rank, best)
    with context.step("products of all ranks together"):
        yield _report("together", _products(context))
    yield from _while_exchanging(context, best)


def waited_share(passed_s: float, waiting_s: float) -> float:
    """Return for which share of the seconds that passed the threads waited for a processor: 1 at most, however many did."""
    return min(1.0, waiting_s / max(passed_s, 1e-9))


def _while_exchanging(context: RankContext, best: dict[str, float]) -> Iterator[Report]:
    """Time each rank's products in turn while all ranks sum a large block: the others wait in the sum meanwhile.

    A chip that is as fast as its neighbours alone, and slow as soon as it exchanges, passes tests of collectives and burn-in
    (arXiv 2605.17879). Only a product that began and ended before the sum did counts.
    """
    long_enough = (width for width in WIDTHS if best.get(str(width), 0.0) > LONG_ENOUGH_S)
    width = str(int(max(context.exchange(float(next(long_enough, max(map(int, best))))))))
    generator = context.accelerator.generator("links", "exchanging")
    left, right = (torch.randn(int(width), int(width), generator=generator).to(context.device) for _ in range(2))
    block = torch.ones(EXCHANGED_BYTES // 4).to(context.device)
    for rank in [*range(context.world_size)] * EXCHANGING_TURNS:
        seconds: list[float] = []
        with context.step(f"products of rank {rank} during a sum over all ranks"):
            context.accelerator.synchronize()
            work = dist.all_reduce(block, async_op=True)
            if rank == context.rank:
                while work is not None and not work.is_completed() and len(seconds) < REPETITIONS:
                    began = time.monotonic()
                    torch.mm(left, right)
                    _wait_for_products(context)
                    if not work.is_completed():
                        seconds.append(time.monotonic() - began)
            if work is not None:
                work.wait()
            context.accelerator.synchronize()
        context.exchange()
        if seconds:
            yield _report("exchanging", {width: seconds})


def _wait_for_products(context: RankContext) -> None:
    """Wait for this rank's products, and not for the sum, which runs on a stream of its own."""
    module = context.accelerator.stack.module() if context.device.type != "cpu" else None
    current = getattr(module, "current_stream", None)
    if current is not None:
        current().synchronize()


def _turn(context: RankContext, rank: int, best: dict[str, float]) -> Iterator[Report]:
    """Time one rank's products while the others rest. This rank's best times so far are kept in `best`."""
    with context.step(f"products of rank {rank} alone"):
        if rank == context.rank:
            seconds = _products(context)
            best |= {width: min(*found, best.get(width, math.inf)) for width, found in seconds.items()}
            yield _report("alone", seconds)
    context.exchange()


def _suspicious(context: RankContext, best: dict[str, float]) -> bool:
    """True if a rank seems slow in the widest product that all have done. All ranks decide the same."""
    slow = False
    for width in WIDTHS:
        times = context.exchange(best.get(str(width), 0.0))
        if not all(times):
            break
        slow = statistics.median_low(times) < SUSPECT * max(times)
    return slow


def _report(load: str, times: Mapping[str, list[float]]) -> ProductTimes:
    """Return best, median and variation of the seconds of each width."""
    medians = {width: statistics.median(seconds) for width, seconds in times.items()}
    variations = {width: quartiles(seconds) / max(medians[width], 1e-9) for width, seconds in times.items()}
    return ProductTimes(load, {width: min(seconds) for width, seconds in times.items()}, medians, variations)


def _products(context: RankContext) -> dict[str, list[float]]:
    """Return seconds by width. Ranks may stop at different widths; the widest common one is compared."""
    generator = context.accelerator.generator("links", "products")
    found: dict[str, list[float]] = {}
    for width in WIDTHS:
        left, right = (torch.randn(width, width, generator=generator).to(context.device) for _ in range(2))
        found[str(width)] = seconds = _seconds(context, partial(torch.mm, left, right))
        if min(seconds) > LONG_ENOUGH_S:
            break
    return found


def _seconds(context: RankContext, call: Callable[[], object]) -> list[float]:
    """Return the times of a call, without the first one, which may compile or connect."""
    seconds: list[float] = []
    until = time.monotonic() + REPEAT_S
    while len(seconds) < 4 or (len(seconds) <= REPETITIONS and time.monotonic() < until):
        context.accelerator.synchronize()
        began = time.monotonic()
        call()
        context.accelerator.synchronize()
        seconds.append(time.monotonic() - began)
    return seconds[1:]
