"""Cases of scaled_dot_product_attention: masks, grouped heads, odd lengths, other value widths; forward and backward.

The allowances follow the formula element by element. `fine` is the roundoff of the float32 accumulators, `coarse` that
of the dtype: fused kernels round the probabilities to it before they meet the values, and so do their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Row, Yield
from readiness.numerics import accumulation_roundoff, name_of, on_host, underflow, unit_roundoff
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.parity.reference_cases import BACKWARD, Case, Expected

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a problem: batch, query heads, key heads, queries, keys, width of queries and keys, of values, mask."""

    name: str
    batch: int
    heads: int
    key_heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    mask: str | None = None  # None, "causal", "boolean", "additive"


SHAPES = (
    Shape("no mask, odd lengths", 2, 3, 3, 67, 131, 64, 64),
    Shape("causal", 2, 2, 2, 129, 129, 64, 64, "causal"),
    Shape("causal, long", 1, 1, 1, 515, 515, 32, 32, "causal"),
    Shape("causal, grouped heads", 1, 6, 2, 97, 97, 32, 32, "causal"),
    Shape("boolean mask, narrow odd heads", 2, 2, 2, 33, 65, 40, 40, "boolean"),
    Shape("additive mask, grouped heads", 1, 4, 1, 31, 77, 64, 64, "additive"),
    Shape("values narrower than keys", 1, 2, 2, 65, 65, 96, 64, "causal"),
    Shape("one query, many keys", 2, 4, 2, 1, 1025, 64, 64),
    Shape("wide heads", 1, 2, 2, 40, 40, 128, 128, "causal"),
)


def attention_cases(dtype: torch.dtype, generator: torch.Generator) -> Iterator[Case]:
    """Yield one case for each of SHAPES in this dtype."""
    for shape in SHAPES:
        yield _case(shape, dtype, generator)


def _case(shape: Shape, dtype: torch.dtype, generator: torch.Generator) -> Case:
    def normal(*size: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*size, generator=generator) * scale).to(dtype)

    query = normal(shape.batch, shape.heads, shape.queries, shape.width, scale=1.5)
    key = normal(shape.batch, shape.key_heads, shape.keys, shape.width)
    value = normal(shape.batch, shape.key_heads, shape.keys, shape.value_width)
    cotangent = normal(shape.batch, shape.heads, shape.queries, shape.value_width)
    mask = _mask(shape, dtype, generator)

    def compute(device: torch.device) -> Iterator[Tensor]:
        q, k, v = (tensor.to(device, copy=True).requires_grad_() for tensor in (query, key, value))
        bias = None if mask is None else mask.to(device)
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias, is_causal=shape.mask == "causal", enable_gqa=shape.heads != shape.key_heads
        )
        yield out
        yield from torch.autograd.grad(out, (q, k, v), cotangent.to(device))

    references = attention_reference(query, key, value, cotangent, mask, causal=shape.mask == "causal")
    names = ("result", "gradient of the queries", "gradient of the keys", "gradient of the values")
    expected = [
        Expected(what, reference, allowance, dtype, phase=BACKWARD if index else "forward")
        for index, (what, (reference, allowance)) in enumerate(zip(names, references, strict=True))
    ]
    return Case("attention", shape.name, compute, expected)


def _mask(shape: Shape, dtype: torch.dtype, generator: torch.Generator) -> Tensor | None:
    size = (shape.batch, 1, shape.queries, shape.keys)
    match shape.mask:
        case "boolean":
            mask = torch.rand(size, generator=generator) < 0.5
            mask[..., 3] = True  # no query without any key: what to give there is asked elsewhere
            return mask
        case "additive":
            return (torch.randn(size, generator=generator) * 2).to(dtype)
        case _:
            return None


def attention_reference(
    query: Tensor, key: Tensor, value: Tensor, cotangent: Tensor, mask: Tensor | None, *, causal: bool
) -> list[tuple[Tensor, Tensor]]:
    """Compute softmax(q k^T / sqrt(d) + mask) v in float64 with its gradients and allowances; tensors (B, H, S, D).

    Query heads in groups share key heads. A query that may see no key gets 0, and so do its gradients.
    """
    fine, coarse = accumulation_roundoff(query.dtype), unit_roundoff(query.dtype)
    group = query.shape[1] // key.shape[1]
    q, g = on_host(query), on_host(cotangent)
    k, v = (on_host(tensor).repeat_interleave(group, 1) for tensor in (key, value))
    scale = 1 / math.sqrt(q.shape[-1])
    logits = scale * (q @ k.mT)
    # How far each logit may be off, in roundoffs: its own random walk, and that of what is added to it.
    doubt = math.sqrt(q.shape[-1]) * scale * (q.abs() @ k.abs().mT)
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    elif mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, -math.inf)
    elif mask is not None:
        logits, doubt = logits + on_host(mask), doubt + on_host(mask).abs()
    p = logits.softmax(-1).nan_to_num(0.0)
    out, spread = p @ v, p @ v.abs()
    # Relative doubt of each probability: exp's argument, the row's sum, one rounding to the dtype.
    doubt = fine * (doubt + (p * doubt).sum(-1, keepdim=True) + math.sqrt(k.shape[-2])) + coarse
    tiny = underflow(query.dtype)
    p_doubt = p * doubt + tiny
    forward = p_doubt @ v.abs() + coarse * out.abs()

    to_value = (p.mT @ g, p_doubt.mT @ g.abs())
    pull = g @ v.mT
    inner = (g * out).sum(-1, keepdim=True)
    width = math.sqrt(v.shape[-1]) * fine
    size = g.abs() @ v.abs().mT + (g.abs() * spread).sum(-1, keepdim=True)
    slope = p * (pull - inner)
    # The forward result that the backward pass starts from was rounded; every probability carries its own doubt.
    slope_doubt = p * ((width + coarse) * size + (g.abs() * forward).sum(-1, keepdim=True))
    slope_doubt = slope_doubt + p_doubt * (pull - inner).abs() + tiny
    to_query = (scale * (slope @ k), scale * (slope_doubt @ k.abs()))
    to_key = (scale * (slope.mT @ q), scale * (slope_doubt.mT @ q.abs()))
    shared = [_per_group(gradient, doubt, group, coarse, tiny) for gradient, doubt in (to_key, to_value)]
    return [(out, forward), to_query, *shared]


def _per_group(gradient: Tensor, doubt: Tensor, group: int, coarse: float, tiny: float) -> tuple[Tensor, Tensor]:
    """Return the sum over query heads that share a key head, each of which may be rounded before."""
    if group == 1:
        return gradient, doubt
    doubt = doubt + coarse * gradient.abs() + tiny
    shape = (gradient.shape[0], -1, group, *gradient.shape[2:])
    return gradient.reshape(shape).sum(2), doubt.reshape(shape).sum(2)


def masked_row_violations(accelerator: Accelerator, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Yield]:
    """Count queries without a visible key that give something else than 0: a NaN there poisons every gradient."""
    query, key, value = (torch.randn(2, 2, 19, 32, generator=generator).to(dtype) for _ in range(3))
    mask = torch.rand(2, 1, 19, 19, generator=generator) < 0.5
    mask[..., 3] = True
    blind = torch.arange(19) % 5 == 0
    mask[:, :, blind] = False
    with unsupported_as_reason() as refusal:
        q, k, v = (tensor.to(accelerator.device, copy=True).requires_grad_() for tensor in (query, key, value))
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(accelerator.device))
        gradients = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
        tensors = [tensor.detach().cpu() for tensor in (out, *gradients)]
    if refusal.reason is None:
        wrong = int((tensors[0][:, :, blind] != 0).sum()) + sum(int((~tensor.isfinite()).sum()) for tensor in tensors[1:])
        labels = {"dtype": name_of(dtype)}
        yield Row({"op": "attention", "case": "queries without any key", "wrong": wrong, **labels})
        yield Measurement("masked_row_violations", wrong, labels)
