"""Stall detector: times in which this host did not run its processes, which would look like a lost link."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

_TICK_S = 0.02
#: Shorter stalls are normal on every machine.
_NOTED_S = 0.06


class StallDetector:
    """Thread that wakes up regularly and records when it could not: `stalls` are (begin, end) on the given clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stalls: list[tuple[float, float]] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        last = self.clock()
        while True:
            time.sleep(_TICK_S)
            now = self.clock()
            if now - last > _NOTED_S:
                self.stalls.append((last, now))
            last = now


def stalled_s(stalls: Iterable[tuple[float, float]], began: float, seconds: float) -> float:
    """Return how much of a call's time fell into stalls, in seconds."""
    return sum(max(0.0, min(end, began + seconds) - max(begin, began)) for begin, end in stalls)
