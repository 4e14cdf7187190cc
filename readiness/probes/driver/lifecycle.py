"""Lifecycle of a device: opened, used and closed in new processes; memory growth over a series of readings."""

from __future__ import annotations

import contextlib
import ctypes
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.host import disk
from readiness.probes.driver import child_process

_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Opening:
    """Result of a process that opened the device: its failure, or None; and the device memory in use when it started."""

    failure: str | None
    seconds: float
    used_bytes: int | None = None
    timed_out: bool = False


def growth_per_step(readings: Sequence[float]) -> float | None:
    """Return the median slope of all pairs of a series (Theil-Sen), robust against outliers; None below three readings."""
    if len(readings) < 3:
        return None
    pairs = combinations(enumerate(readings), 2)
    return float(statistics.median((later - first) / (j - i) for (i, first), (j, later) in pairs))


def use(accelerator: Accelerator) -> str | None:
    """Allocate, compute, read back and free. Return why the result is wrong, or None. Values are exact in float32."""
    import torch

    drawn = torch.randint(-8, 9, (128, 128), generator=accelerator.generator("lifecycle"))
    block = torch.empty(8 * _MEBIBYTE, dtype=torch.uint8, device=accelerator.device)
    block[:: 1 << 12] = 7
    x = drawn.float().to(accelerator.device)
    result = (x @ x).cpu().long()
    accelerator.synchronize()
    del block, x
    accelerator.release()
    return None if torch.equal(result, drawn @ drawn) else "the device computed a wrong result"


def used_bytes(accelerator: Accelerator) -> int | None:
    """Return the device memory in use by all processes; None if the stack does not report it."""
    reading = accelerator.memory()
    return None if reading is None else reading[1] - reading[0]


def open_once(accelerator: Accelerator, timeout_s: float) -> Opening:
    """Open, use and close the device in a process of its own, within a deadline. Raises OSError for a full disk."""
    started = time.monotonic()
    child = child_process.start(accelerator, "readiness.probes.driver.lifecycle:report_use", {})
    try:
        answer = child.answer(started + timeout_s)
    finally:
        child.close()
    status = child.wait(started + timeout_s)
    seconds = time.monotonic() - started
    if status is None:
        held = child.kill()
        how = "was killed" if held is None else f"cannot be killed{held.removeprefix('it cannot be killed')}"
        opening = Opening(f"the process did not end in time and {how}", seconds, timed_out=True)
    else:
        opening = _opening(answer, status, seconds)
    if opening.failure is not None:
        disk.raise_if_full(opening.failure)
    return opening


def _opening(reported: child_process.Answer | None, status: int, seconds: float) -> Opening:
    if reported is None:
        return Opening(f"the process {child_process.ending(status)} without an answer", seconds)
    failure = reported["failure"]
    if failure is None and status != 0:
        failure = f"the device worked, then the process ended with status {os.waitstatus_to_exitcode(status)}"
    return Opening(failure, seconds, reported["used_bytes"])


def report_use(accelerator: Accelerator, settings: Mapping[str, Any], say: child_process.Say) -> None:  # noqa: ARG001
    """Run the whole job in the child, and answer with its outcome."""
    try:
        import torch  # noqa: F401

        accelerator.enter()
        before = None if accelerator.device.type == "cpu" else used_bytes(accelerator)
        answer = {"failure": use(accelerator), "used_bytes": before}
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is why the device did not open
        answer = {"failure": disk.describe(problem, f"{type(problem).__name__}: {problem}"), "used_bytes": None}
    say(answer)


def handles() -> int | None:
    """Return the open file descriptors of this process; None if the platform does not list them."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))  # noqa: PTH208 - a Path per descriptor would be counted as garbage
    return None


def own_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the memory of this process, resident or swapped out; only resident if the system reports no more.

    Without pages of files: the kernel drops them when memory is short and brings them back, which looks like growth.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        reported = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return sum(1024 * int(reported[name].split()[0]) for name in ("RssAnon", "RssShmem", "VmSwap"))
    import psutil

    return int(psutil.Process().memory_info().rss)


def trim_heap() -> None:
    """Return free heap memory of the C library to the system, if possible (glibc).

    Else a freed block of megabytes stays in the heap or does not, as it happens, and a reading of memory jumps with it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

