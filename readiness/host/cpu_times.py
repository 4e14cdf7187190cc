"""CPU times of the host and of this run's processes, and what others had of the CPUs between two readings."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
#: Times are counted in ticks of a hundredth of a second: shares of less than a second would be noise.
_LEAST_WINDOW_S = 1.0
_MOST_READINGS = 1000


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """One reading: seconds since boot that the CPUs of `cpus` CPUs worked, and that a hypervisor withheld.

    `own_s` are those of this process and of all processes that it started.
    """

    at: float
    cpus: int
    worked_s: float
    stolen_s: float
    own_s: float


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the CPUs' time, 0 to 1: what processes of others had, and what a hypervisor withheld."""

    others: float
    stolen: float


def read(cpus: Collection[int] | None = None, proc: Path = _PROC, pid: int | None = None) -> CpuTimes | None:
    """Read the times of the CPUs that this process may use; None if the system does not report them."""
    usable = _usable() if cpus is None else set(cpus)
    try:
        tick = 1 / os.sysconf("SC_CLK_TCK")
        at, number, worked, stolen = time.monotonic(), 0, 0, 0
        for line in (proc / "stat").read_text(encoding="ascii").splitlines():
            name, *rest = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and (usable is None or int(name[3:]) in usable):
                user, nice, system, _idle, _io_wait, irq, soft_irq, steal = map(int, [*rest, "0", "0", "0"][:8])
                number += 1
                worked += user + nice + system + irq + soft_irq
                stolen += steal
        if not number or not worked:  # some sandboxes have the file and count nothing
            return None
        own = sum(_of_process(process, proc) for process in _tree(pid or os.getpid(), proc))
    except (OSError, ValueError, AttributeError):
        return None
    return CpuTimes(at, number, worked * tick, stolen * tick, own * tick)


def shares(before: CpuTimes, after: CpuTimes) -> Shares | None:
    """Return what others had of the CPUs between two readings; None where no time lies between them."""
    total = (after.at - before.at) * after.cpus
    if total <= 0 or before.cpus != after.cpus:
        return None
    others = (after.worked_s - before.worked_s) - (after.own_s - before.own_s)
    return Shares(_share(others / total), _share((after.stolen_s - before.stolen_s) / total))


class History:
    """Readings at the moments when processes of a run start, are ready and end."""

    def __init__(self) -> None:
        self._readings: deque[CpuTimes] = deque(maxlen=_MOST_READINGS)

    def note(self) -> None:
        """Take a reading."""
        if (reading := read()) is not None:
            self._readings.append(reading)

    def since(self, moment: float) -> Shares | None:
        """Return what others had between a moment and the last reading; None if it is not known.

        Of a shorter time than a second the shares of the second before are returned too, as far as it was read.
        """
        if not self._readings:
            return None
        last = self._readings[-1]
        begin = min(moment, last.at - _LEAST_WINDOW_S)
        first = next((one for one in reversed(self._readings) if one.at <= begin), self._readings[0])
        return shares(first, last)


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 4)


def _usable() -> set[int] | None:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _of_process(pid: int, proc: Path) -> int:
    """Ticks of a process and of those of its children that have ended; 0 of one that is gone: its parent has them then."""
    try:
        fields = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[11:15]))
    except (OSError, ValueError):
        return 0


def _tree(pid: int, proc: Path) -> Iterator[int]:
    """A process and all that descend from it."""
    waiting, seen = [pid], {pid}
    while waiting:
        process = waiting.pop()
        yield process
        with contextlib.suppress(OSError, ValueError):
            for thread in os.listdir(proc / str(process) / "task"):  # noqa: PTH208 - read at every start and end of a check
                children = (proc / str(process) / "task" / thread / "children").read_text(encoding="ascii").split()
                fresh = set(map(int, children)) - seen
                seen |= fresh
                waiting += fresh
