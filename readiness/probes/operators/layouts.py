"""Layouts: the same values as strided and offset views, for kernels that assume contiguous inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

import torch

from readiness.probes.operators.samples import Convert, Sample


class Layout(StrEnum):
    """Memory layout of a call's inputs; the value completes a sentence."""

    CONTIGUOUS = ""
    STRIDED = "on a strided input"
    OFFSET = "on an input at an offset"


#: What is tried besides the database's own samples, nearly all of which are contiguous.
VIEWS = (Layout.STRIDED, Layout.OFFSET)


def in_layout(layout: Layout, device: torch.device) -> Convert:
    """Return a conversion of a host tensor into a view on the device, with other values around it in memory."""
    convert = _MAKERS[layout]
    return lambda tensor: convert(tensor, device)


def layout_differs(layout: Layout, sample: Sample) -> bool:
    """True if any input of this call has other strides in this layout; a number has none."""
    return any(
        tensor.numel() > (1 if layout is Layout.STRIDED else 0) and tensor.layout == torch.strided
        for tensor in sample.tensors()
    )


def _contiguous(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.clone().to(device)


def _strided(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a view with reversed dimensions and a foreign value after every element, so that no stride stays."""
    order = tuple(reversed(range(tensor.ndim)))
    values = tensor.resolve_conj().resolve_neg()
    base = torch.stack((values.permute(order), _others(values).permute(order)), dim=-1)
    return base.to(device).select(-1, 0).permute(order)


def _offset(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a contiguous view from the second element on: aligned only to its own size."""
    flat = tensor.resolve_conj().resolve_neg().reshape(-1)
    base = torch.cat((_others(flat)[:1], flat, _others(flat)[:1]))
    return base.to(device)[1 : 1 + flat.numel()].view(tensor.shape)


def _others(values: torch.Tensor) -> torch.Tensor:
    """Return different values that are valid indices: a kernel that reads them should be wrong and not crash."""
    if values.dtype == torch.bool:
        return ~values
    if values.is_floating_point() or values.is_complex():
        return (-1 - values.to(torch.complex128 if values.is_complex() else torch.float64)).to(values.dtype)
    return values.reshape(-1).roll(1).reshape(values.shape)


_MAKERS: Mapping[Layout, Callable[[torch.Tensor, torch.device], torch.Tensor]] = {
    Layout.CONTIGUOUS: _contiguous,
    Layout.STRIDED: _strided,
    Layout.OFFSET: _offset,
}
