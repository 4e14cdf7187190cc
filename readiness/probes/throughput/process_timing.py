"""Timing on a shared host, without the time in which this process waited for a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable

from readiness.host.runqueue_wait import in_line_s

__all__ = ["in_line_s", "once"]


def once(work: Callable[[], object], synchronize: Callable[[], None]) -> float:
    """Return the seconds of one call, from an idle device to an idle device, without the time in the run queue.

    Never less than the processor time that was spent: threads may stand in line side by side. Where the system does
    not tell (elsewhere than on Linux), the time by the clock.
    """
    synchronize()
    started, spent, waited = time.perf_counter(), time.process_time(), in_line_s()
    work()
    synchronize()
    waited, spent, passed = in_line_s() - waited, time.process_time() - spent, time.perf_counter() - started
    return max(passed - max(waited, 0.0), spent)
