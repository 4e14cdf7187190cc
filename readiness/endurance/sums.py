"""Sums with known answers for a soak: by pairs and by all ranks, on data that are new in every round."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist

from readiness.multichip.comparing import difference
from readiness.multichip.known_answers import Inputs, exact
from readiness.multichip.teams import Team, groups, rounds
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.ranks.values import Json, RankContext

#: Elements of the sums that each team does in a round, in each dtype.
SIZES = (1024, 7, 65537)


class Sums:
    """The sums of one rank. `number` counts its calls of all_reduce in this process, those of training apart.

    Each world begins with another pairing (`turn`): of a rank that fails at the same call again and again, the partners
    change, and it is told from them.
    """

    def __init__(self, context: RankContext) -> None:
        self.context = context
        with context.step("making groups of ranks"):
            self.groups = groups(context.world_size)
        self.number = 0
        self._refused: set[str] = set()

    def round(self, number: int) -> list[Json]:
        """All teams' sums once; what was wrong of those that this rank took part in."""
        return [fault for dtype in self.context.settings["dtypes"] for fault in self._of_dtype(dtype, number)]

    def _of_dtype(self, dtype: str, number: int) -> Iterator[Json]:
        drawn = {}
        for size in SIZES:
            inputs = Inputs(self.context, "all_reduce", getattr(torch, dtype), size, number)
            drawn[size] = inputs.all_values(size, summed=True)
        plan = rounds(self.context.world_size) if self.context.world_size > 1 else [[(0,)]]
        turn = self.context.settings["turn"] % len(plan)
        for teams in plan[turn:] + plan[:turn]:
            self.context.share()
            team = next((team for team in teams if self.context.rank in team), None)
            for size in SIZES:
                if team is None or dtype in self._refused:
                    with self.context.step("resting"):
                        continue
                yield from self._sum(team, dtype, drawn[size])

    def _sum(self, team: Team, dtype: str, every: list[torch.Tensor]) -> Iterator[Json]:
        buffer = every[self.context.rank].clone().to(self.context.device)
        self.number += 1
        name = f"all_reduce number {self.number}, {buffer.numel()} x {dtype}, of ranks {', '.join(map(str, team))}"
        with self.context.step(name), unsupported_as_reason() as refusal:
            dist.all_reduce(buffer, group=self.groups[team])
            self.context.accelerator.synchronize()
        if refusal.reason:
            self._refused.add(dtype)  # what the library takes at all is told by multichip.collectives
            return
        expected = torch.stack([exact(every[rank]) for rank in team]).sum(0).to(buffer.dtype)
        if wrong := difference(buffer.cpu(), expected):
            first = f"{wrong['found']:g} for {wrong['expected']:g}"
            count = "one wrong element, at" if wrong["wrong"] == 1 else f"{wrong['wrong']} wrong elements, the first at"
            what = f"{name}: {count} {wrong['index']}: {first}"
            yield {"cause": "wrong sum", "what": what, "team": list(team)}
