"""Message sizes: limits for bandwidth measurements from the memory of hosts and devices."""

from __future__ import annotations

import torch

from readiness.distributed.types import RankContext
from readiness.host import memory

#: Factor by which messages grow that have been too quick to measure.
GROWTH = 8
#: What a byte of a message may take of the host's memory on each rank (what is sent, received, expected and compared), and
#: which share of what is free on the device it may be.
HOST_BYTES, DEVICE_SHARE = 8, 1 / 16
#: Values repeat after so many elements, a prime number: no part of a message looks like another.
PERIOD = 1048573


def most_bytes(context: RankContext, most_mib: float, at_once: int) -> float:
    """Return the largest message, at most `most_mib`, if `at_once` ranks use one at the same time. Equal on all ranks."""
    allowed = memory.available() / HOST_BYTES / at_once
    if (reading := context.accelerator.memory()) is not None:
        allowed = min(allowed, reading[0] * DEVICE_SHARE)
    return min(most_mib * 2**20, *context.exchange(allowed))


def repeat_values(values: torch.Tensor, begin: int, numel: int) -> torch.Tensor:
    """Return so many elements, from `begin` on, of endlessly repeated values."""
    begin %= len(values)
    return values.repeat(-(-(begin + numel) // len(values)))[begin : begin + numel]
