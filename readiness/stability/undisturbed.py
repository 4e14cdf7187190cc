"""Timing on a host that others use too: the time that this process stood in line for a processor is not the device's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_TASKS = Path("/proc/self/task")


def once(work: Callable[[], object], synchronize: Callable[[], None]) -> float:
    """Seconds of one call, from an idle device to an idle device, less the time in line.

    Never less than the processor time that was spent: threads may stand in line side by side. Where the system does
    not tell (elsewhere than on Linux), the time by the clock.
    """
    synchronize()
    started, spent, waited = time.perf_counter(), time.process_time(), in_line_s()
    work()
    synchronize()
    waited, spent, passed = in_line_s() - waited, time.process_time() - spent, time.perf_counter() - started
    return max(passed - max(waited, 0.0), spent)


def in_line_s() -> float:
    """Seconds that the threads of this process have been ready to run and did not; 0 where the system does not tell."""
    total = 0
    try:
        for thread in os.listdir(_TASKS):  # noqa: PTH208 - no Path for each: this is read around every call
            with open(f"{_TASKS}/{thread}/schedstat", "rb") as file:  # noqa: PTH123 - likewise
                total += int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return total / 1e9
