"""Run-queue wait of this process: how long its threads waited for a CPU."""

from __future__ import annotations

import os
from pathlib import Path

_TASKS = Path("/proc/self/task")
_OWN = Path("/proc/self/schedstat")


def is_reported(file: Path = _OWN) -> bool:
    """Return whether the system says how long the threads of a process waited: `in_line_s` is 0 where it does not."""
    try:
        return int(file.read_text(encoding="ascii").split()[2]) > 0  # a kernel that counts nothing has not even run it once
    except (OSError, ValueError, IndexError):
        return False


def in_line_s() -> float:
    """Return seconds for which the threads of this process were ready and did not run; 0 if the system does not report
    it.
    """
    total = 0
    try:
        for thread in os.listdir(_TASKS):  # noqa: PTH208 - no Path for each: this is read around every call
            with open(f"{_TASKS}/{thread}/schedstat", "rb") as file:  # noqa: PTH123 - likewise
                total += int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return total / 1e9


def of_process(pid: int) -> float | None:
    """Return the longest time in seconds for which a thread of a process was ready and did not run; None if not reported."""
    waits: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            ran, waited, slices = (thread / "schedstat").read_text(encoding="ascii").split()
            if int(slices) > 0 and int(ran) >= 0:
                waits.append(int(waited))
    except (OSError, ValueError):
        return None
    return max(waits) / 1e9 if waits else None


def usable_cores() -> int:
    """Return the number of CPUs that this process may use; all if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
