"""Collectives over one tensor, by the names that this version of torch has for them."""

from __future__ import annotations

from collections.abc import Callable

import torch.distributed as dist


def all_gather_single() -> Callable[..., object]:
    """all_gather into one tensor; the older name is deprecated where there is a newer one."""
    found: Callable[..., object] = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    return found


def reduce_scatter_single() -> Callable[..., object]:
    """reduce_scatter out of one tensor; likewise."""
    found: Callable[..., object] = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    return found
