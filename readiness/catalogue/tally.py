"""Outcomes counted: what a sweep says in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from readiness.catalogue.judge import Outcome, Phase, Result
from readiness.catalogue.sweep import Swept

_COVERED = (Outcome.SUPPORTED, Outcome.NONDETERMINISTIC)
_COUNTED = {
    "missing": (Outcome.MISSING,),
    "wrong": (Outcome.WRONG,),
    "crashed": (Outcome.CRASHED, Outcome.HANG),
    "nondeterministic": (Outcome.NONDETERMINISTIC,),
    "errors": (Outcome.ERROR,),
    "unjudged": (Outcome.UNJUDGED,),
}


class Tally:
    """The outcomes of one dtype."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.judged = self.judged_backward = self.forward = self.backward = 0

    def add(self, result: Result) -> None:
        """Count one operator."""
        self.outcomes[result.outcome] += 1
        if result.outcome is Outcome.UNJUDGED:
            return
        covered = result.outcome in _COVERED
        self.judged += 1
        self.forward += covered or result.phase is Phase.BACKWARD
        self.judged_backward += result.backward
        self.backward += result.backward and covered

    def measurements(self) -> Iterator[tuple[str, float]]:
        """Name and value; a coverage of nothing is left out."""
        if self.judged:
            yield "forward_coverage", self.forward / self.judged
        if self.judged_backward:
            yield "backward_coverage", self.backward / self.judged_backward
        yield "judged", self.judged
        yield "judged_backward", self.judged_backward
        for name, outcomes in _COUNTED.items():
            yield name, sum(self.outcomes[outcome] for outcome in outcomes)

    def __str__(self) -> str:
        """`670 operators: 668 supported, 2 wrong`."""
        told = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        return f"{self.outcomes.total()} operators: {told or 'none claims this dtype'}"


def row(swept: Swept) -> Mapping[str, Any] | None:
    """A row of detail about what is not plainly supported; None otherwise."""
    result = swept.result
    if result.outcome is Outcome.SUPPORTED:
        return None
    return {
        "operator": swept.entry.name, "dtype": swept.dtype, "phase": result.phase.value,
        "outcome": result.outcome.value, "detail": result.detail,
    }  # fmt: skip
