"""Rounding error bounds of sums of products, for whole results and for chosen elements.

The same operator on magnitudes gives |A||B|: it is linear in each of its inputs. See `numerics` for the bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from readiness import numerics
from readiness.probes.model_operators import rowwise_spotcheck
from readiness.probes.model_operators.op_table import Operator
from readiness.probes.model_operators.rowwise_spotcheck import some
from readiness.probes.operators.samples import Sample, leaves, wide

#: Units of sqrt(K) u (|A||B|) that an honest result may be off. The largest seen on CPUs stays below 1.
ALLOWED = 2.0
#: So many rows and columns of a result that is too large to be checked whole.
_ROWS, _COLUMNS = 8, 32

Tensor = torch.Tensor


def grouped_mm(left: Tensor, right: Tensor, offs: Tensor | None = None, **_: Any) -> Tensor:
    """Multiply each expert's rows with its matrix: the reference has no float64 kernel for it."""
    if offs is None:
        return left @ right
    ends = [0, *offs.tolist()]
    ranges = list(itertools.pairwise(ends))
    if left.ndim == 2 and right.ndim == 3:
        found = [left[start:end] @ right[expert] for expert, (start, end) in enumerate(ranges)]
        # Rows behind the last expert's belong to none.
        return torch.cat([*found, left.new_zeros(left.shape[0] - ends[-1], right.shape[-1])])
    if left.ndim == 2:
        return torch.stack([left[:, start:end] @ right[start:end] for start, end in ranges])
    return torch.cat([left[expert] @ right[:, start:end] for expert, (start, end) in enumerate(ranges)], 1)


def histc(values: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
    """Count in equal bins, also integers, as transformers counts tokens: the host's kernel does not accept them."""
    return torch.histc(values.double(), *arguments, **keywords).to(values.dtype)


#: Operators that the host cannot compute in float64 under their own name.
REFERENCES: Mapping[str, Callable[..., Any]] = {"_grouped_mm": grouped_mm, "histc": histc}


def terms(sample: Sample) -> int:
    """Return the largest number of products in a sum."""
    return max((max(tensor.shape, default=1) for tensor in sample.tensors()), default=1)


#: They add something to a product that may have been rounded already: one rounding more.
_ADDING = frozenset({"addmm", "baddbmm", "convolution", "linear"})


def excess(
    out: Tensor, reference: Tensor, magnitude: Tensor, count: int, operator: Operator, leniency: float = 1.0
) -> str | None:
    """Return how far a result exceeds its bound, as text, or None. `magnitude` is the same sum over magnitudes."""
    allowed = leniency * ALLOWED
    allowance = allowed * math.sqrt(max(count, 1)) * numerics.accumulation_roundoff(out.dtype) * magnitude.abs()
    if operator.base in _ADDING:
        # What is added may be as large as the product and of another sign.
        allowance = allowance + 2 * numerics.unit_roundoff(out.dtype) * reference.abs().clamp_min(_typical(reference))
    ratio = numerics.bound_ratio(out.detach(), reference.detach(), allowance.detach())
    if ratio <= 1:
        return None
    return f"an element is off by {ratio * allowed:.3g} times the rounding error of its sum (at most {allowed:g})"


def _typical(reference: Tensor) -> float:
    return float(reference.detach().square().mean().sqrt()) if reference.numel() else 0.0


def magnitudes(sample: Sample) -> Sample:
    """Return the result of the same call on magnitudes, in float64."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor.to(wide(tensor.dtype)).abs() if tensor.is_floating_point() else tensor.clone()

    return sample.converted(convert, torch.device("cpu"), widen=True)


def spot_check(
    operator: Operator, sample: Sample, out: Any, generator: torch.Generator, leniency: float = 1.0
) -> str | None:
    """Check some elements of a result that is too large to check completely; return an error, or None."""
    if not isinstance(out, Tensor) or not out.is_floating_point():
        return None
    if (by_rows := rowwise_spotcheck.CHOOSE.get(operator.base)) is not None:
        found = by_rows(sample, out, generator)
    elif (chosen := _CHOOSE.get(operator.base)) is not None:
        found = chosen(list(leaves(sample.arguments)), out, generator)
    else:
        return None
    if found is None:
        return None
    have, want, allowance = found
    ratio = numerics.bound_ratio(have, want, leniency * ALLOWED * allowance)
    if ratio <= 1:
        return None
    return f"of {have.numel()} elements examined, one is off by {ratio:.3g} times the rounding error"


def _product(left: Tensor, right: Tensor, out: Tensor, generator: torch.Generator, bias: Tensor | None = None) -> Any:
    """Return chosen elements of left (M, K) times right (K, N), their expected values, and one unit of rounding error."""
    chosen, columns = some(left.shape[0], _ROWS, generator), some(right.shape[1], _COLUMNS, generator)
    a, b = left[chosen].double(), right[:, columns].double()
    want = a @ b
    allowance = math.sqrt(a.shape[1]) * numerics.accumulation_roundoff(out.dtype) * (a.abs() @ b.abs())
    if bias is not None:
        extra = bias.expand(left.shape[0], right.shape[1])[chosen][:, columns].double()
        want = want + extra
        allowance = allowance + numerics.unit_roundoff(out.dtype) * (extra.abs() + want.abs())
    have = out[chosen.to(out.device)][:, columns.to(out.device)].detach().cpu()
    return have, want, allowance


def _mm(arguments: Sequence[Any], out: Tensor, generator: torch.Generator) -> Any:
    left, right = arguments[:2]
    return _product(left.detach(), right.detach(), out, generator)


def _linear(arguments: Sequence[Any], out: Tensor, generator: torch.Generator) -> Any:
    left, weight, *rest = arguments
    bias = rest[0].detach() if rest and isinstance(rest[0], Tensor) else None
    return _product(left.detach().flatten(0, -2), weight.detach().mT, out.flatten(0, -2), generator, bias)


def _addmm(arguments: Sequence[Any], out: Tensor, generator: torch.Generator) -> Any:
    bias, left, right = arguments[:3]
    return _product(left.detach(), right.detach(), out, generator, bias.detach())


def _bmm(arguments: Sequence[Any], out: Tensor, generator: torch.Generator) -> Any:
    left, right = arguments[:2]
    batch = int(torch.randint(0, left.shape[0], (), generator=generator))
    return _product(left[batch].detach(), right[batch].detach(), out[batch], generator)


def _grouped(arguments: Sequence[Any], out: Tensor, generator: torch.Generator) -> Any:
    left, right, offsets = arguments[:3]
    ends = [0, *offsets.tolist()]
    expert = max(range(len(ends) - 1), key=lambda index: ends[index + 1] - ends[index])
    start, end = ends[expert], ends[expert + 1]
    if left.ndim == 2 and right.ndim == 3:
        return _product(left[start:end].detach(), right[expert].detach(), out[start:end], generator)
    if left.ndim == 2:
        return _product(left[:, start:end].detach(), right[start:end].detach(), out[expert], generator)
    return None


_CHOOSE: Mapping[str, Callable[..., Any]] = {
    "mm": _mm, "linear": _linear, "addmm": _addmm, "bmm": _bmm, "_grouped_mm": _grouped,
}  # fmt: skip
