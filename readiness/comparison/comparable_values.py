"""Comparable values of runs: the direction in which they get better, and how far noise moves them. Pure.

Repeats inside one run share that run's bias and are never taken for spread: what a value means against others is known only
from whole runs. Values of errors are maxima over fresh random data and move several times over between runs of one machine;
a limit on them is a requirement's matter, and only a whole digit is called a change here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from readiness.check_registry import Check
from readiness.datamodel import AcceleratorAssessment, Assessment, Better, Evidence, Measurement, Number, Status
from readiness.documents.strict_json import plain

#: Check, name of the measurement, labels.
Key = tuple[str, str, tuple[tuple[str, str], ...]]

_RATE = re.compile(r"(/s|^u?s|^ms)$")
_SHARE = re.compile(r"share|_kept|gain|slowdown|(?<!bound)_ratio|jitter")
_ERROR = re.compile(r"error|difference|bound_ratio|spread")


class Kind(StrEnum):
    """Kind of a value, which decides what counts as a change."""

    PERFORMANCE = "performance"   # a rate or a time: moves with the load of the host
    SHARE = "share"               # of speed: likewise
    ERROR = "error"               # of numbers: a maximum over random data
    COVERAGE = "coverage"         # of what there is: the same in every run
    OTHER = "other"               # counts of faults and the like: requirements decide, not their values

    @property
    def is_speed(self) -> bool:
        """True if a busy host changes it."""
        return self in (Kind.PERFORMANCE, Kind.SHARE)


def kind(name: str, unit: str | None, better: Better | None) -> Kind:
    """The kind of a measurement by its name, unit and better direction."""
    if better is None:
        return Kind.OTHER
    if unit is not None and _RATE.search(unit):
        return Kind.PERFORMANCE
    if unit not in (None, "1"):
        return Kind.OTHER
    if _ERROR.search(name):
        return Kind.ERROR if better is Better.LOWER else Kind.OTHER
    if _SHARE.search(name):
        return Kind.SHARE
    return Kind.COVERAGE if better is Better.HIGHER else Kind.OTHER


def directions(checklist: Mapping[str, Check]) -> dict[tuple[str, str], Better | None]:
    """The better direction of every measurement, by check and name."""
    return {(id, name): measure.better for id, check in checklist.items() for name, measure in check.measures.items()}


def key(check: str, measurement: Measurement) -> Key:
    """Return the key by which measurements of two runs are compared."""
    return check, measurement.name, tuple(sorted(measurement.labels.items()))


def figures(item: AcceleratorAssessment) -> Iterator[tuple[Evidence, Key, Measurement]]:
    """All that was measured on an accelerator by checks that came to their end."""
    for evidence in item.evidence:
        if evidence.status is Status.MEASURED:
            for measurement in evidence.measurements:
                yield evidence, key(evidence.check, measurement), measurement


def number(value: Number) -> float | None:
    """A value as a number; None where it is not finite."""
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


@dataclass(frozen=True, slots=True)
class Spread:
    """One measurement over whole runs: from how many, the median and both ends."""

    runs: int
    samples: int
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, by_run: Mapping[int, Iterable[float]]) -> Spread:
        """Return the spread of all values, by the run that they are from."""
        values = sorted(value for each in by_run.values() for value in each)
        middle = len(values) // 2
        median = values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
        return cls(len(by_run), len(values), median, values[0], values[-1])

    @property
    def half(self) -> float:
        """The distance of the farthest run from the median."""
        return max(self.high - self.median, self.median - self.low)

    @property
    def share(self) -> float | None:
        """The farthest distance as a share of the median; None if that is zero."""
        return self.half / abs(self.median) if self.median else None


#: With fewer whole runs the distance of the next one is unknown.
FEWEST_RUNS = 3
#: How many times as far from the median as the furthest of so many runs a value must lie: few runs underestimate the spread.
_TIMES = {3: 6.0, 4: 4.0, 5: 3.0, 6: 3.0, 7: 2.5, 8: 2.5, 9: 2.5}
_TIMES_OF_MANY = 2.0
#: However small their spread, less than this is no change of a speed; and of an error less than a digit.
_LEAST_SHARE = 0.05
_LEAST_FACTOR = 10.0
#: With few runs the reach of such maxima is unknown: two digits.
_LEAST_FACTOR_OF_FEW = 100.0
#: An error below its own bound is none, however much larger it has become.
_LEAST_BOUND_RATIO = 1.0


def margin(kind: Kind, spread: Spread, tolerance: float) -> float:
    """Return how far a value may lie from a reference's median in the worse direction without being a change.

    `tolerance` is a share of the median: what is allowed for where the spread between runs is not known.
    """
    if kind is Kind.COVERAGE:
        return spread.half
    if spread.runs < FEWEST_RUNS:
        return tolerance * abs(spread.median)
    return max(_TIMES.get(spread.runs, _TIMES_OF_MANY) * spread.half, _LEAST_SHARE * abs(spread.median))


def worse_by(kind: Kind, name: str, better: Better, spread: Spread, value: float, tolerance: float) -> bool | None:
    """Return True if a value is worse than a reference beyond the runs' spread, False if better, None for neither."""
    if kind is Kind.OTHER:
        return None
    if kind is Kind.ERROR:
        if name == "bound_ratio" and max(value, spread.median) < _LEAST_BOUND_RATIO:
            return None
        factor = _LEAST_FACTOR if spread.runs >= FEWEST_RUNS else _LEAST_FACTOR_OF_FEW
        if spread.high > 0 and value > factor * spread.high:
            return True
        return False if 0 < value < spread.low / factor else None
    allowed = margin(kind, spread, tolerance) * (1 + 1e-9)
    if abs(value - spread.median) <= allowed:
        return None
    return (value < spread.median) is (better is Better.HIGHER)


def settings_of(assessment: Assessment, evidence: Evidence) -> dict[str, Any]:
    """Return a check's settings as JSON, without the duration of its work, which changes no figure."""
    lasting = assessment.basis.lasting.get(evidence.check) if assessment.basis is not None else None
    return {name: plain(value) for name, value in evidence.settings.items() if name != lasting}
