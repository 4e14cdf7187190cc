"""Latency of an operation on the device relative to the same call on the host's CPU."""

from __future__ import annotations

import contextlib
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.stability.operations import LAYOUTS, OPERATIONS, RARER, Case, both_phases, draw
from readiness.probes.throughput.timing import once_running as once

_LEAST_S = 5e-4
_SUSPECT = 2.0
_LONG_S = 2.0
#: How stacks word it that an operator runs on the host. Lower case.
_FALLS_BACK = re.compile(r"(?:fall|run|runs|execut)\w*\s(?:back\s)?.{0,40}\bcpu\b|cpu fallback")


@dataclass(frozen=True, slots=True)
class CpuRelativeLatency:
    """Shortest seconds of a call on device and host, or the refusal; `fallback` is the stack's own warning.

    `case` only names it: the case itself would keep its tensors on the device.
    """

    case: str
    device_s: float = 0.0
    host_s: float = 0.0
    refusal: str | None = None
    fallback: str | None = None

    @property
    def slowdown(self) -> float:
        """Ratio of the device's time to the host's, which counts as at least half a millisecond.

        Starting a kernel may cost more than a view costs the host: that is no missing kernel.
        """
        return self.device_s / max(self.host_s, _LEAST_S)

    def describe(self) -> str:
        """Describe the latency as text."""
        return f"{self.case} took {1e3 * self.device_s:.3g} ms, the host's CPU {1e3 * self.host_s:.3g} ms"


def latencies(accelerator: Accelerator, dtype: torch.dtype, *, repeats: int) -> Iterator[CpuRelativeLatency]:
    """Measure every core operation at a size of some milliseconds, in both layouts and phases."""
    host = torch.device("cpu")
    with _one_thread():
        for operation in (*OPERATIONS, *RARER):
            inputs = draw(accelerator, operation, dtype, large=True)
            for layout in LAYOUTS:
                device_cases = both_phases(operation, inputs, dtype, layout, accelerator.device)
                host_cases = both_phases(operation, inputs, dtype, layout, host)
                for device_case, host_case in zip(device_cases, host_cases, strict=True):
                    yield _latency(accelerator, device_case, host_case, repeats)


def _latency(accelerator: Accelerator, device_case: Case, host_case: Case, repeats: int) -> CpuRelativeLatency:
    """Time both alternately, so that other load on the host affects both; return the shortest time of each.

    Three times, and again up to `repeats` while the device looks slow: by chance it is not slow every time. What takes
    seconds is given up after a third of that.
    """
    with torch.no_grad(), unsupported_as_reason() as refusal, _warnings() as warned:
        device_case.call()
        accelerator.synchronize()
    if refusal.reason is not None:
        return CpuRelativeLatency(str(device_case), refusal=refusal.reason)
    fallback = next((text for text in warned if _FALLS_BACK.search(text.lower())), None)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        host_case.call()
        found = CpuRelativeLatency(str(device_case), math.inf, math.inf, fallback=fallback)
        began = time.monotonic()
        for number in range(repeats):
            device_s, host_s = once(_kept(device_case.call), accelerator.synchronize), once(_kept(host_case.call), _nothing)
            found = replace(found, device_s=min(device_s, found.device_s), host_s=min(host_s, found.host_s))
            if number >= 2 and found.slowdown < _SUSPECT:
                break
            if number >= repeats // 3 and time.monotonic() - began > _LONG_S:
                break
    return found


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limit the host to one core, so that devices are compared alike on every host."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kept(call: Callable[[], Sequence[torch.Tensor]]) -> Callable[[], object]:
    """Return the call with its results kept until the clock is read: freeing memory must not be timed."""
    kept: list[object] = []
    return lambda: kept.append(call())


def _nothing() -> None:
    """Do nothing: the host needs no synchronisation."""


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect all warnings within the block, also those that torch gives once per process."""
    warned: list[str] = []
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield warned
    finally:
        torch.set_warn_always(before)
        warned += [str(item.message) for item in caught]
