"""CPU times of the host and of this run's processes, and what others had of the CPUs between two readings."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

_PROC = Path("/proc")
_ONLINE = Path("/sys/devices/system/cpu/online")
#: Times are counted in ticks of a hundredth of a second: shares of less than a second would be noise.
_LEAST_WINDOW_S = 1.0
_MOST_READINGS = 1000
#: Of what was read second by second, the last hour is kept; and such a reading costs no more than this share of one CPU.
_MOST_SECONDS = 3600
_MOST_COST = 0.02


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """One reading: seconds since boot that `cpus` CPUs worked, and that a hypervisor withheld of them.

    `own_s` are those of this process and of all processes that it started. `elsewhere` are the CPUs of the host that this
    process may not use, and `elsewhere_s` what they worked or a hypervisor withheld; both None where some are not reported.
    """

    at: float
    cpus: int
    worked_s: float
    stolen_s: float
    own_s: float
    elsewhere: int | None = 0
    elsewhere_s: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the CPUs' time, 0 to 1: what processes of others had, and what a hypervisor withheld.

    `elsewhere` is the share of the host's other CPUs that was at work: they share caches, memory and clocks with these.
    It is 0 where there are none, and None where they are not reported. `peak` is the largest share in any second, of these
    or of the others; None where no second was read.
    """

    others: float
    stolen: float
    elsewhere: float | None = 0.0
    peak: float | None = None


def read(
    cpus: Collection[int] | None = None, proc: Path = _PROC, pid: int | None = None, online: Path = _ONLINE
) -> CpuTimes | None:
    """Read the times of the CPUs that this process may use, and of the others; None if the system does not report them."""
    usable = _usable() if cpus is None else set(cpus)
    try:
        tick = 1 / os.sysconf("SC_CLK_TCK")
        at, number, worked, stolen, elsewhere = time.monotonic(), 0, 0, 0, 0
        listed = set()
        for line in (proc / "stat").read_text(encoding="ascii").splitlines():
            name, *rest = line.split()
            if not name.startswith("cpu") or not name[3:].isdigit():
                continue
            user, nice, system, _idle, _io_wait, irq, soft_irq, steal = map(int, [*rest, "0", "0", "0"][:8])
            listed.add(int(name[3:]))
            if usable is None or int(name[3:]) in usable:
                number += 1
                worked += user + nice + system + irq + soft_irq
                stolen += steal
            else:
                elsewhere += user + nice + system + irq + soft_irq + steal
        if not number or not worked:  # some sandboxes have the file and count nothing
            return None
        own = sum(_of_process(process, proc) for process in _tree(pid or os.getpid(), proc))
    except (OSError, ValueError, AttributeError):
        return None
    times = CpuTimes(at, number, worked * tick, stolen * tick, own * tick, len(listed) - number, elsewhere * tick)
    present = _numbers(online)
    return times if present is not None and present <= listed else replace(times, elsewhere=None, elsewhere_s=None)


def shares(before: CpuTimes, after: CpuTimes) -> Shares | None:
    """Return what others had of the CPUs between two readings; None where no time lies between them."""
    total = (after.at - before.at) * after.cpus
    if total <= 0 or before.cpus != after.cpus:
        return None
    others = (after.worked_s - before.worked_s) - (after.own_s - before.own_s)
    return Shares(_share(others / total), _share((after.stolen_s - before.stolen_s) / total), _elsewhere(before, after))


def _elsewhere(before: CpuTimes, after: CpuTimes) -> float | None:
    if after.elsewhere != before.elsewhere or after.elsewhere_s is None or before.elsewhere_s is None:
        return None
    total = (after.at - before.at) * (after.elsewhere or 0)
    return _share((after.elsewhere_s - before.elsewhere_s) / total) if total > 0 else 0.0


class History:
    """Readings at the moments when processes of a run start, are ready and end, and about every second between them."""

    def __init__(self) -> None:
        self._readings: deque[CpuTimes] = deque(maxlen=_MOST_READINGS)
        self._seconds: deque[CpuTimes] = deque(maxlen=_MOST_SECONDS)
        self._due = 0.0

    def note(self) -> None:
        """Take a reading."""
        if (reading := read()) is not None:
            self._readings.append(reading)

    def tick(self) -> None:
        """Take a reading of a second, if the last one is as old as that."""
        now = time.monotonic()
        if now < self._due:
            return
        reading = read()
        if reading is not None:
            self._seconds.append(reading)
        self._due = now + max(_LEAST_WINDOW_S, (time.monotonic() - now) / _MOST_COST)

    def since(self, moment: float) -> Shares | None:
        """Return what others had between a moment and the last reading; None if it is not known.

        Of a shorter time than a second the shares of the second before are returned too, as far as it was read.
        """
        if not self._readings:
            return None
        last = self._readings[-1]
        begin = min(moment, last.at - _LEAST_WINDOW_S)
        earlier = (_last_before(self._readings, begin), _last_before(self._seconds, begin))
        first = max((one for one in earlier if one is not None), key=lambda one: one.at, default=self._readings[0])
        found = shares(first, last)
        return None if found is None else replace(found, peak=self._peak(begin, last))

    def _peak(self, begin: float, last: CpuTimes) -> float | None:
        """Return the largest share in any second from a moment to the last reading."""
        seconds = [one for one in self._seconds if begin - _LEAST_WINDOW_S <= one.at <= last.at - _LEAST_WINDOW_S]
        found = [shares(before, after) for before, after in pairwise([*seconds, last])]
        peaks = [max(one.others + one.stolen, one.elsewhere or 0.0) for one in found if one is not None]
        return _share(max(peaks)) if peaks else None


def _last_before(readings: deque[CpuTimes], moment: float) -> CpuTimes | None:
    return next((one for one in reversed(readings) if one.at <= moment), None)


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 4)


def _numbers(file: Path) -> set[int] | None:
    """Numbers in a list like `0-3,8`; None where it cannot be read."""
    try:
        ends = [part.partition("-") for part in file.read_text(encoding="ascii").strip().split(",") if part]
        return {number for low, dash, high in ends for number in range(int(low), int(high if dash else low) + 1)}
    except (OSError, ValueError):
        return None


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
