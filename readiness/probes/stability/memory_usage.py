"""Memory use of a process on host and device during work, and its growth."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import psutil

from readiness.accelerators.base import Accelerator
from readiness.host import memory
from readiness.probes.driver.lifecycle import growth_per_step, own_bytes, used_bytes

#: A host on which less than this share of its memory is left ends the work, lest somebody be killed; of a large one so many
#: bytes beyond what is always left are enough.
_LEAST_LEFT, _ENOUGH_BYTES = 0.06, 4 * 2**30


@dataclass(frozen=True, slots=True)
class Growth:
    """Memory growth: bytes per thousand calls in the second half, and the use at its beginning and end."""

    memory: str
    bytes_per_1000_calls: float
    began_bytes: int
    ended_bytes: int
    readings: int


@dataclass(slots=True)
class Usage:
    """Memory readings every `every_s` seconds."""

    accelerator: Accelerator
    every_s: float
    calls: list[int] = field(default_factory=list)
    host: list[int] = field(default_factory=list)
    device: list[int] = field(default_factory=list)
    _next_s: float = 0.0

    def read(self, elapsed_s: float, calls: int) -> str | None:
        """Read memory if it is time; return why the work must end now, or None."""
        if elapsed_s < self._next_s:
            return None
        self._next_s = elapsed_s + self.every_s
        self.calls.append(calls)
        self.host.append(own_bytes())
        if self.accelerator.device.type != "cpu":  # elsewhere the host's memory is the device's
            with contextlib.suppress(RuntimeError):  # a device that has given up; its calls have raised too
                used = used_bytes(self.accelerator)
                self.device += [] if used is None else [used]
        held = psutil.virtual_memory()
        least = min(_LEAST_LEFT * held.total, memory.floor() + _ENOUGH_BYTES)
        return "the host's memory ran out" if held.available < least else None

    def growth(self) -> list[Growth]:
        """Return the growth of each memory that was read often enough."""
        found = []
        for name, readings in (("host", self.host), ("device", self.device)):
            late = readings[len(readings) // 2 :]
            counts = self.calls[: len(readings)][len(readings) // 2 :]
            slope = growth_per_step(late)
            if slope is None or counts[-1] == counts[0]:
                continue
            calls_per_step = (counts[-1] - counts[0]) / (len(counts) - 1)
            found.append(Growth(name, 1000 * slope / calls_per_step, late[0], late[-1], len(late)))
        return found
