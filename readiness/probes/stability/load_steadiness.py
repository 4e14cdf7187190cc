"""How steady the pace of a load is: its quantiles, its end against its beginning, its slope. Pure.

Only what was measured while the host left the process alone counts: the rest says more about the host.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

#: Fewer products in a tenth of the time, or in all, say nothing.
_FEWEST_IN_A_TENTH, _FEWEST = 10, 200


@dataclass(frozen=True, slots=True)
class PaceSample:
    """One sample: seconds since the beginning, and those of a product on the device and on the host (infinite if none)."""

    at_s: float
    device_s: float
    host_s: float


@dataclass(frozen=True, slots=True)
class Steadiness:
    """Median and 99th percentile of the seconds of a product, their ratio; the speed at the end over that at the beginning.

    `slope` is the change of the speed in a minute, as a share of it. What too few samples show is None.
    """

    median_s: float
    p99_s: float
    samples: int
    kept: float | None
    slope: float | None

    @property
    def jitter(self) -> float:
        """The 99th percentile over the median."""
        return self.p99_s / self.median_s


def of_samples(samples: Sequence[PaceSample], lasted_s: float) -> Steadiness | None:
    """Return how steady the pace was over a load of so many seconds; None if too few samples say so."""
    if len(samples) < _FEWEST or lasted_s <= 0:
        return None
    seconds = sorted(sample.device_s for sample in samples)
    return Steadiness(
        median_s=statistics.median(seconds),
        p99_s=seconds[int(0.99 * (len(seconds) - 1))],
        samples=len(seconds),
        kept=_kept(samples, lasted_s),
        slope=_slope(samples, lasted_s),
    )


def _kept(samples: Sequence[PaceSample], lasted_s: float) -> float | None:
    first = [sample for sample in samples if sample.at_s <= 0.1 * lasted_s]
    last = [sample for sample in samples if sample.at_s >= 0.9 * lasted_s]
    if min(len(first), len(last)) < _FEWEST_IN_A_TENTH:
        return None
    kept = _median(first) / _median(last)
    if all(sample.host_s < float("inf") for sample in (*first, *last)):
        # Where the host's own products slowed down as well, only what the device lost beyond that counts.
        kept = max(kept, kept * _host_median(last) / _host_median(first))
    return kept


def _slope(samples: Sequence[PaceSample], lasted_s: float) -> float | None:
    """Return the median of the slopes between tenths: a moment's disturbance does not move it."""
    points = list(_tenths(samples, lasted_s))
    if len(points) < 5:
        return None
    speeds = [1 / seconds for _, seconds in points]
    slopes = [
        (speeds[later] - speeds[earlier]) / (points[later][0] - points[earlier][0])
        for earlier, later in combinations(range(len(points)), 2)
    ]
    return 60 * statistics.median(slopes) / statistics.median(speeds)


def _tenths(samples: Sequence[PaceSample], lasted_s: float) -> Iterator[tuple[float, float]]:
    for number in range(10):
        low, high = number * lasted_s / 10, (number + 1) * lasted_s / 10
        chosen = [sample for sample in samples if low <= sample.at_s < high]
        if len(chosen) >= _FEWEST_IN_A_TENTH:
            yield (low + high) / 2, _median(chosen)


def _median(samples: Sequence[PaceSample]) -> float:
    return statistics.median(sample.device_s for sample in samples)


def _host_median(samples: Sequence[PaceSample]) -> float:
    return statistics.median(sample.host_s for sample in samples)
