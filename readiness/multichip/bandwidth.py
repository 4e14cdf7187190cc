"""The ranks' side of `multichip.bandwidth`: collectives by size and group, then pairs, then tails and overlap."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from readiness.multichip import tails, transfers
from readiness.multichip.bus import blocks, group_sizes
from readiness.multichip.comparing import difference, refusing
from readiness.multichip.known_answers import gather_single, scatter_single
from readiness.multichip.teams import Team
from readiness.ranks.values import Json, RankContext

#: Calls back to back in one sample, at most; and a sample is about as long as this.
MOST_CALLS, SAMPLE_S = 8, 0.004
#: Operations that are timed in groups of some ranks as well, in the largest size.
IN_GROUPS = ("all_reduce", "all_gather", "all_to_all")
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")


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
    """A report for each operation, size and group; then those of pairs, tails and overlap."""
    world = context.world_size
    everyone = tuple(range(world))
    with context.step("making groups of ranks"):
        teams = [team for size in group_sizes(world) if size < world for team in blocks(world, size)]
        groups: dict[Team, Any] = {team: dist.new_group(list(team)) for team in teams} | {everyone: None}
    started = time.monotonic()
    for size in sorted(context.settings["bytes"]):
        for team, group in groups.items():
            for op in OPERATIONS:
                if team == everyone or (op in IN_GROUPS and size == max(context.settings["bytes"])):
                    yield from _measure(context, op, size, team, group)
        if max(context.share(time.monotonic() - started)) > context.settings["budget_s"]:
            break  # all together: the slowest rank decides
    yield from transfers.reports(context)
    yield from tails.reports(context)


def _measure(context: RankContext, op: str, size: int, team: Team, group: Any) -> Iterator[Json]:
    """Samples of one operation: calls back to back after one that is not timed, each result compared."""
    seconds: list[float] = []
    first: Json = {}
    wrong, calls, refused = 0, 1, ""
    work = _work(context, op, size, team, group) if context.rank in team else None
    most = _most_calls(len(team))
    for number in range(context.settings["samples"] + 1):
        context.share()
        with context.step(f"{op} of {size} bytes between ranks {team[0]} to {team[-1]}"):
            with refusing() as refusal:
                if work is not None:
                    took = _sample(context, work, calls)
                    seconds += [took / calls] if number else []
                    if found := difference(work.output.cpu(), work.expected(calls + 1)):
                        wrong += 1
                        first = first or found
            refused = refusal.reason
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
    source = every[place].to(context.device)
    if op == "all_reduce":
        buffer, total = source.clone(), torch.stack(every).sum(0)
        return Work(
            lambda: void(buffer.copy_(source)),
            lambda: dist.all_reduce(buffer, group=group),
            buffer,
            lambda calls: total * float(ranks ** (calls - 1)),
        )
    if op == "broadcast":
        buffer = source.clone()
        return Work(
            lambda: void(buffer.copy_(source)),
            lambda: dist.broadcast(buffer, src=team[0], group=group),
            buffer,
            lambda _: every[0],
        )
    out = torch.zeros(part if op == "reduce_scatter" else numel).to(context.device)
    call: Callable[[], object]
    if op == "all_gather":
        gather = gather_single()
        expected = torch.cat(every)
        call = lambda: gather(out, source, group=group)  # noqa: E731
    elif op == "reduce_scatter":
        scatter = scatter_single()
        expected = torch.stack(every).sum(0).view(ranks, part)[place]
        call = lambda: scatter(out, source, group=group)  # noqa: E731
    else:
        expected = torch.cat([values.view(ranks, part)[place] for values in every])
        call = lambda: dist.all_to_all_single(out, source, group=group)  # noqa: E731
    return Work(lambda: void(out.zero_()), call, out, lambda _: expected)


def _values(context: RankContext, op: str, size: int, rank: int, numel: int) -> torch.Tensor:
    """Small whole numbers, so that sums of sums are exact."""
    generator = context.accelerator.generator("bandwidth", op, size, rank)
    return torch.randint(-4, 5, (numel,), generator=generator).float()


def void(_: object) -> None:
    """Drop a value."""
