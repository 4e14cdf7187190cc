"""Error metrics of tensors. Pure: tensors in, numbers out; no device, no limit, no verdict.

Every measure obeys one order. First what cannot be compared: another shape, another dtype, NaN or infinity where the
reference has none or none where it has some: the error is infinite. Then every element by itself, in float64 on the
host; never two maxima against each other, which would let a large wrong element hide behind a larger right one.

The errors of contractions are told in units of a bound. A sum of K rounded products deviates like a random walk, by
about sqrt(K) roundoffs of the accumulator on the sum of magnitudes |A||B|, whatever the order of summation, and then
once more by the rounding of the result. Higham and Mary, "A new approach to probabilistic rounding error analysis",
SIAM J. Sci. Comput. 41 (2019). The guaranteed bound with K in place of sqrt(K) would let TF32 pass for float32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch


def unit_roundoff(dtype: torch.dtype) -> float:
    """Return the unit roundoff of a floating dtype: 2**-24 for float32, 2**-8 for bfloat16."""
    return torch.finfo(dtype).eps / 2


def accumulation_roundoff(dtype: torch.dtype) -> float:
    """Return the unit roundoff of the accumulator expected for results of this dtype: float32, or wider."""
    return min(unit_roundoff(dtype), unit_roundoff(torch.float32))


def underflow(dtype: torch.dtype) -> float:
    """Return the absolute error that numbers below this dtype's normal range may have.

    Half the spacing of subnormals; in dtypes of float32's range and more, where nothing of interest is that small and
    many exponentials flush to zero, the smallest normal number.
    """
    smallest = torch.finfo(dtype).smallest_normal
    return smallest if smallest < 1e-30 else smallest * unit_roundoff(dtype)


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values in float64 (complex128, or int64 for integers) on the CPU, detached from autograd."""
    host = tensor.detach().cpu()
    if host.is_complex():
        return host.to(torch.complex128)
    return host.to(torch.float64 if host.is_floating_point() else torch.int64)


def incompatibility(out: torch.Tensor, reference: torch.Tensor, dtype: torch.dtype | None = None) -> str | None:
    """Return why no element can be compared: shape, dtype (where one is demanded), or NaN and infinities in other places.

    The reference is rounded to the dtype of `out` first, so that an overflow of that dtype is expected as infinity.
    """
    if out.shape != reference.shape:
        return f"shape {tuple(out.shape)} instead of {tuple(reference.shape)}"
    if dtype is not None and out.dtype != dtype:
        return f"dtype {name_of(out.dtype)} instead of {name_of(dtype)}"
    have = on_host(out)
    want = on_host(on_host(reference).to(out.dtype))
    for name, test in (("NaN", torch.isnan), ("+inf", _is_positive_infinity), ("-inf", _is_negative_infinity)):
        wrong = int((test(have) != test(want)).sum())
        if wrong:
            return f"{name} in {int(test(have).sum())} places instead of {int(test(want).sum())}, {wrong} of them wrong"
    return None


def bound_ratio(
    out: torch.Tensor, reference: torch.Tensor, allowance: torch.Tensor, *, dtype: torch.dtype | None = None
) -> float:
    """Return the worst element's error beyond the rounding of the result itself, in units of `allowance`.

    max over elements of (|out - reference| - u |reference| - underflow)+ / allowance, u the roundoff of out's dtype.
    `allowance` is broadcast to the shape of `reference`, in absolute units; where it is zero the result must be as
    exact as its dtype. 0 for a perfect result, infinity for an incompatible one. Integers and booleans have u = 0.
    """
    if incompatibility(out, reference, dtype):
        return math.inf
    have, want = on_host(out), on_host(reference)
    rounding = 0.0
    smallest = 0.0
    if out.is_floating_point():
        rounding = unit_roundoff(out.dtype)
        smallest = underflow(out.dtype)
    # Where the reference is no number there is no size either; those places were compared above.
    size = torch.where(torch.isfinite(want), want.abs(), 0).to(torch.float64)
    excess = (_deviation(have, want).to(torch.float64) - rounding * size - smallest).clamp_min(0)
    if excess.numel() == 0:
        return 0.0
    slack = allowance.detach().cpu().to(torch.float64).expand(excess.shape)
    ratio = torch.where(excess == 0, torch.zeros_like(excess), excess / slack)
    worst = float(ratio.max())
    return math.inf if math.isnan(worst) else worst


def contraction_error(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor, added: torch.Tensor | None = None) -> float:
    """Return the worst element's error of out = a @ b, or added + a @ b, in units of its bound sqrt(K) u (|a| |b|).

    `a` (..., M, K) and `b` (..., K, N) are the very values that were multiplied, and what is added counts as one of the
    products; u is the roundoff of the accumulator that `out`'s dtype should have. Any honest order of summation in
    float32 stays below about 0.5; inputs cut to TF32 reach tens to hundreds, a bfloat16 accumulator hundreds and more.
    """
    left, right = on_host(a), on_host(b)
    terms = left.shape[-1]
    product, sizes = left @ right, left.abs() @ right.abs()
    if added is not None:
        product, sizes = product + on_host(added), sizes + on_host(added).abs()
    return bound_ratio(out, product, math.sqrt(max(terms, 1)) * accumulation_roundoff(out.dtype) * sizes)


def relative_error(out: torch.Tensor, reference: torch.Tensor, *, dtype: torch.dtype | None = None) -> float:
    """Return rms(out - reference) / rms(reference), the error over all elements.

    It sees a common factor and a general loss of precision, both of which a bound on single elements forgives, and
    cannot see one wrong element among many: use it beside `bound_ratio` or `worst_error`. Infinite if incompatible.
    """
    return _by_scale(out, reference, dtype, lambda deviation: float(deviation.square().mean().sqrt()))


def worst_error(out: torch.Tensor, reference: torch.Tensor, *, dtype: torch.dtype | None = None) -> float:
    """Return max|out - reference| / rms(reference), which shows a single wrong element. Infinite if incompatible."""
    return _by_scale(out, reference, dtype, lambda deviation: float(deviation.max()))


def mismatches(out: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the number of different elements; NaN equals NaN, -0 equals 0; infinite for another shape or dtype.

    Floats are compared by their bits: a host that takes subnormals for zero cannot tell them from zero otherwise.
    """
    if out.shape != reference.shape or out.dtype != reference.dtype:
        return math.inf
    have, want = out.detach().cpu().contiguous(), reference.detach().cpu().contiguous()
    if have.is_complex():
        have, want = torch.view_as_real(have), torch.view_as_real(want)
    if not have.is_floating_point():
        return float((have != want).sum())
    raw = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[have.itemsize]
    first, second = have.view(raw), want.view(raw)
    same = (first == second) | (torch.isnan(have) & torch.isnan(want)) | ((first << 1 == 0) & (second << 1 == 0))
    return float((~same).sum())


def fingerprint(*tensors: torch.Tensor) -> str:
    """Return a hash of shapes, dtypes and bits: equal only if every bit is, so -0.0 differs from 0.0."""
    digest = hashlib.sha256()
    for tensor in tensors:
        host = tensor.detach().cpu().contiguous()
        digest.update(f"{name_of(host.dtype)}{tuple(host.shape)}".encode())
        digest.update(host.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def name_of(dtype: torch.dtype) -> str:
    """Return `float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def _is_positive_infinity(tensor: torch.Tensor) -> torch.Tensor:
    return torch.isinf(tensor) if tensor.is_complex() else torch.isposinf(tensor)


def _is_negative_infinity(tensor: torch.Tensor) -> torch.Tensor:
    return torch.isinf(tensor) if tensor.is_complex() else torch.isneginf(tensor)


def _deviation(have: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """Return |have - want| of compatible tensors; 0 if both are the same infinity or both NaN."""
    comparable = torch.isfinite(want) & torch.isfinite(have)
    difference = (have - want).abs()
    # Where only the rounded reference overflows, `have` is infinite as it should be.
    return torch.where(comparable, difference, torch.zeros_like(difference))


def _by_scale(
    out: torch.Tensor,
    reference: torch.Tensor,
    dtype: torch.dtype | None,
    norm: Callable[[torch.Tensor], float],
) -> float:
    """Return a norm of the deviation over the root mean square of the reference's finite elements."""
    if incompatibility(out, reference, dtype):
        return math.inf
    have, want = on_host(out), on_host(reference)
    if have.numel() == 0:
        return 0.0
    deviation = norm(_deviation(have, want).to(torch.float64))
    if deviation == 0:
        return 0.0
    finite = want[torch.isfinite(want)].abs().to(torch.float64)
    scale = float(finite.square().mean().sqrt()) if finite.numel() else 0.0
    return deviation / scale if scale > 0 and math.isfinite(deviation) else math.inf
