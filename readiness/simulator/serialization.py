"""Serialization of the device's tensors, because PyTorch's own path needs an allocator that only C++ can register."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from readiness.simulator.call import Call
from readiness.simulator.device import SimulatedDevice
from readiness.simulator.kernels import KIND, _host

_LOAD, _SAVE = "checkpoint::load", "checkpoint::save"


class _HasDevice(Protocol):
    device: SimulatedDevice


def register(current: _HasDevice) -> None:
    """Register the device with torch.save and torch.load."""

    def tag(storage: Any) -> str | None:
        if storage.device.type != KIND:
            return None
        current.device.perform(Call(_SAVE, [], {}, results=None), lambda: None)
        return KIND

    def restore(storage: Any, location: str) -> Any:
        if location.partition(":")[0] != KIND:
            return None
        content = torch.empty(0, dtype=torch.uint8).set_(storage)
        call = Call(_LOAD, [content], {}, results=content)
        loaded = current.device.perform(call, lambda: content)
        return current.device.to_chip(loaded).untyped_storage()

    # Before PyTorch's own entry for such devices, whose priority is higher by some tens.
    torch.serialization.register_package(5, tag, restore)


def register_distributed(current: _HasDevice) -> None:
    """Let checkpoint defects act on every tensor that torch.distributed.checkpoint loads.

    Only for chips that have such defects: it takes an import. Each call has the tensor's name as its `tensor`.
    """
    if not torch.distributed.is_available() or not any(current.device.faults_of(_LOAD)):
        return
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

    plain: Any = DefaultLoadPlanner.commit_tensor
    if getattr(plain, "simulated", False):
        return

    def commit_tensor(self: Any, read_item: Any, tensor: torch.Tensor) -> None:
        plain(self, read_item, tensor)
        if tensor.device.type == KIND and tensor.numel() and tensor.is_contiguous():
            content = _host(tensor).view(-1).view(torch.uint8)
            call = Call(_LOAD, [content], {"tensor": read_item.dest_index.fqn}, results=content)
            current.device.perform(call, lambda: content)

    commit_tensor.simulated = True  # type: ignore[attr-defined]
    DefaultLoadPlanner.commit_tensor = commit_tensor  # type: ignore[method-assign]
