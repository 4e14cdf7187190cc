"""Times of one kind of call, repeated: the best of them early and late, and those that took far longer than usual.

The best times say what the device and the link can do; means would say who else uses this machine. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from readiness.ranks.values import Json

#: A call that takes so many times the median of its kind, and long enough to count at all, was interrupted.
FAR_LONGER = 50


#: The best, the usual, and one between them.
QUANTILES = (0.0, 0.25, 0.5)


def quantiles(seconds: Sequence[float]) -> list[float]:
    """Those of `QUANTILES`, of one time at least."""
    ordered = sorted(seconds)
    return [ordered[int(share * (len(ordered) - 1))] for share in QUANTILES]


@dataclass(slots=True)
class Series:
    """The calls that one rank timed: number within the kind, when it began, and how long it took, in seconds."""

    calls: list[tuple[int, float, float]] = field(default_factory=list)

    def add(self, number: int, began: float, seconds: float) -> None:
        """One more call."""
        self.calls.append((number, began, seconds))

    @property
    def quarters(self) -> tuple[list[float], list[float]]:
        """How long the calls took in the first and in the last quarter of the time.

        Of the time, not of the calls: where calls become slow, the slow ones fill the last quarter.
        """
        begin, end = self.calls[0][1], self.calls[-1][1] + self.calls[-1][2]
        first = [duration for _, began, duration in self.calls if began <= begin + (end - begin) / 4]
        last = [duration for _, began, duration in self.calls if began + duration >= end - (end - begin) / 4]
        return first, last

    @property
    def speed_kept(self) -> float:
        """The best time of the first quarter over that of the last."""
        first, last = self.quarters
        return min(first) / min(last)

    def summary(self, interruption_s: float) -> Json:
        """The figures for the report. `first` and `last` are [best time, calls] of the first and last quarter.

        `interruptions` are [number, when it began, seconds] of the calls beyond `limit`: `interruption_s` and
        `FAR_LONGER` medians.
        """
        seconds = [duration for _, _, duration in self.calls]
        median = statistics.median(seconds)
        first, last = self.quarters
        limit = max(interruption_s, FAR_LONGER * median)
        return {
            "calls": len(seconds),
            "best": min(seconds),
            "median": median,
            "longest": max(seconds),
            "first": [min(first), len(first)],
            "last": [min(last), len(last)],
            "limit": limit,
            "interruptions": [list(call) for call in self.calls if call[2] > limit],
        }
