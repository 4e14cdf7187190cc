"""Replicas whose gradients are averaged while they come, as DistributedDataParallel does it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

#: The gradients of a small model fit into one bucket; those of a large one never do. Several, so that one can be stale.
BUCKET_MIB = 0.02


def replicated(model: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The model, which is on the device, as one of the replicas of all ranks."""
    indices = None if device.index is None else [device.index]
    return DistributedDataParallel(model, device_ids=indices, bucket_cap_mb=BUCKET_MIB)
