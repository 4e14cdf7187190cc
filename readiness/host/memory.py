"""The host's memory: what is available, what a process holds, and kills by the kernel for lack of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def kernel_kills() -> int:
    """Return the number of processes that the kernel killed for lack of memory, on the host and in our control group."""
    count = 0
    for file in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(file).read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    count += int(number)
    return count


def available() -> int:
    """Bytes that can still be had, on the host and within the control group's limit."""
    free: int = psutil.virtual_memory().available
    limit = control_group_limit()
    return free if limit is None else min(free, limit[0])


def control_group_limit(root: Path = Path("/")) -> tuple[int, int] | None:
    """Free and total bytes under a memory limit of control groups, version 2 or 1; None without a limit.

    Cached files that nobody uses count as free: the kernel gives them up first.
    """
    folder = root / "sys/fs/cgroup"
    for limit, used, cached in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with contextlib.suppress(OSError, ValueError):  # absent, or "max"
            total, taken = int((folder / limit).read_text()), int((folder / used).read_text())
            with contextlib.suppress(OSError, ValueError):
                statistics = dict(line.split() for line in (folder / cached).read_text().splitlines())
                taken -= int(statistics.get("inactive_file", 0))
            return min(max(total - taken, 0), total), total
    return None


def floor() -> int:
    """Return the memory that workers must leave free: 2 % of the host's, at least 256 MiB, never over 25 %."""
    total: int = psutil.virtual_memory().total
    return min(max(total // 50, 256 * 2**20), total // 4)


def of_group(pid: int | None) -> int:
    """Resident bytes of a process and its descendants; 0 where it is gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total
