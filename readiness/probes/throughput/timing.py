"""Timing of work on a device: synchronised, repeated, and consumed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call, one entry for each sample."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the samples, in seconds per call."""
        return statistics.median(self.seconds)

    def rate(self, work: float) -> float:
        """Return the median rate of `work` (operations or bytes of one call) per second."""
        return work / self.median

    def spread(self, work: float) -> float:
        """Return the distance between the quartiles of the rates, per second."""
        rates = sorted(work / seconds for seconds in self.seconds)
        if len(rates) < 2:
            return 0.0
        low, _, high = statistics.quantiles(rates, n=4, method="inclusive")
        return high - low


def once(work: Callable[[], object], synchronize: Callable[[], None]) -> float:
    """Return the seconds of one call, from an idle device to an idle device."""
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


def repeat(
    work: Callable[[], object], synchronize: Callable[[], None], *, budget_s: float, least: int = 5, most: int = 100
) -> Timing:
    """Time calls until the budget is spent, at least `least` samples and at most `most`.

    A sample is as many calls as take some milliseconds, so that waiting for the device and reading the clock count little.
    """
    work()
    single = max(once(work, synchronize), 1e-7)
    calls = max(1, min(1000, int(0.005 / single)))
    samples: list[float] = []
    deadline = time.perf_counter() + budget_s

    def several() -> None:
        for _ in range(calls):
            work()

    while len(samples) < least or (len(samples) < most and time.perf_counter() < deadline):
        samples.append(once(several, synchronize) / calls)
    return Timing(tuple(samples))
