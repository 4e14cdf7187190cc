"""Sums with known answers, some thousand times: by two with each partner in turn, and by all ranks in between.

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

from readiness.multichip.comparing import difference
from readiness.multichip.inputs import Inputs, exact
from readiness.multichip.series import Series
from readiness.multichip.teams import Team, rounds
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import Json, RankContext

#: Elements of a sum: mostly latency, and mostly bandwidth. Every so many sums one is large.
SMALL, LARGE, LARGE_EVERY = 1024, 65536, 4
#: Sets of inputs that take turns, so that a result left over from the call before is seen.
VARIANTS = 4
#: Sums between two meetings of the ranks; one of them by all ranks for so many by two.
MOST_AT_ONCE, WORLD_EVERY = 48, 12
#: Speed kept below which more is tried, and for how long.
DOUBTFUL_SHARE, DOUBT_S = 0.6, 8.0


@dataclass(frozen=True, slots=True)
class Known:
    """One set of inputs: what this rank puts in, on its device, and what each of its teams must get, on the CPU."""

    dtype: str
    block: str
    sent: torch.Tensor
    expected: Mapping[Team, torch.Tensor]


class Sums:
    """The sums of one rank. `number` counts its calls of all_reduce since its process began."""

    def __init__(self, context: RankContext, groups: Mapping[Team, Any]) -> None:
        self.context = context
        self.groups = groups
        self.number = 0
        self._turn = 0
        self._series: dict[tuple[Team, str], Series] = {}
        self._met: set[tuple[Team, str]] = set()

    def run(self) -> Iterator[Json]:
        """`repeats` sums by two, or as many as fit into `budget_s`: a report for each wrong one, then one for each team."""
        settings = self.context.settings
        small: list[Known] = []
        large: list[Known] = []
        for dtype in settings["dtypes"]:
            if reason := self._refusal(getattr(torch, dtype)):
                yield {"refused": f"all_reduce in {dtype}", "reason": reason}
            else:
                small += [self._known(dtype, "small", SMALL, variant) for variant in range(VARIANTS)]
                large += [self._known(dtype, "large", LARGE, variant) for variant in range(VARIANTS)]
        partners = sum(len(teams[0]) == 2 for teams in rounds(self.context.world_size))
        started, at_once, done = time.monotonic(), 1, 0
        while small and done < settings["repeats"]:
            yield from self._round(at_once, small, large)
            done += at_once * partners
            at_once = min(2 * at_once, MOST_AT_ONCE)
            if max(self.context.share(time.monotonic() - started)) > settings["budget_s"]:
                break  # all together: the slowest rank decides
        yield from self._doubts(small, large)
        for (team, block), series in self._series.items():
            yield {"sums": list(team), "block": block, **series.summary(settings["interruption_s"])}

    def _round(self, at_once: int, small: list[Known], large: list[Known]) -> Iterator[Json]:
        """So many sums with each partner, fewer by all."""
        for teams in rounds(self.context.world_size):
            everyone = len(teams[0]) == self.context.world_size > 2
            mine = next((team for team in teams if self.context.rank in team), None)
            yield from self._several(mine, -(-at_once // WORLD_EVERY) if everyone else at_once, small, large)

    def _doubts(self, small: list[Known], large: list[Known]) -> Iterator[Json]:
        """Go on where sums seem slower than at first: slow ones stay so, while a busy host lets a good time through."""
        started = time.monotonic()
        while small:
            kept = [series.speed_kept for (team, _), series in self._series.items() if len(team) == 2]
            if min(self.context.share(min(kept, default=1.0))) >= DOUBTFUL_SHARE:
                break
            if max(self.context.share(time.monotonic() - started)) > DOUBT_S:
                break
            yield from self._round(MOST_AT_ONCE // 4, small, large)

    def all_reduce(self, buffer: torch.Tensor, group: Any) -> None:
        """The sum over a group, counted and waited for."""
        self.number += 1
        dist.all_reduce(buffer, group=group)
        self.context.accelerator.synchronize()

    def _refusal(self, dtype: torch.dtype) -> str:
        """Why the library takes no sum of this type on some rank; empty where it does."""
        with self.context.step(f"first all_reduce in {dtype}"), unsupported_as_reason() as refusal:
            self.all_reduce(torch.zeros(SMALL, dtype=dtype).to(self.context.device), None)
        refused = sum(self.context.share(bool(refusal.reason)))
        return refusal.reason or (f"refused on {refused:g} ranks" if refused else "")

    def _known(self, dtype: str, block: str, size: int, variant: int) -> Known:
        inputs = Inputs(self.context, "all_reduce", getattr(torch, dtype), size, variant)
        every = inputs.all_values(size, summed=True)
        expected = {
            team: torch.stack([exact(every[rank]) for rank in team]).sum(0).to(inputs.dtype)
            for team in self.groups
            if self.context.rank in team and len(team) > 1
        }
        return Known(dtype, block, every[self.context.rank].to(self.context.device), expected)

    def _several(self, team: Team | None, number: int, small: list[Known], large: list[Known]) -> Iterator[Json]:
        """So many sums of one team, begun together by all teams; a rank without one rests."""
        self.context.share()
        for _ in range(number):
            self._turn += 1
            sets = small if self._turn % LARGE_EVERY else large
            known = sets[self._turn // (1 if sets is small else LARGE_EVERY) % len(sets)]
            if team is None:
                with self.context.step("resting"):
                    pass
            else:
                yield from self._sum(team, known)

    def _sum(self, team: Team, known: Known) -> Iterator[Json]:
        buffer = known.sent.clone()
        self.context.accelerator.synchronize()
        with self.context.step(f"all_reduce number {self.number + 1}, {known.dtype}, of ranks {_names(team)}"):
            began = self.context.clock()
            self.all_reduce(buffer, self.groups[team])
            seconds = self.context.clock() - began
        if (team, known.block) in self._met:  # a group's first sum connects it, for each size perhaps in another way
            self._series.setdefault((team, known.block), Series()).add(self._turn, began, seconds)
        self._met.add((team, known.block))
        if wrong := difference(buffer.cpu(), known.expected[team]):
            told = {"op": "all_reduce", "dtype": known.dtype, "team": list(team), "turn": self._turn}
            yield {**told, "call": f"all_reduce number {self.number}", **wrong}


def _names(team: Team) -> str:
    return ", ".join(map(str, team)) if len(team) <= 8 else f"{team[0]} to {team[-1]}"
