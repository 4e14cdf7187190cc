"""Collectives over one tensor, by their names in this version of torch."""

from __future__ import annotations

from collections.abc import Callable

import torch.distributed as dist


def all_gather_single() -> Callable[..., object]:
    """Call all_gather into one tensor; the older name is deprecated in newer versions."""
    found: Callable[..., object] = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    return found


def reduce_scatter_single() -> Callable[..., object]:
    """Call reduce_scatter from one tensor; the older name is deprecated in newer versions."""
    found: Callable[..., object] = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    return found
