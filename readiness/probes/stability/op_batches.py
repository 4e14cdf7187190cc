"""Batches of operations, so that the device and not the host limits the speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from readiness.probes.parity.reference_cases import BACKWARD
from readiness.probes.stability.operations import Case
from readiness.probes.stability.per_op_stats import OpStats

Tensor = torch.Tensor
MeasuredCase = tuple[Case, OpStats]
Found = tuple[OpStats, Sequence[Tensor]]
#: Turns what is raised meanwhile into an error of this tally.
Counting = Callable[[OpStats], AbstractContextManager[None]]

#: An operation that raised so often is left alone.
ERRORS_OF_ONE = 3


@dataclass(slots=True)
class Batch:
    """Batch of operations of one dtype, layout and phase. Gradients are computed together, until that raises."""

    measured: list[MeasuredCase]
    stats: OpStats
    together: bool

    def run(self, counting: Counting) -> Iterator[Found]:
        """Return the results of each operation, without synchronising."""
        if self.together:
            found: list[Found] = []
            with counting(self.stats):
                found = self._gradients()
            self.together = bool(found)
            yield from found
            return
        for case, stats in self.measured:
            if stats.errors < ERRORS_OF_ONE:
                with counting(stats):
                    results = case.call()
                    stats.calls += 1
                    yield stats, results

    def _gradients(self) -> list[Found]:
        graphs = [case.graph() for case, _ in self.measured if case.graph is not None]
        leaves = [leaf for _, own, _ in graphs for leaf in own]
        outputs, cotangents = [out for out, _, _ in graphs], [cotangent for _, _, cotangent in graphs]
        gradients = torch.autograd.grad(outputs, leaves, cotangents, retain_graph=True)
        found: list[Found] = []
        start = 0
        for (_, stats), (_, own, _) in zip(self.measured, graphs, strict=True):
            found.append((stats, gradients[start : start + len(own)]))
            start += len(own)
            stats.calls += 1
        return found


def batches(measured: Sequence[MeasuredCase]) -> list[Batch]:
    """Return one batch for each dtype, layout and phase, forward first."""
    kinds = sorted({(case.phase == BACKWARD, case.phase, case.dtype, case.layout) for case, _ in measured})
    found = []
    for backward, phase, dtype, layout in kinds:
        own = [item for item in measured if (item[0].phase, item[0].dtype, item[0].layout) == (phase, dtype, layout)]
        stats = OpStats(f"{len(own)} operations in {dtype}, {layout} inputs, {phase}", "", phase)
        found.append(Batch(own, stats, together=backward))
    return found
