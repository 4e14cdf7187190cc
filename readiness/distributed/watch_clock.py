"""Watch clock: seconds that a process has watched others, without its own pauses.

A job that is suspended, a container that is frozen, or a handler of reports that takes its time stops the watching process,
and often the watched ones with it: what did not happen meanwhile is no silence of theirs.
"""

from __future__ import annotations

import time

#: Two ticks so far apart mean that this process was paused in between.
PAUSE_S = 2.0


class WatchClock:
    """Counts the seconds between ticks, except where this process was paused.

    `now` is the time of watching in seconds, `ticked_at` the last tick on the system's monotonic clock.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.ticked_at = time.monotonic()

    def tick(self) -> bool:
        """Advance to the current time. True if this process was paused since the last tick, which then does not count."""
        present = time.monotonic()
        passed_s, self.ticked_at = present - self.ticked_at, present
        paused = passed_s > PAUSE_S
        self.now += 0.0 if paused else passed_s
        return paused
