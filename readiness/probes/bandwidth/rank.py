"""Ranks of `multichip.bandwidth`: collectives by size and group, then pairs, then tails and overlap.

Messages grow beyond the sizes asked for until a call takes long enough: what a fast link can carry shows at hundreds of
mebibytes, and a slow one would spend the run on them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.bandwidth import tail_latency, transfers
from readiness.probes.bandwidth.bus_bandwidth import blocks, bus_factor, group_sizes
from readiness.probes.bandwidth.reports import CollectiveTimes, LinkState, Settings, TimeUp
from readiness.probes.ranks_common import settling
from readiness.probes.ranks_common.exact_inputs import exact_sum
from readiness.probes.ranks_common.message_sizes import GROWTH, PERIOD, most_bytes, repeat_values
from readiness.probes.ranks_common.process_groups import Subgroup
from readiness.probes.ranks_common.tensor_diff import TensorDiff, Unsupported, difference
from readiness.probes.ranks_common.torch_collectives import all_gather_single, reduce_scatter_single

#: Calls back to back in one sample, at most; and a sample is about as long as this.
MOST_CALLS, SAMPLE_S = 8, 0.004
#: Messages grow until a sum of one takes so long: by then the start of a call costs little of it.
LONG_ENOUGH_S = 0.005
#: A group that reaches less than this of what all ranks do is measured again, at most so often: a slow link stays slow, a
#: busy host does not.
DOUBTFUL_SHARE, MOST_ROUNDS = 0.6, 4
#: Operations that are timed in groups of some ranks as well, in the largest sizes.
IN_GROUPS = ("all_reduce", "all_gather", "all_to_all")
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")


#: Seconds of this rank's best call, by operation, size and group.
Best = dict[tuple[str, int, Subgroup], float]


@dataclass(frozen=True, slots=True)
class TimedCall:
    """Operation at one size. `refill` restores the buffers; `call` makes one call.

    `expected` returns what the output must be after so many calls since `refill`.
    """

    refill: Callable[[], None]
    call: Callable[[], object]
    output: torch.Tensor
    expected: Callable[[int], torch.Tensor]


def rank_main(context: RankContext[Settings]) -> Iterator[Report]:
    """Yield a report of each operation, size and group; then of pairs, tails, overlap, and the device's links."""
    world_size, settings = context.world_size, context.settings
    everyone = tuple(range(world_size))
    yield from settling.settle(context, "collectives")
    with context.step("making groups of ranks"):
        subgroups = [
            subgroup for size in group_sizes(world_size) if size < world_size for subgroup in blocks(world_size, size)
        ]
        groups: dict[Subgroup, Any] = {subgroup: dist.new_group(list(subgroup)) for subgroup in subgroups} | {everyone: None}
    requested = sorted(settings.bytes)
    sizes, size = list(requested), 0
    best: Best = {}
    _connect(context, groups)
    budget_s, again_s = settings.budget_s, 0.0
    started = time.monotonic()
    while sizes:
        size = sizes.pop(0)
        for subgroup, group in groups.items():
            for op in OPERATIONS:
                if subgroup == everyone or (op in IN_GROUPS and size >= requested[-1]):
                    yield from _measure(context, op, size, subgroup, group, best)
        if size >= requested[-1]:
            begun = time.monotonic()
            yield from _slow_groups_again(context, groups, size, best, budget_s - again_s)
            again_s += max(context.exchange(time.monotonic() - begun))  # the same on all ranks, as all that is decided by
        took = max(context.exchange(best.get(("all_reduce", size, everyone), LONG_ENOUGH_S)))
        if not sizes and took < LONG_ENOUGH_S and size * GROWTH <= most_bytes(context, settings.most_mib, world_size):
            if _spent(context, started + again_s, budget_s):
                yield TimeUp(size, time.monotonic() - started)
                break  # all together: the slowest rank decides
            sizes.append(size * GROWTH)
    yield from transfers.reports(context)
    yield from tail_latency.reports(context, size)
    with context.step("reading counters and states of links"):
        stack, facts = context.accelerator.stack, context.accelerator.facts
        yield LinkState(stack.counters(facts), stack.links(facts))


def _connect(context: RankContext, groups: Mapping[Subgroup, Any]) -> None:
    """Make one call of each group in turn: connecting takes some libraries seconds, which must not be measured."""
    for subgroup, group in groups.items():
        context.exchange()
        if context.rank in subgroup:
            # What a library refuses is reported where it is timed.
            with context.step(f"first sum between ranks {subgroup[0]} to {subgroup[-1]}"), unsupported_as_reason():
                dist.all_reduce(torch.ones(1).to(context.device), group=group)
                context.accelerator.synchronize()


def _spent(context: RankContext, started: float, budget_s: float) -> bool:
    return max(context.exchange(time.monotonic() - started)) > budget_s


def _slow_groups_again(
    context: RankContext[Settings], groups: Mapping[Subgroup, Any], size: int, best: Best, budget_s: float
) -> Iterator[Report]:
    """Measure again the groups that seem far slower than all ranks together, and all ranks."""
    everyone, started = tuple(range(context.world_size)), time.monotonic()
    for _ in range(MOST_ROUNDS - 1):
        doubtful = []
        for op in IN_GROUPS:
            buses = {
                subgroup: bus_factor(op, len(subgroup)) / max(*context.exchange(best.get((op, size, subgroup), 0.0)), 1e-9)
                for subgroup in groups
                if all(context.exchange((op, size, subgroup) in best or context.rank not in subgroup))
            }
            doubtful += [
                (op, subgroup)
                for subgroup, bus in buses.items()
                if everyone in buses and bus < DOUBTFUL_SHARE * buses[everyone]
            ]
        if not doubtful or _spent(context, started, budget_s):
            return
        for op in dict.fromkeys(op for op, _ in doubtful):
            for subgroup in [*(subgroup for other, subgroup in doubtful if other == op), everyone]:
                yield from _measure(context, op, size, subgroup, groups[subgroup], best)


def _measure(
    context: RankContext[Settings], op: str, size: int, subgroup: Subgroup, group: Any, best: Best
) -> Iterator[Report]:
    """Sample one operation: calls back to back after one that is not timed, each result compared.

    The best of this rank's is noted in `best`.
    """
    seconds: list[float] = []
    first: TensorDiff | None = None
    wrong, calls, refused = 0, 1, ""
    timed = _timed_call(context, op, size, subgroup, group) if context.rank in subgroup else None
    most = _most_calls(len(subgroup))
    for number in range(context.settings.samples + 1):
        context.exchange()
        with context.step(f"{op} of {size} bytes between ranks {subgroup[0]} to {subgroup[-1]}"):
            with unsupported_as_reason() as refusal:
                if timed is not None:
                    took = _sample(context, timed, calls)
                    seconds += [took / calls] if number else []
                    if found := difference(timed.output.cpu(), timed.expected(calls + 1)):
                        wrong += 1
                        first = first or found
            refused = refusal.reason or ""
        if any(context.exchange(bool(refused))):
            break
        if number == 0:
            longest = max(context.exchange(took if timed is not None else 0.0))
            calls = max(1, min(most, int(SAMPLE_S / max(longest, 1e-6))))
    if timed is not None and refused:
        yield Unsupported(op, refused)
    elif timed is not None:
        if seconds:
            best[op, size, subgroup] = min(*seconds, best.get((op, size, subgroup), math.inf))
        yield CollectiveTimes(op, size, subgroup, tuple(seconds), wrong, first)


def _most_calls(ranks: int) -> int:
    """Return the number of calls for which a repeatedly summed sum stays exact in float32."""
    return max(1, min(MOST_CALLS, int(math.log(2**20, ranks)) - 2))


def _sample(context: RankContext, timed: TimedCall, calls: int) -> float:
    timed.refill()
    timed.call()  # brings the ranks together, and connects those that are not connected
    context.accelerator.synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        timed.call()
    context.accelerator.synchronize()
    return time.perf_counter() - began


def _timed_call(context: RankContext, op: str, size: int, subgroup: Subgroup, group: Any) -> TimedCall:
    ranks, place = len(subgroup), subgroup.index(context.rank)
    part = max(1, size // 4 // ranks)
    numel = part * ranks if op != "all_reduce" and op != "broadcast" else max(1, size // 4)
    given = part if op == "all_gather" else numel
    every = [_values(context, op, size, rank, given) for rank in subgroup]
    source = repeat_values(every[place], 0, given).to(context.device)
    if op == "all_reduce":
        buffer, total = source.clone(), exact_sum(every)
        return TimedCall(
            lambda: _drop(buffer.copy_(source)),
            lambda: dist.all_reduce(buffer, group=group),
            buffer,
            cache(lambda calls: repeat_values(total * float(ranks ** (calls - 1)), 0, numel)),
        )
    if op == "broadcast":
        buffer = source.clone()
        return TimedCall(
            lambda: _drop(buffer.copy_(source)),
            lambda: dist.broadcast(buffer, src=subgroup[0], group=group),
            buffer,
            cache(lambda _: repeat_values(every[0], 0, numel)),
        )
    out = torch.zeros(part if op == "reduce_scatter" else numel).to(context.device)
    call: Callable[[], object]
    expected: Callable[[int], torch.Tensor]
    if op == "all_gather":
        gather = all_gather_single()
        expected = lambda _: torch.cat([repeat_values(values, 0, part) for values in every])  # noqa: E731
        call = lambda: gather(out, source, group=group)  # noqa: E731
    elif op == "reduce_scatter":
        scatter = reduce_scatter_single()
        expected = lambda _: repeat_values(exact_sum(every), place * part, part)  # noqa: E731
        call = lambda: scatter(out, source, group=group)  # noqa: E731
    else:
        expected = lambda _: torch.cat([repeat_values(values, place * part, part) for values in every])  # noqa: E731
        call = lambda: dist.all_to_all_single(out, source, group=group)  # noqa: E731
    return TimedCall(lambda: _drop(out.zero_()), call, out, cache(expected))


def _values(context: RankContext, op: str, size: int, rank: int, numel: int) -> torch.Tensor:
    """Return small integers, as many as there are before they repeat, so that sums of sums are exact."""
    generator = context.accelerator.generator("bandwidth", op, size, rank)
    return torch.randint(-4, 5, (min(numel, PERIOD),), generator=generator).float()


def _drop(_: object) -> None:
    """Discard a value."""
