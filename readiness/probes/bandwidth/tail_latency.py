"""Tail latency of many equal calls, and overlap of computation with communication.

A mean or a median hides a link that repeats what got lost: three calls of a hundred take fifty times as long. Each rank
notes with every call how long its threads waited for a processor: that is the host's doing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.distributed as dist

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.host.runqueue_wait import in_line_s
from readiness.probes.bandwidth.reports import OverlapTimes, Settings, TailTimes
from readiness.probes.ranks_common.known_allreduce import KnownAllReduce, known_sum

#: Elements of a sum whose tail is measured: mostly latency, as most of a model's small tensors are.
SMALL = 4096
#: A tail that is this many times the median is measured again, at most so often: a link that repeats what got lost does so
#: again, a busy host does not.
DOUBTFUL_RATIO, MOST_SERIES = 6.0, 4
#: Calls between two exchanges of the ranks.
AT_ONCE = 20
#: A product of matrices that are as wide as these takes so long at least, or is the widest.
WIDTHS, LEAST_PRODUCT_S = (256, 512, 1024, 2048), 5e-5
#: Repetitions of each way of computing and exchanging; the best of each counts.
REPETITIONS = 3


def reports(context: RankContext[Settings], size: int) -> Iterator[Report]:
    """Yield the seconds of every call and of its wait for a processor; then of work without and with a sum.

    That sum is one of `size` bytes.
    """
    for number in range(MOST_SERIES):
        series = _series(context, number)
        yield series
        own = sorted(max(0.0, call_s - waited) for call_s, waited in zip(series.seconds, series.waited, strict=True))
        ratio = own[int(0.99 * (len(own) - 1))] / max(own[len(own) // 2], 1e-9) if own else 0.0
        if max(context.exchange(ratio)) < DOUBTFUL_RATIO:
            break
    yield from _overlap(context, size)


def _series(context: RankContext[Settings], series: int) -> TailTimes:
    parts = {
        rank: torch.randint(-9, 10, (SMALL,), generator=context.accelerator.generator("bandwidth", "tail", rank)).float()
        for rank in range(context.world_size)
    }
    known = known_sum(context, parts)
    seconds: list[float] = []
    waited: list[float] = []
    wrong = 0
    for begin in range(0, context.settings.tail_calls, AT_ONCE):
        context.exchange()
        with context.step(f"all_reduce {begin + 1} to {begin + AT_ONCE} of many equal ones"):
            dist.all_reduce(known.part.clone())  # brings the ranks together
            for _ in range(AT_ONCE):
                call = KnownAllReduce(context, known)
                in_line, began = in_line_s(), time.perf_counter()
                call.run()
                seconds.append(time.perf_counter() - began)
                waited.append(max(0.0, in_line_s() - in_line))
                wrong += call.wrong() is not None
    return TailTimes(series, tuple(seconds), tuple(waited), wrong)


def _overlap(context: RankContext, size: int) -> Iterator[OverlapTimes]:
    """Time products, a sum, and both at once; the products take about as long as the sum."""
    generator = context.accelerator.generator("bandwidth", "overlap")
    values = torch.randint(-4, 5, (max(1, size // 4),), generator=generator).float().to(context.device)
    expected = values.cpu() * context.world_size
    buffer = values.clone()

    def exchange() -> None:
        dist.all_reduce(buffer.copy_(values))

    def compute(left: torch.Tensor, times: int) -> None:
        for _ in range(times):
            torch.mm(left, left)

    def both(left: torch.Tensor, times: int) -> None:
        work = dist.all_reduce(buffer.copy_(values), async_op=True)
        compute(left, times)
        if work is not None:
            work.wait()

    with context.step("a sum alone"):
        sum_s = _best(context, exchange)
        wrong = int(not torch.equal(buffer.cpu(), expected))
    with context.step("products alone"):
        for width in WIDTHS:
            left = torch.randn(width, width, generator=generator).to(context.device)
            one = _best(context, partial(compute, left, 10)) / 10
            if min(context.exchange(one)) >= LEAST_PRODUCT_S:
                break  # all together; a shorter one would time its start
        times = max(1, min(1000, round(max(context.exchange(sum_s)) / max(min(context.exchange(one)), 1e-7))))
        products = _best(context, partial(compute, left, times))
    with context.step("a sum and products at once"):
        together = _best(context, partial(both, left, times))
        wrong += int(not torch.equal(buffer.cpu(), expected))
    yield OverlapTimes(sum_s, products, together, wrong)


def _best(context: RankContext, call: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(REPETITIONS):
        context.accelerator.synchronize()
        began = time.perf_counter()
        call()
        context.accelerator.synchronize()
        best = min(best, time.perf_counter() - began)
    return best
