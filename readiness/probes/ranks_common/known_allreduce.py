"""All-reduce with a known answer: integers whose sum is exact in any order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from readiness.distributed.types import RankContext
from readiness.probes.ranks_common.exact_inputs import Inputs, exact_sum
from readiness.probes.ranks_common.process_groups import Subgroup
from readiness.probes.ranks_common.tensor_diff import TensorDiff, difference


@dataclass(frozen=True, slots=True)
class KnownSum:
    """Known sum: this rank's part on its device, and the expected sum on the CPU."""

    part: torch.Tensor
    expected: torch.Tensor


def known_sum(context: RankContext, parts: Mapping[int, torch.Tensor]) -> KnownSum:
    """Return the known sum of these ranks' parts, this one among them."""
    return KnownSum(parts[context.rank].to(context.device), exact_sum(parts.values()))


def known_sums(
    context: RankContext, dtype: torch.dtype, size: int, turn: int, subgroups: Iterable[Subgroup]
) -> dict[Subgroup, KnownSum]:
    """Return the known sum of each subgroup of this rank, with parts drawn anew for each turn."""
    inputs = Inputs(context, "all_reduce", dtype, size, turn)
    every = inputs.all_values(size, summed=True)
    part = every[context.rank].to(context.device)
    return {
        subgroup: KnownSum(part, exact_sum(every[rank] for rank in subgroup))
        for subgroup in subgroups
        if context.rank in subgroup
    }


class KnownAllReduce:
    """All-reduce of a known sum in a process group: `run` it, then check its result (`wrong`)."""

    def __init__(self, context: RankContext, known: KnownSum, group: Any = None) -> None:
        """Copy the part, and synchronise."""
        self.accelerator, self.group, self.expected = context.accelerator, group, known.expected
        self.buffer = known.part.clone()
        self.accelerator.synchronize()

    def run(self) -> None:
        """Call all_reduce, and synchronise."""
        dist.all_reduce(self.buffer, group=self.group)
        self.accelerator.synchronize()

    def wrong(self) -> TensorDiff | None:
        """Return the difference of the result from the known sum, or None."""
        return difference(self.buffer.cpu(), self.expected)


def known_allreduce(context: RankContext, known: KnownSum, group: Any = None) -> TensorDiff | None:
    """Call all_reduce on a copy of the known part; return the difference from the known sum, or None."""
    call = KnownAllReduce(context, known, group)
    call.run()
    return call.wrong()
