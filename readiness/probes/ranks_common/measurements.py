"""Measurements of a rank group's outcome, shared by all checks of several ranks. Pure.

A group that did not finish can prove a fault, never its absence: of such a group only what is wrong is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from readiness.datamodel import Labels, Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Failure, Placement, RanksOutcome
from readiness.probes.ranks_common.process_groups import Subgroup
from readiness.probes.ranks_common.tensor_diff import Unsupported


def completion(outcome: RanksOutcome, placement: Placement, labels: Labels | None = None) -> Iterator[Yield]:
    """Yield `completed`, and for a failed group a row: what, who, where, when. `labels` replace the placement's."""
    failure = outcome.failure
    if failure is not None:
        yield Row({
            "trouble": failure.kind.value,
            **culprits(failure, placement),
            "ranks": len(placement.ranks),
            "operation": failure.operation,
            "after_s": failure.after_s,
            "reason": failure.reason,
            "log": failure.log,
        })  # fmt: skip
    about = None if failure is None else _describe_culprits(failure, placement)
    yield Measurement("completed", int(failure is None), placement.labels if labels is None else labels, about=about)


def culprits(failure: Failure, placement: Placement) -> dict[str, str | None]:
    """Return cells of a row: the ranks to blame for a failure, and their chips."""
    return {
        "culprit_ranks": ", ".join(map(str, failure.culprits)) or None,
        "culprit_chips": ", ".join(dict.fromkeys(placement.ranks[rank].id for rank in failure.culprits)) or None,
    }


def _describe_culprits(failure: Failure, placement: Placement) -> str:
    who = f"caused by {placement.name(*failure.culprits)}: " if failure.culprits else ""
    return f"{who}{failure.reason}"[:LONGEST_ABOUT]


def pair_matrix(placement: Placement, rates: Mapping[Subgroup, float], what: str, unit: str) -> Iterator[Row]:
    """Yield a row of shape `pairs/1`: a figure for each pair of chips, or None; nothing if chips are shared."""
    names = [facts.id for facts in placement.ranks]
    if not rates or len(set(names)) < len(names):
        return
    values: list[list[float | None]] = [[None] * len(names) for _ in names]
    for (one, other), rate in rates.items():
        values[one][other] = values[other][one] = float(f"{rate:.4g}")
    yield Row({"shape": "pairs/1", "what": what, "unit": unit, "chips": names, "values": values})


def unsupported(outcome: RanksOutcome) -> Iterator[Row]:
    """Yield a row for each report of something that the library does not support."""
    for rank, report in outcome.of(Unsupported):
        yield Row({"rank": rank, "unsupported": report.what, "reason": report.reason})


def relative_difference(found: float, expected: float) -> float:
    """Return |found - expected| / |expected|; infinite if not finite, or if only the expected one is zero."""
    if not (math.isfinite(found) and math.isfinite(expected)):
        return math.inf
    if expected == 0:
        return 0.0 if found == 0 else math.inf
    return abs(found - expected) / abs(expected)
