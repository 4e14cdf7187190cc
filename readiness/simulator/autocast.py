"""Autocast on the simulated device, with the CPU's rules: lower precision, float32, or the widest dtype of the inputs.

Each choice is a call `autocast::NAME` of the device, for defects that choose otherwise. Which operators PyTorch casts on
the CPU is read off its own registrations; which of them go down is in its documentation (Autocast op reference, CPU ops
that can autocast to bfloat16 or to the widest type), all others go up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch._C import DispatchKey, DispatchKeySet

from readiness.simulator.call import Call
from readiness.simulator.device import SimulatedDevice
from readiness.simulator.kernels import KIND, overload

_LOWER = frozenset({
    "conv1d", "conv1d.padding", "conv2d", "conv2d.padding", "conv3d", "conv3d.padding", "bmm", "mm", "linalg_vecdot",
    "baddbmm", "addmm", "addbmm", "linear", "_convolution.deprecated", "matmul", "conv_tbc", "conv_transpose1d",
    "conv_transpose2d.input", "conv_transpose3d.input", "prelu", "scaled_dot_product_attention",
    "_native_multi_head_attention", "mkldnn_rnn_layer",
})  # fmt: skip
_WIDEST = frozenset({"stack", "cat", "index_copy", "index_copy.dimname"})
_KEYS = DispatchKeySet(DispatchKey.AutocastPrivateUse1)  # type: ignore[attr-defined]


class _HasDevice(Protocol):
    device: SimulatedDevice


def register(current: _HasDevice) -> object:
    """Register the autocast rules; they last as long as the returned object."""
    fallthrough = torch.library.Library("_", "IMPL")
    fallthrough.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    library = torch.library.Library("aten", "IMPL")
    for name in torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCPU"):
        short = name.removeprefix("aten::")
        if not name.startswith("aten::"):
            continue
        to = _lower if short in _LOWER else _widest if short in _WIDEST else _float32
        library.impl(short, _casting(short, to, current), "AutocastPrivateUse1")
    return fallthrough, library


def _casting(name: str, choose: Callable[[list[torch.Tensor]], torch.dtype], current: _HasDevice) -> Callable[..., Any]:
    operator = overload(name)

    def kernel(*arguments: Any, **keywords: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_KEYS):
            found: list[torch.Tensor] = []
            _collect((arguments, keywords), found)
            dtype = choose(found)
            if any(current.device.faults_of(f"autocast::{name}")):
                call = Call(f"autocast::{name}", [dtype], {}, found)
                current.device.perform(call, lambda: None)
                dtype = call.arguments[0]
            given = _cast((arguments, keywords), dtype)
            return operator(*given[0], **given[1])

    return kernel


def _lower(_: list[torch.Tensor]) -> torch.dtype:
    return torch.get_autocast_dtype(KIND)


def _float32(_: list[torch.Tensor]) -> torch.dtype:
    return torch.float32


def _widest(tensors: list[torch.Tensor]) -> torch.dtype:
    return torch.float32 if any(tensor.dtype == torch.float32 for tensor in tensors) else torch.get_autocast_dtype(KIND)


def _eligible(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.dtype != torch.float64
        and value.device.type == KIND
    )


def _collect(value: Any, found: list[torch.Tensor]) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)
    elif isinstance(value, dict):
        _collect(list(value.values()), found)
    elif _eligible(value):
        found.append(value)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_cast(item, dtype) for item in value)
    if isinstance(value, dict):
        return {key: _cast(item, dtype) for key, item in value.items()}
    return value.to(dtype) if _eligible(value) and value.dtype != dtype else value
