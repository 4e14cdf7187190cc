"""Row-wise spot checks of results too large to check whole: attention, softmax, sums.

Each gives what is there, what should be, and one unit of what rounding may cost each element; None where it cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from readiness import numerics
from readiness.probes.operators.samples import Sample

Tensor = torch.Tensor
Looked = tuple[Tensor, Tensor, Tensor]
#: So many rows of each.
_ROWS = 8
_SINGLE = numerics.unit_roundoff(torch.float32)


def some(size: int, most: int, generator: torch.Generator) -> Tensor:
    """Return indices: both ends, and others at random."""
    if size <= most:
        return torch.arange(size)
    ends = torch.tensor([0, size - 1])
    return torch.cat([ends, torch.randint(0, size, (most - 2,), generator=generator)])


def _option(sample: Sample, position: int, name: str, usual: Any) -> Any:
    given = sample.arguments
    return sample.keywords.get(name, given[position] if len(given) > position else usual)


def attention(sample: Sample, out: Tensor, generator: torch.Generator) -> Looked | None:
    """Check some queries of one head, (B, H, T, D), against the softmax-weighted values."""
    query, key, value = (tensor.detach() for tensor in sample.arguments[:3])
    if query.ndim != 4 or key.ndim != 4 or query.shape[1] % key.shape[1] or _option(sample, 4, "dropout_p", 0.0):
        return None
    batch, head = (int(torch.randint(0, size, (), generator=generator)) for size in query.shape[:2])
    chosen = some(query.shape[2], _ROWS, generator)
    kin = head // (query.shape[1] // key.shape[1])  # query heads share a key head in groups
    q, k, v = query[batch, head, chosen].double(), key[batch, kin].double(), value[batch, kin].double()
    scale = _option(sample, 6, "scale", None) or query.shape[-1] ** -0.5
    scores = scale * (q @ k.mT)
    if _option(sample, 5, "is_causal", False):
        scores = scores.masked_fill(torch.arange(k.shape[0]) > chosen.unsqueeze(1), -math.inf)
    mask = _option(sample, 3, "attn_mask", None)
    if mask is not None:
        mask = mask.detach().expand(*query.shape[:2], query.shape[2], key.shape[2])[batch, head, chosen]
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask.double()
    if bool(torch.isneginf(scores).all(-1).any()):
        return None  # a query that may see nothing has no defined result
    weights = scores.softmax(-1)
    # Weights are rounded to the dtype, scores to float32: a sum of `width` products there, times the scale.
    moved = scale * math.sqrt(q.shape[1]) * _SINGLE * (q.abs() @ k.abs().mT)
    unit = numerics.unit_roundoff(out.dtype)
    allowance = (weights * (4 * unit + 4 * moved)) @ v.abs() + unit * (weights @ v).abs()
    return out[batch, head][chosen.to(out.device)].detach().cpu(), weights @ v, allowance


def softmax(sample: Sample, out: Tensor, generator: torch.Generator, *, logarithm: bool = False) -> Looked | None:
    """Check softmax or log_softmax of some rows along its dimension."""
    given, dimension = sample.arguments[0].detach(), int(_option(sample, 1, "dim", -1))
    if out.shape != given.shape or not given.ndim:
        return None
    every, given_dim = given.movedim(dimension, -1).flatten(0, -2), out.movedim(dimension, -1).flatten(0, -2)
    chosen = some(every.shape[0], _ROWS, generator)
    rows, have = every[chosen].double(), given_dim[chosen.to(out.device)].detach().cpu()
    unit, summed = numerics.unit_roundoff(out.dtype), math.sqrt(rows.shape[-1])
    if logarithm:
        want = rows.log_softmax(-1)
        return have, want, 2 * unit * want.abs() + 4 * _SINGLE * (want.abs() + summed)
    want, distance = rows.softmax(-1), rows.amax(-1, keepdim=True) - rows
    return have, want, 4 * numerics.underflow(out.dtype) + want * (4 * unit + 4 * _SINGLE * (distance + summed))


def total(sample: Sample, out: Tensor, generator: torch.Generator, *, mean: bool = False) -> Looked | None:
    """Check some sums or means over dimensions."""
    given = sample.arguments[0].detach()
    given_dim = _option(sample, 1, "dim", None)
    if not given.is_floating_point() or not given.ndim or isinstance(given_dim, torch.dtype):
        return None
    gone = sorted(
        {int(dim) % given.ndim for dim in ([given_dim] if isinstance(given_dim, int) else given_dim or range(given.ndim))}
    )
    rest = [dim for dim in range(given.ndim) if dim not in gone]
    rows = given.permute(*rest, *gone).reshape(math.prod(given.shape[dim] for dim in rest), -1)
    have = out.reshape(-1)
    if have.numel() != rows.shape[0] or not rows.numel():
        return None
    chosen = some(rows.shape[0], _ROWS, generator)
    wide, count = rows[chosen].double(), rows.shape[1] if mean else 1
    sums, sizes = wide.sum(-1) / count, wide.abs().sum(-1) / count
    allowance = math.sqrt(rows.shape[1]) * numerics.accumulation_roundoff(out.dtype) * sizes
    return have[chosen.to(out.device)].detach().cpu(), sums, allowance + numerics.unit_roundoff(out.dtype) * sums.abs()


def joined(sample: Sample, out: Tensor, generator: torch.Generator) -> Looked | None:  # noqa: ARG001
    """Check a concatenation completely, bit for bit."""
    tensors = [tensor.detach() for tensor in sample.arguments[0]]
    want = torch.cat(tensors, int(_option(sample, 1, "dim", 0)))
    return (out.detach().cpu(), want, torch.zeros(())) if want.dtype is out.dtype else None


CHOOSE: Mapping[str, Callable[[Sample, Tensor, torch.Generator], Looked | None]] = {
    "scaled_dot_product_attention": attention, "_softmax": softmax, "_safe_softmax": softmax,
    "_log_softmax": partial(softmax, logarithm=True), "sum": total, "mean": partial(total, mean=True), "cat": joined,
}  # fmt: skip
