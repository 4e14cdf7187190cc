"""Views of the same memory as host tensors and as tensors of the simulated device, without a copy.

A tensor is handed out as a DLPack capsule, the capsule's device is overwritten, and PyTorch takes it in again: a genuine
tensor of the other device over the same memory. DLPack calls out-of-tree devices kDLExtDev.
Layout of the structures: https://dmlc.github.io/dlpack/latest/c_api.html (DLManagedTensor).
"""

from __future__ import annotations

import ctypes
import sys

import torch

_HOST, _EXTENSION = 1, 12  # kDLCPU, kDLExtDev
#: Byte offset of the device within DLManagedTensor: its type, and right behind it its number, 32 bits each.
_DEVICE = 8

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
_to_dlpack = torch._C._to_dlpack
_from_dlpack = torch._C._from_dlpack
_at = ctypes.c_int64.from_address
_FIRST_OF = {kind: int.from_bytes(kind.to_bytes(4, sys.byteorder) + bytes(4), sys.byteorder) for kind in (_HOST, _EXTENSION)}

#: What DLPack has no name for travels as bytes and gets its dtype back as a view.
_UNNAMED = frozenset({
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.complex32,
})  # fmt: skip


def to_device(tensor: torch.Tensor) -> torch.Tensor:
    """Return a strided host tensor as a tensor of the simulated device, over the same memory."""
    if tensor.dtype in _UNNAMED and tensor.itemsize in (1, 4):
        carrier = torch.uint8 if tensor.itemsize == 1 else torch.int32
        return to_device(tensor.view(carrier)).view(tensor.dtype)
    return _from_dlpack(_relabelled(tensor, _EXTENSION))


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the simulated device as a host tensor, over the same memory."""
    if tensor.dtype in _UNNAMED and tensor.itemsize in (1, 4):
        carrier = torch.uint8 if tensor.itemsize == 1 else torch.int32
        return to_host(tensor.view(carrier)).view(tensor.dtype)
    return _from_dlpack(_relabelled(tensor, _HOST))


def _relabelled(tensor: torch.Tensor, kind: int) -> object:
    capsule = _to_dlpack(tensor)
    _at(_pointer_of(capsule, b"dltensor") + _DEVICE).value = _FIRST_OF[kind]
    return capsule
