"""Baselines of rates: what the model is sold as, the pace of the host beside it, the clock of the device against its own.

Only workers import this: it imports torch.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator
from readiness.host.runqueue_wait import in_line_s, is_reported
from readiness.probes.throughput import timing
from readiness.probes.throughput.gemm import product_chain
from readiness.probes.throughput.timing import MOST_WAITED
from readiness.probes.throughput.timing import once_running as once

#: Turns of device and host, of which the best of each counts; a batch of calls between two events takes so long.
_TURNS, _BATCH_S, _MOST_CALLS = 24, 0.05, 2000
#: On a busy host the best says little, unless that of every other turn is the same but for so much.
_SAME = 0.03
#: Larger products take long on one thread and tell no more; in smaller ones the start of a call is a part that counts.
_LARGEST_BESIDE = 1024


@dataclass(frozen=True, slots=True)
class Beside:
    """Best seconds of a call on the device and of the same on the host, taken in turns.

    `waited` is the share of the time for which the process waited for a processor; `steady` is true if the best of every
    other turn is nearly the same, on both; `usual` is the median over the turns of the host's time over the device's.
    """

    device_s: float
    host_s: float
    waited: float
    steady: bool = False
    usual: float | None = None

    @property
    def busy(self) -> bool:
        """True if other work on the host disturbed the turns, or nobody knows."""
        return not (self.steady or self.waited <= MOST_WAITED)

    @property
    def share(self) -> float:
        """The host's time over the device's: 1 where they are as fast.

        Where other work disturbs the turns the better one of two estimates: a chip that is slow is slow by both.
        """
        best = self.host_s / self.device_s
        return best if self.waited <= MOST_WAITED or self.usual is None else max(best, self.usual)


def uses_tf32() -> bool:
    """True if products of float32 may be computed in TF32."""
    return torch.get_float32_matmul_precision() != "highest" or bool(torch.backends.cuda.matmul.allow_tf32)


def beside_host(
    device_call: Callable[[], object], host_call: Callable[[], object], synchronize: Callable[[], None], turns: int = _TURNS
) -> Beside:
    """Time calls on the device and on the host in turns: what disturbs one disturbs the other.

    On one thread: the processor time of several is no time by the clock, and would hide that the device waits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        device_call()
        host_call()
        began, waited = time.perf_counter(), in_line_s() if is_reported() else math.nan
        device, host = [], []
        for _ in range(turns):
            device.append(once(device_call, synchronize))
            host.append(once(host_call, lambda: None))
        waited = (in_line_s() - waited) / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    usual = statistics.median(there / here for here, there in zip(device, host, strict=True))
    return Beside(min(device), min(host), waited, is_steady(device) and is_steady(host), usual)


def is_steady(seconds: Sequence[float]) -> bool:
    """True if the best of every other sample is nearly that of the others: then it is no luck of one moment."""
    even, odd = min(seconds[::2]), min(seconds[1::2], default=math.inf)
    return max(even, odd) <= (1 + _SAME) * min(even, odd)


def products_beside_host(accelerator: Accelerator, dtype: torch.dtype, size: int) -> Beside:
    """Time a product on a device of the host's memory, and the same on the host."""
    chain = product_chain(accelerator, dtype, min(size, _LARGEST_BESIDE))
    start, right = chain.start.cpu(), chain.right.cpu()
    return beside_host(lambda: chain.start @ chain.right, lambda: start @ right, accelerator.synchronize)


def timer_ratio(accelerator: Accelerator, work: Callable[[], object], seconds: float) -> float | None:
    """Return the time of a batch by the device's own events over that by the host's clock; None without such events.

    `seconds` is what a call takes about. The batch is long against starting it, so that both clocks see the same.
    """
    pair = timing.events(accelerator)
    if pair is None:
        return None
    ratios: list[float] = []
    for _ in range(3):
        accelerator.synchronize()
        began = time.perf_counter()
        pair[0].record()
        for _ in range(max(1, min(_MOST_CALLS, int(_BATCH_S / max(seconds, 1e-7))))):
            work()
        pair[1].record()
        accelerator.synchronize()
        passed = time.perf_counter() - began
        ratios.append(timing.elapsed_s(pair) / passed)
    return statistics.median(ratios)
