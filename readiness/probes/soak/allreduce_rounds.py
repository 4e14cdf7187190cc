"""All-reduces with known answers for a soak, in pairs and over all ranks, with new data in every round."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from readiness.distributed.types import RankContext
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.ranks_common.known_allreduce import KnownSum, known_allreduce, known_sums
from readiness.probes.ranks_common.process_groups import Subgroup, groups, rounds
from readiness.probes.soak.reports import Settings, SoakFault

#: Elements of the sums that each team makes in a round, in each dtype.
SIZES = (1024, 7, 65537)


class AllReduceRounds:
    """All-reduces of one rank. `number` counts its calls in this process, without those of training.

    Each group begins with another pairing (`turn`): of a rank that fails at the same call again and again the partners
    change, so that it alone is in all faults.
    """

    def __init__(self, context: RankContext[Settings]) -> None:
        self.context = context
        with context.step("making groups of ranks"):
            self.groups = groups(context.world_size)
        self.number = 0
        self._refused: set[str] = set()

    def round(self, number: int) -> list[SoakFault]:
        """Make the sums of all subgroups once; yield the wrong results of this rank's subgroups."""
        return [fault for dtype in self.context.settings.dtypes for fault in self._of_dtype(dtype, number)]

    def _of_dtype(self, dtype: str, number: int) -> Iterator[SoakFault]:
        plan = rounds(self.context.world_size) if self.context.world_size > 1 else [[(0,)]]
        turn = self.context.settings.turn % len(plan)
        every = [subgroup for subgroups in plan for subgroup in subgroups]
        sums = {size: known_sums(self.context, getattr(torch, dtype), size, number, every) for size in SIZES}
        for subgroups in plan[turn:] + plan[:turn]:
            self.context.exchange()
            subgroup = next((subgroup for subgroup in subgroups if self.context.rank in subgroup), None)
            for size in SIZES:
                if subgroup is None or dtype in self._refused:
                    with self.context.step("resting"):
                        continue
                yield from self._sum(subgroup, dtype, sums[size][subgroup])

    def _sum(self, subgroup: Subgroup, dtype: str, known: KnownSum) -> Iterator[SoakFault]:
        self.number += 1
        ranks = ", ".join(map(str, subgroup))
        name = f"all_reduce number {self.number}, {known.expected.numel()} x {dtype}, of ranks {ranks}"
        with self.context.step(name), unsupported_as_reason() as refusal:
            wrong = known_allreduce(self.context, known, self.groups[subgroup])
        if refusal.reason:
            self._refused.add(dtype)  # which types the library takes is measured by multichip.collectives
        elif wrong is not None:
            count = "one wrong element, at" if wrong.wrong == 1 else f"{wrong.wrong} wrong elements, the first at"
            what = f"{name}: {count} {wrong.index}: {wrong.found:g} for {wrong.expected:g}"
            yield SoakFault("wrong sum", what, subgroup)
