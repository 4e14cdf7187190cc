"""Operators that PyTorch decomposes differently for out-of-tree devices: registered with the CPU's decomposition.

Cells of recurrent networks would need fused kernels that the CPU does not have (they differ from the CPU's in the last
digit: the biases arrive apart); dropout would round once more.
"""

from __future__ import annotations

import torch

Tensor = torch.Tensor
#: What is made of other operators here, or by PyTorch for every device but its own.
NAMES = ("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "dropout", "scaled_dot_product_attention")


def register() -> object:
    """Register these operators with the CPU's implementations; they last as long as the returned object."""
    library = torch.library.Library("aten", "IMPL")
    for key in ("AutogradPrivateUse1", "PrivateUse1"):
        library.impl("_thnn_fused_lstm_cell", _lstm_cell, key)
        library.impl("_thnn_fused_gru_cell", _gru_cell, key)
        library.impl("dropout", _dropout, key)
    return library


def _dropout(tensor: Tensor, p: float, train: bool) -> Tensor:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if p == 0 or not train or tensor.numel() == 0:
        return tensor
    if p == 1:
        return tensor * torch.zeros((), dtype=tensor.dtype, device=tensor.device)
    return tensor * torch.empty_like(tensor).bernoulli_(1 - p).div_(1 - p)


def _sum(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias


def _lstm_cell(
    input_gates: Tensor, hidden_gates: Tensor, cx: Tensor, input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    gates = _sum(hidden_gates, hidden_bias) + _sum(input_gates, input_bias)
    take, forget, cell, out = gates.chunk(4, 1)
    cy = forget.sigmoid() * cx + take.sigmoid() * cell.tanh()
    return out.sigmoid() * cy.tanh(), cy, gates


def _gru_cell(
    input_gates: Tensor, hidden_gates: Tensor, hx: Tensor, input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    incoming, hidden = _sum(input_gates, input_bias).chunk(3, 1), _sum(hidden_gates, hidden_bias).chunk(3, 1)
    reset, update = (hidden[0] + incoming[0]).sigmoid(), (hidden[1] + incoming[1]).sigmoid()
    new = (incoming[2] + hidden[2] * reset).tanh()
    return (hx - new) * update + new, new
