"""The parent's side of `multichip.parallelism`: one world for all modes, and a new one after each that did not end well."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import torch._dynamo
import torch.distributed.fsdp
import torch.distributed.pipelining
import torch.distributed.tensor.parallel  # noqa: F401 - here once, and not in each rank that is forked

from readiness.accelerators.base import Accelerator
from readiness.model import Measurement, Note, Row, Yield
from readiness.multichip.measurements import completion
from readiness.parallel import telling
from readiness.parallel.data import zero_redundancy
from readiness.parallel.modes import MODES
from readiness.parallel.rank import Course, courses, rank_main
from readiness.ranks import Placement, Trouble, run_ranks
from readiness.ranks.values import LONGEST_ABOUT

zero_redundancy()  # likewise

#: So many worlds may fail by a fault; what is left then is not measured.
MOST_FAULTS = 3


@dataclass(slots=True)
class Worlds:
    """Runs the courses on one placement. `run` them, then ask for `chips`."""

    accelerator: Accelerator
    placement: Placement
    steps: int
    patience_s: float
    heard: telling.Heard = field(init=False)

    def __post_init__(self) -> None:
        self.heard = telling.Heard(self.placement)

    def run(self, modes: Sequence[str], dtypes: Sequence[str], optimizers: Sequence[str]) -> Iterator[Yield]:
        """Every course that can be had here. Raises ValueError for a mode, dtype or optimizer that is not known."""
        wanted = courses(modes, dtypes, optimizers)
        possible = []
        for mode in dict.fromkeys(modes):
            reason = self.accelerator.stack.beyond_modes.get(mode) or MODES[mode].obstacle(len(self.placement.ranks))
            if reason is None:
                possible.append(mode)
            else:
                yield Row({"mode": mode, "not_measured": reason})
        left = [course for course in wanted if course[0] in possible]
        faults = 0
        while left:
            if faults >= MOST_FAULTS:
                for mode in dict.fromkeys(course[0] for course in left):
                    yield Row({"mode": mode, "not_measured": f"{faults} worlds have failed before it"})
                return
            yield Note(f"training by {', '.join(dict.fromkeys(course[0] for course in left))} on {self.placement.scope}")
            fault, left = yield from self._world(left)
            faults += fault

    def _world(self, left: list[Course]) -> Generator[Yield, None, tuple[bool, list[Course]]]:
        """One world: what it measured. Returns whether it ended by a fault, and the courses that are still to come."""
        settings = {"courses": [list(course) for course in left], "steps": self.steps}
        limit_s = 60.0 + 30.0 * len(left)
        outcome = run_ranks(
            rank_main, self.accelerator, self.placement, settings, patience_s=self.patience_s, limit_s=limit_s
        )
        heard = self.heard
        heard.hear(outcome.reports)
        for course in left:
            if len(heard.ended.get(course, ())) == len(self.placement.ranks):
                labels = telling.labels_of(course, self.placement)
                yield Measurement("supported", 1, labels)
                yield from telling.finished(heard, course)
                if outcome.failure is None or course != heard.begun:
                    yield Measurement("completed", 1, labels)
        failure = outcome.failure
        if failure is None:
            return False, []
        course = heard.begun or next((item for item in reversed(left) if item in heard.ended), left[0])
        labels = telling.labels_of(course, self.placement)
        refusals = heard.refused.get(course, {})
        refused = bool(refusals) and failure.trouble is Trouble.RAISED and set(failure.culprits) <= set(refusals)
        if refused:
            rank, reason = next(iter(refusals.items()))
            yield Row({"mode": course[0], "dtype": course[1], "optimizer": course[2], "refused": reason})
            about = f"{course[0]}, {course[2]}, {course[1]} on {self.placement.name(rank)}: {reason}"
            yield Measurement("supported", 0, labels, about=about[:LONGEST_ABOUT])
        else:
            yield from completion(outcome, self.placement, labels)
        after = left[left.index(course) + 1 :]
        return not refused, [item for item in after if item[0] != course[0]]

    def chips(self) -> Iterator[Yield]:
        """How each chip trains by itself."""
        yield from telling.chips(self.heard)
