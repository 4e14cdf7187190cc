"""Memory growth of repeated checkpoint saves."""

from __future__ import annotations

import tempfile

import torch

from readiness.accelerators.base import Accelerator
from readiness.probes.driver import lifecycle

#: Until caches and pools have their size.
_WARM = 3
_TENSORS, _BYTES = 8, 2**20


def growths(accelerator: Accelerator, saves: int) -> dict[str, float]:
    """Return by memory (host, device) the bytes kept by each save of 8 MiB, as the median slope over the saves.

    Where the host's memory is the device's, only the host's is told; where memory cannot be read, nothing.
    """
    state = {
        str(index): torch.full((_BYTES // 4,), float(index), device=accelerator.device) for index in range(_TENSORS)
    }
    host: list[int] = []
    device: list[int] = []
    for _ in range(_WARM + saves):
        with tempfile.TemporaryFile(prefix="readiness-") as file:
            torch.save(state, file)
        lifecycle.trim_heap()
        host.append(lifecycle.own_bytes())
        used = None if accelerator.device.type == "cpu" else lifecycle.used_bytes(accelerator)
        device += [] if used is None else [used]
    slopes = {name: lifecycle.growth_per_step(series[_WARM:]) for name, series in (("host", host), ("device", device))}
    return {name: slope for name, slope in slopes.items() if slope is not None}
