"""Lifecycle of a device: opened, used and closed in new processes; memory growth over a series of readings.

A child is forked where the stack allows it and a fresh interpreter elsewhere. Every wait has a deadline of its own: a
child that a driver holds is killed, and one that cannot be killed is left behind and said so.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn

from readiness import accelerators
from readiness.accelerators.base import Accelerator
from readiness.documents import assessment
from readiness.host import disk
from readiness.host.process_control import bootstrap, die_with_parent

_KILL_WAIT_S = 5.0
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
    reader, writer = os.pipe()
    try:
        pid = _fork(accelerator, reader, writer) if accelerator.stack.fork_safe else _spawn(accelerator, writer)
    finally:
        os.close(writer)
    try:
        answer = _read(reader, started + timeout_s)
    finally:
        os.close(reader)
    status = _wait(pid, started + timeout_s)
    opening = _opening(answer, status, time.monotonic() - started, None if status is not None else _end(pid))
    if opening.failure is not None:
        disk.raise_if_full(opening.failure)
    return opening


def _opening(answer: bytes, status: int | None, seconds: float, ended: str | None) -> Opening:
    if ended is not None:
        return Opening(ended, seconds, timed_out=True)
    assert status is not None
    try:
        reported: dict[str, Any] = json.loads(answer)
    except ValueError:
        code = os.waitstatus_to_exitcode(status)
        how = f"died by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return Opening(f"the process {how} without an answer", seconds)
    failure = reported["failure"]
    if failure is None and status != 0:
        failure = f"the device worked, then the process ended with status {os.waitstatus_to_exitcode(status)}"
    return Opening(failure, seconds, reported["used_bytes"])


def _report_use(accelerator: Accelerator, descriptor: int) -> None:
    """Run the whole job in the child, and write its outcome to the pipe."""
    try:
        import torch  # noqa: F401

        accelerator.enter()
        before = None if accelerator.device.type == "cpu" else used_bytes(accelerator)
        answer = {"failure": use(accelerator), "used_bytes": before}
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is why the device did not open
        answer = {"failure": disk.describe(problem, f"{type(problem).__name__}: {problem}"), "used_bytes": None}
    os.write(descriptor, json.dumps(answer).encode())


def _fork(accelerator: Accelerator, reader: int, writer: int) -> int:
    with warnings.catch_warnings():
        # Python warns that other threads' locks stay locked in the child: it takes none but its own, and has a deadline.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _become_child(accelerator, reader, writer)
    return pid


def _become_child(accelerator: Accelerator, reader: int, writer: int) -> NoReturn:
    try:
        die_with_parent()
        os.close(reader)
        import torch

        torch.set_num_threads(1)  # the parent's pool of threads does not exist here, though its bookkeeping does
        _report_use(accelerator, writer)
        os._exit(0)
    finally:
        os._exit(1)


def _spawn(accelerator: Accelerator, writer: int) -> int:
    request = json.dumps({"accelerator": assessment.facts_to_json(accelerator.facts), "seed": accelerator.seed})
    process = subprocess.Popen(
        bootstrap("readiness.probes.driver.lifecycle:spawned", str(writer), request),
        stdin=subprocess.DEVNULL,
        pass_fds=[writer],
    )
    process.returncode = 0  # it is waited for below, with a deadline
    return process.pid


def spawned(descriptor: str, request: str) -> int:
    """Entry point of a fresh interpreter: import torch and the plug-in, do the job, and exit normally."""
    die_with_parent()
    reported = json.loads(request)
    facts = assessment.facts_from_json(reported["accelerator"])
    _report_use(Accelerator(facts, accelerators.stack(facts.stack), seed=reported["seed"]), int(descriptor))
    return 0


def _read(reader: int, deadline: float) -> bytes:
    """Return what the child writes until it closes its end, or until the deadline."""
    answer = b""
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([reader], [], [], left)
        chunk = os.read(reader, 65536) if ready else b""
        if not chunk:
            break
        answer += chunk
    return answer


def _wait(pid: int, deadline: float) -> int | None:
    """Return the status of a child that ends before the deadline, else None."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)


def _end(pid: int) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if _wait(pid, time.monotonic() + _KILL_WAIT_S) is None:
        return "the process did not end in time and cannot be killed: it is blocked in the driver"
    return "the process did not end in time and was killed"


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


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("processes are started by fork or with passed descriptors, which Windows does not support")
