"""All-reduce with a known answer: parts of whole numbers whose sum is exact in any order, called and compared."""

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
    """The part that this rank puts in, on its device, and the sum that it must get, on the CPU."""

    part: torch.Tensor
    expected: torch.Tensor


def known_sum(context: RankContext, parts: Mapping[int, torch.Tensor]) -> KnownSum:
    """The known sum of the parts of these ranks, this one among them."""
    return KnownSum(parts[context.rank].to(context.device), exact_sum(parts.values()))


def known_sums(
    context: RankContext, dtype: torch.dtype, size: int, turn: int, subgroups: Iterable[Subgroup]
) -> dict[Subgroup, KnownSum]:
    """For each team of which this rank is one the known sum of its parts, which are drawn anew for each turn."""
    inputs = Inputs(context, "all_reduce", dtype, size, turn)
    every = inputs.all_values(size, summed=True)
    part = every[context.rank].to(context.device)
    return {
        subgroup: KnownSum(part, exact_sum(every[rank] for rank in subgroup))
        for subgroup in subgroups
        if context.rank in subgroup
    }


class KnownAllReduce:
    """One all-reduce of a known sum in a process group: `run` it, then compare its result (`wrong`)."""

    def __init__(self, context: RankContext, known: KnownSum, group: Any = None) -> None:
        """Copy the part, and wait until the device has done so."""
        self.accelerator, self.group, self.expected = context.accelerator, group, known.expected
        self.buffer = known.part.clone()
        self.accelerator.synchronize()

    def run(self) -> None:
        """Call all_reduce, and wait until the device has the result."""
        dist.all_reduce(self.buffer, group=self.group)
        self.accelerator.synchronize()

    def wrong(self) -> TensorDiff | None:
        """The difference of the result from the known sum; None where it is right."""
        return difference(self.buffer.cpu(), self.expected)


def known_allreduce(context: RankContext, known: KnownSum, group: Any = None) -> TensorDiff | None:
    """Call all_reduce on a copy of the known part; return what is wrong with the result, None where it is right."""
    call = KnownAllReduce(context, known, group)
    call.run()
    return call.wrong()
