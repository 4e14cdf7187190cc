"""Parent of `multichip.parallelism`: one rank group for all runs, and a new one after each failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import torch._dynamo
import torch.distributed.fsdp
import torch.distributed.pipelining
import torch.distributed.tensor.parallel  # noqa: F401 - here once, and not in each rank that is forked

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Note, Row, Yield
from readiness.distributed import FailureKind, Placement, run_ranks
from readiness.distributed.types import LONGEST_ABOUT
from readiness.probes.parallelism import measurements
from readiness.probes.parallelism.data_parallel import zero_redundancy
from readiness.probes.parallelism.rank import Settings, TrainingRun, rank_main, training_runs
from readiness.probes.parallelism.strategies import MODES
from readiness.probes.ranks_common.measurements import completion

zero_redundancy()  # likewise

#: So many groups may fail by a fault; what is left then is not measured.
MOST_FAULTS = 3


@dataclass(slots=True)
class ParallelTraining:
    """Training runs on one placement: `run` them, then read `chips`."""

    accelerator: Accelerator
    placement: Placement
    steps: int
    patience_s: float
    results: measurements.Results = field(init=False)

    def __post_init__(self) -> None:
        self.results = measurements.Results(self.placement)

    def run(self, modes: Sequence[str], dtypes: Sequence[str], optimizers: Sequence[str]) -> Iterator[Yield]:
        """Run everything that is possible here. Raises ValueError for an unknown mode, dtype or optimizer."""
        wanted = training_runs(modes, dtypes, optimizers)
        possible = []
        for mode in dict.fromkeys(modes):
            reason = self.accelerator.stack.unsupported_modes.get(mode) or MODES[mode].obstacle(len(self.placement.ranks))
            if reason is None:
                possible.append(mode)
            else:
                yield Row({"mode": mode, "not_measured": reason})
        left = [run for run in wanted if run.mode in possible]
        faults = 0
        while left:
            if faults >= MOST_FAULTS:
                for mode in dict.fromkeys(run.mode for run in left):
                    yield Row({"mode": mode, "not_measured": f"{faults} earlier rank groups failed"})
                return
            yield Note(f"training by {', '.join(dict.fromkeys(run.mode for run in left))} on {self.placement.scope}")
            fault, left = yield from self._group(left)
            faults += fault

    def _group(self, left: list[TrainingRun]) -> Generator[Yield, None, tuple[bool, list[TrainingRun]]]:
        """Start one rank group; return if it ended by a fault, and the remaining runs."""
        limit_s = 60.0 + 30.0 * len(left)
        outcome = run_ranks(
            rank_main, self.accelerator, self.placement, Settings(tuple(left), self.steps),
            patience_s=self.patience_s, limit_s=limit_s,
        )  # fmt: skip
        results = self.results
        begun = results.add(outcome)
        for run in left:
            if len(results.ended.get(run, ())) == len(self.placement.ranks):
                labels = measurements.labels_of(run, self.placement)
                yield Measurement("supported", 1, labels)
                yield from measurements.run_measurements(results, run)
                if outcome.failure is None or run != begun:
                    yield Measurement("completed", 1, labels)
        failure = outcome.failure
        if failure is None:
            return False, []
        failed = begun or next((run for run in reversed(left) if run in results.ended), left[0])
        labels = measurements.labels_of(failed, self.placement)
        refusals = results.refused.get(failed, {})
        refused = bool(refusals) and failure.kind is FailureKind.RAISED and set(failure.culprits) <= set(refusals)
        if refused:
            rank, reason = next(iter(refusals.items()))
            yield Row({"mode": failed.mode, "dtype": failed.dtype, "optimizer": failed.optimizer, "refused": reason})
            about = f"{failed} on {self.placement.name(rank)}: {reason}"
            yield Measurement("supported", 0, labels, about=about[:LONGEST_ABOUT])
        else:
            yield from completion(outcome, self.placement, labels)
        after = left[left.index(failed) + 1 :]
        return not refused, [run for run in after if run.mode != failed.mode]

    def chips(self) -> Iterator[Yield]:
        """Yield the measurements of each chip's training alone."""
        yield from measurements.chip_measurements(self.results)
