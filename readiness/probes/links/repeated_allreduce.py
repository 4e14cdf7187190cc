"""Repeated all-reduces with known answers: thousands in pairs, with each partner in turn, and some over all ranks.

Two ranks finish a sum in a fraction of the time that all need, so many more calls fit; and a wrong or slow one names
its pair.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.host.runqueue_wait import in_line_s
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.links.reports import CallReport, Settings, WrongResult
from readiness.probes.ranks_common.call_timings import CallTimings
from readiness.probes.ranks_common.known_allreduce import KnownAllReduce, KnownSum, known_sums
from readiness.probes.ranks_common.process_groups import Subgroup, rounds
from readiness.probes.ranks_common.tensor_diff import Unsupported

#: Elements of a sum: mostly latency, and mostly bandwidth. Every so many sums one is large.
SMALL, LARGE, LARGE_EVERY = 1024, 65536, 4
#: Sets of inputs that take turns, so that a result left over from the call before is seen.
VARIANTS = 4
#: Sums between two exchanges of the ranks; one of them by all ranks for so many by two.
MOST_AT_ONCE, ALL_RANKS_EVERY = 48, 12
#: Share of the speed kept below which more is tried, and for how long.
DOUBTFUL_SHARE, DOUBT_S = 0.6, 8.0


@dataclass(frozen=True, slots=True)
class Block:
    """Inputs of one type and size, for each of this rank's subgroups."""

    dtype: str
    size: str
    sums: Mapping[Subgroup, KnownSum]


class RepeatedAllReduce:
    """All-reduces of one rank. `number` counts its calls in this process."""

    def __init__(self, context: RankContext[Settings], groups: Mapping[Subgroup, Any]) -> None:
        self.context = context
        self.groups = groups
        self.number = 0
        self._turn = 0
        self._timings: dict[tuple[Subgroup, str], CallTimings] = {}
        self._connected: set[tuple[Subgroup, str]] = set()

    def run(self) -> Iterator[Report]:
        """Sum in pairs `repeats` times, or while `budget_s` lasts; report wrong results, then each subgroup."""
        settings = self.context.settings
        small: list[Block] = []
        large: list[Block] = []
        for dtype in settings.dtypes:
            if reason := self._refusal(getattr(torch, dtype)):
                yield Unsupported(f"all_reduce in {dtype}", reason)
            else:
                small += [self._block(dtype, "small", SMALL, variant) for variant in range(VARIANTS)]
                large += [self._block(dtype, "large", LARGE, variant) for variant in range(VARIANTS)]
        partners = sum(len(subgroups[0]) == 2 for subgroups in rounds(self.context.world_size))
        started, at_once, done = time.monotonic(), 1, 0
        while small and done < settings.repeats:
            yield from self._round(at_once, small, large)
            done += at_once * partners
            at_once = min(2 * at_once, MOST_AT_ONCE)
            if max(self.context.exchange(time.monotonic() - started)) > settings.budget_s:
                break  # all together: the slowest rank decides
        yield from self._again_if_slow(small, large)
        for (subgroup, size), timings in self._timings.items():
            yield CallReport("all_reduce", subgroup, timings.summary(settings.interruption_s), size)

    def _round(self, at_once: int, small: list[Block], large: list[Block]) -> Iterator[Report]:
        """Sum so many times with each partner, less often over all."""
        for subgroups in rounds(self.context.world_size):
            everyone = len(subgroups[0]) == self.context.world_size > 2
            own_subgroup = next((subgroup for subgroup in subgroups if self.context.rank in subgroup), None)
            yield from self._several(own_subgroup, -(-at_once // ALL_RANKS_EVERY) if everyone else at_once, small, large)

    def _again_if_slow(self, small: list[Block], large: list[Block]) -> Iterator[Report]:
        """Continue if sums seem slower than at first: a slow link stays slow, a busy host does not."""
        started = time.monotonic()
        while small:
            kept = [timings.speed_kept for (subgroup, _), timings in self._timings.items() if len(subgroup) == 2]
            if min(self.context.exchange(min(kept, default=1.0))) >= DOUBTFUL_SHARE:
                break
            if max(self.context.exchange(time.monotonic() - started)) > DOUBT_S:
                break
            yield from self._round(MOST_AT_ONCE // 4, small, large)

    def all_reduce(self, buffer: torch.Tensor, group: Any) -> None:
        """Sum a buffer over a group, count the call, and wait for it."""
        self.number += 1
        dist.all_reduce(buffer, group=group)
        self.context.accelerator.synchronize()

    def _refusal(self, dtype: torch.dtype) -> str:
        """Return why the library refuses sums of this type on some rank; empty if it does not."""
        with self.context.step(f"first all_reduce in {dtype}"), unsupported_as_reason() as refusal:
            self.all_reduce(torch.zeros(SMALL, dtype=dtype).to(self.context.device), None)
        refused = sum(self.context.exchange(bool(refusal.reason)))
        return refusal.reason or (f"refused on {refused:g} ranks" if refused else "")

    def _block(self, dtype: str, size: str, numel: int, variant: int) -> Block:
        subgroups = [subgroup for subgroup in self.groups if len(subgroup) > 1]
        return Block(dtype, size, known_sums(self.context, getattr(torch, dtype), numel, variant, subgroups))

    def _several(self, subgroup: Subgroup | None, number: int, small: list[Block], large: list[Block]) -> Iterator[Report]:
        """Sum so many times in one subgroup, started together by all; a rank without one rests."""
        self.context.exchange()
        began, in_line = self.context.clock(), in_line_s()
        for _ in range(number):
            self._turn += 1
            blocks = small if self._turn % LARGE_EVERY else large
            block = blocks[self._turn // (1 if blocks is small else LARGE_EVERY) % len(blocks)]
            if subgroup is None:
                with self.context.step("resting"):
                    pass
            else:
                yield from self._sum(subgroup, block)
        ended, waited = self.context.clock(), in_line_s() - in_line
        for size in ("small", "large"):
            if subgroup is not None and (timings := self._timings.get((subgroup, size))) is not None:
                timings.waits.append((began, ended, waited))

    def _sum(self, subgroup: Subgroup, block: Block) -> Iterator[Report]:
        call = KnownAllReduce(self.context, block.sums[subgroup], self.groups[subgroup])
        self.number += 1
        with self.context.step(f"all_reduce number {self.number}, {block.dtype}, of ranks {_names(subgroup)}"):
            began = self.context.clock()
            call.run()
            seconds = self.context.clock() - began
        if (subgroup, block.size) in self._connected:  # a group's first sum connects it, perhaps anew for each size
            self._timings.setdefault((subgroup, block.size), CallTimings()).add(self._turn, began, seconds)
        self._connected.add((subgroup, block.size))
        if wrong := call.wrong():
            name = f"all_reduce number {self.number}"
            yield WrongResult("all_reduce", block.dtype, subgroup, self._turn, name, wrong)


def _names(subgroup: Subgroup) -> str:
    return ", ".join(map(str, subgroup)) if len(subgroup) <= 8 else f"{subgroup[0]} to {subgroup[-1]}"
