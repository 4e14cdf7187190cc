"""Saving and loading tensors of the device: PyTorch's own way asks for an allocator that only C++ can register."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from readiness.simulator.kernels import KIND
from readiness.simulator.silicon import Silicon
from readiness.simulator.strikes import Call


class _HasSilicon(Protocol):
    silicon: Silicon


def register(current: _HasSilicon) -> None:
    """Have torch.save tag the device's storages, and torch.load put them there."""

    def tag(storage: Any) -> str | None:
        return KIND if storage.device.type == KIND else None

    def restore(storage: Any, location: str) -> Any:
        if location.partition(":")[0] != KIND:
            return None
        content = torch.empty(0, dtype=torch.uint8).set_(storage)
        call = Call("checkpoint::load", [content], {}, results=content)
        loaded = current.silicon.perform(call, lambda: content)
        return current.silicon.adopt(loaded).untyped_storage()

    # Before PyTorch's own entry for such devices, whose priority is higher by some tens.
    torch.serialization.register_package(5, tag, restore)

