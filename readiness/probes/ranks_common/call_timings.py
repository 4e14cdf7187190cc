"""Timings of one kind of call: the best early and late ones, and unusually long ones.

The best times show what the device and the link can do; means would show who else uses this machine. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

#: A call that takes so many times the median of its kind, and long enough to count at all, was interrupted.
FAR_LONGER = 50

#: The best, the usual, and one between them.
QUANTILES = (0.0, 0.25, 0.5)


def quantiles(seconds: Sequence[float]) -> tuple[float, ...]:
    """Return the `QUANTILES` of at least one time."""
    ordered = sorted(seconds)
    return tuple(ordered[int(share * (len(ordered) - 1))] for share in QUANTILES)


@dataclass(frozen=True, slots=True)
class TimingSummary:
    """Summary of many calls, in seconds. `first` and `last` are (best time, calls) of the first and last quarter.

    `interruptions` are (number, when it began, seconds) of the calls that took longer than `limit`. `waited` is the share of
    the last quarter for which this rank's threads waited for a processor.
    """

    calls: int
    median: float
    longest: float
    first: tuple[float, int]
    last: tuple[float, int]
    limit: float
    interruptions: tuple[tuple[int, float, float], ...]
    waited: float = 0.0


@dataclass(slots=True)
class CallTimings:
    """Timings of one rank's calls: number within the kind, start, and duration, in seconds.

    `waits` are times in which calls were made: begin, end, and for how long this rank's threads waited for a processor.
    """

    calls: list[tuple[int, float, float]] = field(default_factory=list)
    waits: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, number: int, began: float, seconds: float) -> None:
        """Add one more call."""
        self.calls.append((number, began, seconds))

    @property
    def quarters(self) -> tuple[list[float], list[float]]:
        """Durations of the calls in the first and in the last quarter of the time.

        Of the time, not of the calls: where calls become slow, the slow ones fill the last quarter.
        """
        begin, end = self.calls[0][1], self.calls[-1][1] + self.calls[-1][2]
        first = [duration for _, began, duration in self.calls if began <= begin + (end - begin) / 4]
        last = [duration for _, began, duration in self.calls if began + duration >= end - (end - begin) / 4]
        return first, last

    @property
    def waited(self) -> float:
        """Return the share of the last quarter for which this rank's threads waited for a processor."""
        begin, end = self.calls[0][1], self.calls[-1][1] + self.calls[-1][2]
        late = [(until - since, waited) for since, until, waited in self.waits if until >= end - (end - begin) / 4]
        return min(1.0, sum(waited for _, waited in late) / max(sum(passed for passed, _ in late), 1e-9))

    @property
    def speed_kept(self) -> float:
        """Return the best time of the first quarter over that of the last."""
        first, last = self.quarters
        return min(first) / min(last)

    def summary(self, interruption_s: float) -> TimingSummary:
        """Return the summary. An interruption is longer than `interruption_s` or `FAR_LONGER` medians."""
        seconds = [duration for _, _, duration in self.calls]
        median = statistics.median(seconds)
        first, last = self.quarters
        limit = max(interruption_s, FAR_LONGER * median)
        return TimingSummary(
            calls=len(seconds),
            median=median,
            longest=max(seconds),
            first=(min(first), len(first)),
            last=(min(last), len(last)),
            limit=limit,
            interruptions=tuple(call for call in self.calls if call[2] > limit),
            waited=self.waited,
        )
