"""Scaled dot-product attention: the device chooses the kernel that the CPU would choose.

PyTorch asks a table in C++ which fused kernel a device has, and a device written in Python is not in it; its attention
would always be taken apart. Here the CPU is asked, and its fused kernel called, which has a gradient of its own.
"""

from __future__ import annotations

from typing import Any

import torch

from readiness.simulator.kernels import as_host, is_simulated, is_traced

_FLASH = int(torch.nn.attention.SDPBackend.FLASH_ATTENTION.value)


def register() -> object:
    """Register the kernel choice of scaled dot-product attention; the registration lasts as long as the returned object."""
    library = torch.library.Library("aten", "IMPL")
    for key in ("AutogradPrivateUse1", "PrivateUse1"):
        library.impl("scaled_dot_product_attention", _attention, key)
    return library


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    choice = torch._fused_sdp_choice(
        _hosted(query), _hosted(key), _hosted(value), None if attn_mask is None else _hosted(attn_mask), dropout_p,
        is_causal,
        scale=scale, enable_gqa=enable_gqa,
    )  # fmt: skip
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        allowed = torch.zeros(attn_mask.shape, dtype=query.dtype, device=query.device)
        attn_mask = allowed.masked_fill(attn_mask.logical_not(), float("-inf"))
    if choice != _FLASH:
        return torch._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
        )[0]
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def _hosted(tensor: torch.Tensor) -> torch.Tensor:
    if is_traced(tensor):  # it has no memory; the choice depends on shape and dtype
        return torch.empty_strided(
            tuple(map(int, tensor.shape)), tuple(map(int, tensor.stride())), dtype=tensor.dtype
        ).requires_grad_(tensor.requires_grad)  # fmt: skip
    plain = as_host(tensor.detach()) if is_simulated(tensor) else tensor.detach()
    return plain.requires_grad_(tensor.requires_grad)
