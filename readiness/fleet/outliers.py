"""Odd values among accelerators of one model: far from the median on the worse side, by what the others spread. Pure.

The spread is the larger of two robust ones, the median absolute deviation and the distance to the percentile at the worse
end: values that depend on the host's load have long tails, and a share of odd ones below five per cent moves neither. How
far is too far follows from how many values are looked at: were they normally distributed, a report would name
`FALSE_ALARMS` healthy ones. A value must also be worse by a share that matters, since the most uniform fleets spread by
less than any job would notice.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from readiness.comparison.comparable_values import Kind
from readiness.datamodel import Better

#: Healthy values that a report names as odd, on average, were all values normally distributed.
FALSE_ALARMS = 0.05
#: Of fewer accelerators of a model none is called odd: what they spread is not known.
FEWEST_PEERS = 8
#: A speed, a share or a time is odd where it is worse than the median by so much, an error where it is so many times larger.
_LEAST_SHARE = 0.10
_LEAST_FACTOR = 10.0
#: A value that nearly all have in common: one that is worse is odd, however little.
_COMMON = 0.95
_WORSE_PERCENTILE = 0.95
#: Speeds fall short of a ceiling: their worse tail is longer than that of a normal distribution by about so much.
_SKEW = 1.5
#: The median absolute deviation, and the distance of that percentile, of a normal distribution in standard deviations.
_DEVIATION = 0.6744897501960817
_PERCENTILE = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Peers:
    """All values of one figure among accelerators of one model: count, median, and their tenth and ninetieth percentile."""

    count: int
    median: float
    low: float
    high: float


def deviations_allowed(values: int) -> float:
    """Return how many standard deviations are allowed where so many values are looked at."""
    return NormalDist().inv_cdf(1 - FALSE_ALARMS / max(values, 10))


def find_outliers(
    values: Sequence[float], kind: Kind, better: Better | None, allowed: float
) -> tuple[Peers, list[int]] | None:
    """Return the peers and the places of odd values; None where too few have one, or nothing says which side is worse.

    NaN stands for a value that is missing. `allowed` is in standard deviations.
    """
    if better is None:
        return None
    present = array("d", (value for value in values if not math.isnan(value)))
    if len(present) < FEWEST_PEERS:
        return None
    ordered = sorted(present)
    count = len(ordered)
    median = ordered[count // 2] if count % 2 else (ordered[count // 2 - 1] + ordered[count // 2]) / 2
    peers = Peers(count, median, ordered[count // 10], ordered[count - 1 - count // 10])
    if ordered[0] == ordered[-1]:
        return peers, []
    limit = _limit(ordered, median, kind, better, allowed)
    if limit is None:
        return peers, []
    sign = 1.0 if better is Better.LOWER else -1.0
    return peers, [place for place, value in enumerate(values) if sign * value > sign * limit]


def _limit(ordered: Sequence[float], median: float, kind: Kind, better: Better, allowed: float) -> float | None:
    """Return the value beyond which one is odd; None where none can be."""
    sign = 1.0 if better is Better.LOWER else -1.0
    common = sum(1 for _ in _equal(ordered, median)) / len(ordered)
    if kind in (Kind.COVERAGE, Kind.OTHER) and common >= _COMMON:
        return median
    if kind is Kind.ERROR:
        return _limit_of_error(ordered, median, allowed)
    scale = _scale(ordered, median, sign)
    least = _LEAST_SHARE * abs(median)
    if scale == 0 and least == 0:
        return None
    return median + sign * max(allowed * scale, least)


def _limit_of_error(ordered: Sequence[float], median: float, allowed: float) -> float | None:
    """Return the limit of an error by its digits: such values move several times over between runs of one machine."""
    if median <= 0:
        return None
    logs = [math.log10(value) for value in ordered if value > 0]
    middle = math.log10(median)
    return float(10 ** (middle + max(allowed * _scale(logs, middle, 1.0), math.log10(_LEAST_FACTOR))))


def _scale(ordered: Sequence[float], median: float, sign: float) -> float:
    """Return a standard deviation by the middle half, or by the worse tail where that is wider."""
    distances = sorted(abs(value - median) for value in ordered)
    middle = distances[len(distances) // 2] / _DEVIATION
    place = _WORSE_PERCENTILE if sign > 0 else 1 - _WORSE_PERCENTILE
    tail = abs(ordered[min(int(place * len(ordered)), len(ordered) - 1)] - median) / _PERCENTILE
    return _SKEW * max(middle, tail)


def _equal(ordered: Sequence[float], value: float) -> Iterator[float]:
    return (one for one in ordered if one == value)
