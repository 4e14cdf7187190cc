"""Whether this machine let its processes run at all: without it, a busy host looks like a link that went away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_TICK_S = 0.02
#: Shorter gaps are every machine's daily life.
_NOTED_S = 0.06


class Witness:
    """A thread that only wakes up, and notes when it could not: `gaps` are (begin, end) on the clock that it is given."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.gaps: list[tuple[float, float]] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        last = self.clock()
        while True:
            time.sleep(_TICK_S)
            now = self.clock()
            if now - last > _NOTED_S:
                self.gaps.append((last, now))
            last = now


def lost(gaps: list[tuple[float, float]], began: float, seconds: float) -> float:
    """How much of a call's time fell into gaps, in seconds."""
    return sum(max(0.0, min(end, began + seconds) - max(begin, began)) for begin, end in gaps)
