"""PyTorch patches for what only C++ can register: generators, pinned memory, synchronisation.

Not closed: more than one device in a process, resizing a storage (which FSDP2 does), sparse tensors. Those are limits of
the simulator, not of any chip.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any, Protocol

import torch

from readiness.simulator import graphs, storage_views
from readiness.simulator.call import Call
from readiness.simulator.device import SimulatedDevice
from readiness.simulator.kernels import KIND

_EXPORT, _EXTENSION = "dlpack::export", 12  # kDLExtDev
_pinned: weakref.WeakSet[Any] = weakref.WeakSet()


class _HasDevice(Protocol):
    device: SimulatedDevice


class Generator(torch.Generator):
    """Generator for the simulated device: a host generator."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        """Return a usual generator for any other device."""
        kind = torch.device(device).type
        return super().__new__(cls, device="cpu" if kind == KIND else device)  # type: ignore[call-arg]


def close(current: _HasDevice) -> object:
    """Apply the patches to this process; they last as long as the returned object."""
    torch.Generator = Generator  # type: ignore[misc]
    plain = torch.accelerator.synchronize

    def synchronize(device: Any = None, /) -> None:
        """Wait for the accelerator of this process."""
        if torch.accelerator.current_accelerator() == torch.device(KIND):
            torch.get_device_module(KIND).synchronize(device)
        else:
            plain(device)

    torch.accelerator.synchronize = synchronize
    _close_dlpack(current)
    _close_compiler()
    library = torch.library.Library("aten", "IMPL")
    library.impl("_pin_memory", _pin, "CPU")
    library.impl("is_pinned", _is_pinned, "CPU")
    return library


def _close_dlpack(current: _HasDevice) -> None:
    """Let the device's tensors be exchanged by DLPack: torch knows its number, but not its name."""
    plain_device: Any = torch.Tensor.__dlpack_device__
    plain_export: Any = torch.Tensor.__dlpack__

    def dlpack_device(self: torch.Tensor) -> Any:
        return (_EXTENSION, 0) if self.device.type == KIND else plain_device(self)

    def export(self: torch.Tensor, **keywords: Any) -> Any:
        if self.device.type != KIND:
            return plain_export(self, **keywords)
        device = current.device
        if not any(device.faults_of(_EXPORT)):
            return plain_export(self, **keywords)
        call = Call(_EXPORT, [storage_views.to_host(self)], {}, given=[self])
        device.perform(call, lambda: None)
        return plain_export(storage_views.to_device(call.arguments[0]), **keywords)

    torch.Tensor.__dlpack_device__ = dlpack_device  # type: ignore[method-assign]
    torch.Tensor.__dlpack__ = export  # type: ignore[method-assign]


def _close_compiler() -> None:
    """Let torch.compile use the device's own compiler for what works on it, in place of the default one, and never look
    into the simulator: its kernels are Python, and those of other devices are not.
    """
    plain_entry: Any = torch.compile

    @functools.wraps(plain_entry)
    def entry(*arguments: Any, **keywords: Any) -> Any:
        _hide_simulator()
        return plain_entry(*arguments, **keywords)

    torch.compile = entry
    wrapper: Any = torch._TorchCompileInductorWrapper
    plain: Any = wrapper.__call__

    def compile_with(self: Any, module: Any, inputs: Any) -> Any:
        tensors = (*inputs, *(node.meta.get("example_value") for node in module.graph.nodes))
        on_device = any(isinstance(given, torch.Tensor) and given.device.type == KIND for given in tensors)
        return graphs.compile_graph(module, inputs) if on_device else plain(self, module, inputs)

    wrapper.__call__ = compile_with


@functools.cache
def _hide_simulator() -> None:
    from torch._dynamo import trace_rules

    trace_rules.add("readiness.simulator")


def _pin(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
    copy = tensor.clone(memory_format=torch.preserve_format)
    _pinned.add(copy.untyped_storage())
    return copy


def _is_pinned(tensor: torch.Tensor, device: Any = None) -> bool:
    return tensor.untyped_storage() in _pinned

