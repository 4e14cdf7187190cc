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
from readiness.probes.stability.timing import once

_LEAST_S = 5e-4
_SUSPECT = 2.0
_LONG_S = 2.0
#: How stacks word it that an operator runs on the host. Lower case.
_FALLS_BACK = re.compile(r"(?:fall|run|runs|execut)\w*\s(?:back\s)?.{0,40}\bcpu\b|cpu fallback")


@dataclass(frozen=True, slots=True)
class CpuRelativeLatency:
    """The least seconds of one call on device and host, or why there are none; `fallback` is the stack's own warning.

    `case` only names it: the case itself would keep its tensors on the device.
    """

    case: str
    device_s: float = 0.0
    host_s: float = 0.0
    refusal: str | None = None
    fallback: str | None = None

    @property
    def slowdown(self) -> float:
        """How many times as long as the host's CPU the device takes; what is over at once counts as half a millisecond.

        Starting a kernel may cost more than a view costs the host: that is no missing kernel.
        """
        return self.device_s / max(self.host_s, _LEAST_S)

    def describe(self) -> str:
        """In words."""
        return f"{self.case} took {1e3 * self.device_s:.3g} ms, the host's CPU {1e3 * self.host_s:.3g} ms"


def latencies(accelerator: Accelerator, dtype: torch.dtype, *, repeats: int) -> Iterator[CpuRelativeLatency]:
    """Every core operation at a size of some milliseconds, in both layouts and phases."""
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
    """Alternately, so that whatever else the host does meets both; the least time of each, which others only lengthen.

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
    """One core of the host is what the device is held against, whatever host it came in; and it is never waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kept(call: Callable[[], Sequence[torch.Tensor]]) -> Callable[[], object]:
    """The call, its results kept until the clock has been read: giving memory back is not what is timed."""
    kept: list[object] = []
    return lambda: kept.append(call())


def _nothing() -> None:
    """The host is always done."""


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """What was warned of, also what torch says only once in a process; filled when it ends."""
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
