"""The ranks' side of `multichip.bandwidth`: collectives by size and group, then pairs, then tails and overlap.

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

from readiness.multichip import tails, transfers
from readiness.multichip.bus import blocks, bus_factor, group_sizes
from readiness.multichip.comparing import difference
from readiness.multichip.growing import GROWTH, PERIOD, most_bytes, repeated
from readiness.multichip.known_answers import gather_single, scatter_single
from readiness.multichip.teams import Team
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import Json, RankContext

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
Best = dict[tuple[str, int, Team], float]


@dataclass(frozen=True, slots=True)
class Work:
    """One operation in one size. `refill` makes the buffers as they were; `call` is one call.

    `expected` is what the output must be after so many calls since `refill`.
    """

    refill: Callable[[], None]
    call: Callable[[], object]
    output: torch.Tensor
    expected: Callable[[int], torch.Tensor]


def rank_main(context: RankContext) -> Iterator[Json]:
    """A report for each operation, size and group; then those of pairs, tails and overlap, and of the device's links."""
    world = context.world_size
    everyone = tuple(range(world))
    with context.step("making groups of ranks"):
        teams = [team for size in group_sizes(world) if size < world for team in blocks(world, size)]
        groups: dict[Team, Any] = {team: dist.new_group(list(team)) for team in teams} | {everyone: None}
    asked = sorted(context.settings["bytes"])
    sizes, size = list(asked), 0
    best: Best = {}
    _connect(context, groups)
    budget_s, again_s = float(context.settings["budget_s"]), 0.0
    started = time.monotonic()
    while sizes:
        size = sizes.pop(0)
        for team, group in groups.items():
            for op in OPERATIONS:
                if team == everyone or (op in IN_GROUPS and size >= asked[-1]):
                    yield from _measure(context, op, size, team, group, best)
        if size >= asked[-1]:
            begun = time.monotonic()
            yield from _doubtful_again(context, groups, size, best, budget_s - again_s)
            again_s += max(context.share(time.monotonic() - begun))  # the same on all ranks, as all that is decided by
        took = max(context.share(best.get(("all_reduce", size, everyone), LONG_ENOUGH_S)))
        if not sizes and took < LONG_ENOUGH_S and size * GROWTH <= most_bytes(context, world):
            if _spent(context, started + again_s, budget_s):
                yield {"stopped_at": size, "after_s": time.monotonic() - started}
                break  # all together: the slowest rank decides
            sizes.append(size * GROWTH)
    yield from transfers.reports(context)
    yield from tails.reports(context, size)
    with context.step("reading counters and states of links"):
        stack, facts = context.accelerator.stack, context.accelerator.facts
        counters, links = stack.counters(facts), stack.links(facts)
        yield {
            "counters": None if counters is None else dict(counters),
            "links": None if links is None else {"up": links.up, "gbps": links.gbps, "peers": links.peers},
        }


def _connect(context: RankContext, groups: Mapping[Team, Any]) -> None:
    """One call of each group, one group after the other: to connect takes some libraries seconds, which measure nothing."""
    for team, group in groups.items():
        context.share()
        if context.rank in team:
            # What a library refuses is told where it is timed.
            with context.step(f"first sum between ranks {team[0]} to {team[-1]}"), unsupported_as_reason():
                dist.all_reduce(torch.ones(1).to(context.device), group=group)
                context.accelerator.synchronize()


def _spent(context: RankContext, started: float, budget_s: float) -> bool:
    return max(context.share(time.monotonic() - started)) > budget_s


def _doubtful_again(
    context: RankContext, groups: Mapping[Team, Any], size: int, best: Best, budget_s: float
) -> Iterator[Json]:
    """Groups that seem far slower than all ranks together in a size, and all ranks, once more."""
    everyone, started = tuple(range(context.world_size)), time.monotonic()
    for _ in range(MOST_ROUNDS - 1):
        doubtful = []
        for op in IN_GROUPS:
            buses = {
                team: bus_factor(op, len(team)) / max(*context.share(best.get((op, size, team), 0.0)), 1e-9)
                for team in groups
                if all(context.share((op, size, team) in best or context.rank not in team))
            }
            doubtful += [
                (op, team) for team, bus in buses.items() if everyone in buses and bus < DOUBTFUL_SHARE * buses[everyone]
            ]
        if not doubtful or _spent(context, started, budget_s):
            return
        for op in dict.fromkeys(op for op, _ in doubtful):
            for team in [*(team for other, team in doubtful if other == op), everyone]:
                yield from _measure(context, op, size, team, groups[team], best)


def _measure(context: RankContext, op: str, size: int, team: Team, group: Any, best: Best) -> Iterator[Json]:
    """Samples of one operation: calls back to back after one that is not timed, each result compared.

    The best of this rank's is noted in `best`.
    """
    seconds: list[float] = []
    first: Json = {}
    wrong, calls, refused = 0, 1, ""
    work = _work(context, op, size, team, group) if context.rank in team else None
    most = _most_calls(len(team))
    for number in range(context.settings["samples"] + 1):
        context.share()
        with context.step(f"{op} of {size} bytes between ranks {team[0]} to {team[-1]}"):
            with unsupported_as_reason() as refusal:
                if work is not None:
                    took = _sample(context, work, calls)
                    seconds += [took / calls] if number else []
                    if found := difference(work.output.cpu(), work.expected(calls + 1)):
                        wrong += 1
                        first = first or found
            refused = refusal.reason or ""
        if any(context.share(bool(refused))):
            break
        if number == 0:
            longest = max(context.share(took if work is not None else 0.0))
            calls = max(1, min(most, int(SAMPLE_S / max(longest, 1e-6))))
    if work is not None:
        told = {"bandwidth": op, "bytes": size, "team": list(team)}
        if refused:
            yield {**told, "refused": op, "reason": refused}
        else:
            if seconds:
                best[op, size, team] = min(*seconds, best.get((op, size, team), math.inf))
            yield {**told, "seconds": seconds, "calls": calls, "wrong": wrong, **({"first": first} if first else {})}


def _most_calls(ranks: int) -> int:
    """So few that a sum that is summed again and again stays exact in float32."""
    return max(1, min(MOST_CALLS, int(math.log(2**20, ranks)) - 2))


def _sample(context: RankContext, work: Work, calls: int) -> float:
    work.refill()
    work.call()  # brings the ranks together, and connects those that have not met
    context.accelerator.synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        work.call()
    context.accelerator.synchronize()
    return time.perf_counter() - began


def _work(context: RankContext, op: str, size: int, team: Team, group: Any) -> Work:
    ranks, place = len(team), team.index(context.rank)
    part = max(1, size // 4 // ranks)
    numel = part * ranks if op != "all_reduce" and op != "broadcast" else max(1, size // 4)
    given = part if op == "all_gather" else numel
    every = [_values(context, op, size, rank, given) for rank in team]
    source = repeated(every[place], 0, given).to(context.device)
    if op == "all_reduce":
        buffer, total = source.clone(), torch.stack(every).sum(0)
        return Work(
            lambda: void(buffer.copy_(source)),
            lambda: dist.all_reduce(buffer, group=group),
            buffer,
            cache(lambda calls: repeated(total * float(ranks ** (calls - 1)), 0, numel)),
        )
    if op == "broadcast":
        buffer = source.clone()
        return Work(
            lambda: void(buffer.copy_(source)),
            lambda: dist.broadcast(buffer, src=team[0], group=group),
            buffer,
            cache(lambda _: repeated(every[0], 0, numel)),
        )
    out = torch.zeros(part if op == "reduce_scatter" else numel).to(context.device)
    call: Callable[[], object]
    expected: Callable[[int], torch.Tensor]
    if op == "all_gather":
        gather = gather_single()
        expected = lambda _: torch.cat([repeated(values, 0, part) for values in every])  # noqa: E731
        call = lambda: gather(out, source, group=group)  # noqa: E731
    elif op == "reduce_scatter":
        scatter = scatter_single()
        expected = lambda _: repeated(torch.stack(every).sum(0), place * part, part)  # noqa: E731
        call = lambda: scatter(out, source, group=group)  # noqa: E731
    else:
        expected = lambda _: torch.cat([repeated(values, place * part, part) for values in every])  # noqa: E731
        call = lambda: dist.all_to_all_single(out, source, group=group)  # noqa: E731
    return Work(lambda: void(out.zero_()), call, out, cache(expected))


def _values(context: RankContext, op: str, size: int, rank: int, numel: int) -> torch.Tensor:
    """Small whole numbers, so that sums of sums are exact; as many as there are before they repeat."""
    generator = context.accelerator.generator("bandwidth", op, size, rank)
    return torch.randint(-4, 5, (min(numel, PERIOD),), generator=generator).float()


def void(_: object) -> None:
    """Drop a value."""
