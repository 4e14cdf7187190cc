"""Special values: arithmetic with exactly one right result, on a few elements, without tolerance.

Each feature computes a tensor on the device and is compared bit for bit (NaN being NaN) with what IEEE 754 arithmetic,
or torch's documentation for integers, says. Kinds: `subnormal` (numbers below the smallest normal one are kept),
`subnormal matmul` (also by products of matrices and their gradients),
`propagation` (NaN and infinity arise and survive), `overflow` (too large is infinite, not the largest number),
`precision` (products and sums keep the digits their dtype has), `rounding` (casts round to nearest, ties to even),
`integer` (signs, wrapping, width).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

Tensor = torch.Tensor
#: Large enough that a stack takes its matrix unit for it, not a fallback for tiny sizes.
SIDE = 64


@dataclass(frozen=True, slots=True)
class Feature:
    """Feature of arithmetic: a computation on `inputs` and its only right result, both on the CPU."""

    kind: str
    name: str
    compute: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    answer: Tensor


def features(dtype: torch.dtype) -> Iterator[Feature]:
    """Return all features of this dtype."""
    if not dtype.is_floating_point:
        yield from _integers(dtype)
        return
    yield from _subnormals(dtype)
    yield from _propagation(dtype)
    yield from _overflow(dtype)
    yield from _precision(dtype)
    if dtype.itemsize < 4:
        yield from _rounding(dtype)


def _matrix(dtype: torch.dtype, *entries: tuple[int, int, float], fill: float = 0.0) -> Tensor:
    matrix = torch.full((SIDE, SIDE), fill, dtype=dtype)
    for row, column, value in entries:
        matrix[row, column] = value
    return matrix


def _steps(dtype: torch.dtype, *counts: int) -> Tensor:
    """Return multiples of the smallest subnormal, written as bits, since a host may flush them in arithmetic.

    Exact up to twice the smallest normal number, which is `_normal(dtype)` steps.
    """
    raw = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    sign = torch.iinfo(raw).min
    return torch.tensor([count if count >= 0 else sign - count for count in counts], dtype=raw).view(dtype)


def _normal(dtype: torch.dtype) -> int:
    return round(1 / torch.finfo(dtype).eps)


def _tiny_matrix(dtype: torch.dtype, count: int) -> Tensor:
    """Return zeros except for one entry of so many subnormal steps."""
    flat = _steps(dtype, *([0] * (3 * SIDE + 5)), count, *([0] * (SIDE * SIDE - 3 * SIDE - 6)))
    return flat.reshape(SIDE, SIDE)


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def _gradient_of_left(incoming: Tensor, right: Tensor) -> Tensor:
    """Return the gradient of a left factor: the incoming gradient times the right factor, which is symmetric here."""
    left = torch.zeros_like(incoming).requires_grad_()
    return _gradient(lambda: left @ right, left, incoming)


def _gradient_of_right(incoming: Tensor, left: Tensor) -> Tensor:
    """Return the gradient of a right factor: the left factor, which is symmetric here, times the incoming gradient."""
    right = torch.zeros_like(incoming).requires_grad_()
    return _gradient(lambda: left @ right, right, incoming)


def _gradient(product: Callable[[], Tensor], factor: Tensor, incoming: Tensor) -> Tensor:
    with torch.enable_grad():
        result = product()
    if not result.requires_grad:
        raise NotImplementedError("the product has no gradient")
    (gradient,) = torch.autograd.grad(result, factor, incoming)
    return gradient


def _subnormals(dtype: torch.dtype) -> Iterator[Feature]:
    one = _normal(dtype)
    below, normal, half = _steps(dtype, one // 2, -one // 4, 1), _steps(dtype, one, -one), _steps(dtype, one // 2, -one // 2)
    eye = torch.eye(SIDE, dtype=dtype)
    cases: list[tuple[str, Callable[..., Tensor], tuple[Tensor, ...], Tensor]] = [
        ("survives a copy", lambda x: x.clone(), (below,), below),
        ("as a factor", lambda x: x * 4, (below,), _steps(dtype, 2 * one, -one, 4)),
        ("as a product", lambda x: x * 0.5, (normal,), half),
        ("as a summand", lambda x: x + x, (below,), _steps(dtype, one, -one // 2, 2)),
        ("as a difference", lambda x: x * 1.5 - x, (normal,), half),
    ]
    for name, compute, inputs, answer in cases:
        yield Feature("subnormal", name, compute, inputs, answer)
    factors, answer = (_tiny_matrix(dtype, one // 2), eye * 4), _tiny_matrix(dtype, 2 * one)
    yield Feature("subnormal matmul", "as a factor", _multiply, factors, answer)
    factors, answer = (_tiny_matrix(dtype, one), eye / 2), _tiny_matrix(dtype, one // 2)
    yield Feature("subnormal matmul", "as a product", _multiply, factors, answer)
    # Gradients have kernels of their own, which may flush what those of the forward pass keep.
    factors, answer = (_tiny_matrix(dtype, one // 2), eye * 4), _tiny_matrix(dtype, 2 * one)
    yield Feature("subnormal matmul", "as a gradient of a left factor", _gradient_of_left, factors, answer)
    yield Feature("subnormal matmul", "as a gradient of a right factor", _gradient_of_right, factors, answer)


def _propagation(dtype: torch.dtype) -> Iterator[Feature]:
    inf, nan = math.inf, math.nan

    def row(*values: float) -> Tensor:
        return torch.tensor(values, dtype=dtype)

    poisoned = torch.linspace(-3, 3, 3 * 40, dtype=torch.float64).reshape(3, 40).to(dtype)
    poisoned[1, 17] = nan
    clean = poisoned.double()

    def rowwise(compute: Callable[[Tensor], Tensor]) -> Tensor:
        return compute(clean).to(dtype)

    ones = _matrix(dtype, fill=1.0)
    nan_row = _matrix(dtype)
    nan_row[2] = nan
    cases: list[tuple[str, Callable[..., Tensor], tuple[Tensor, ...], Tensor]] = [
        ("inf - inf", lambda x: x - x, (row(inf, -inf, 1.0),), row(nan, nan, 0.0)),
        ("0 * inf", lambda x, y: x * y, (row(0.0, inf, nan), row(inf, 0.0, 0.0)), row(nan, nan, nan)),
        ("1 / 0", lambda x: 1 / x, (row(0.0, -0.0, inf),), row(inf, -inf, 0.0)),
        ("-0 keeps its sign", lambda x: 1 / (x * 1), (row(-0.0, 0.0),), row(-inf, inf)),
        ("NaN through relu", torch.relu, (row(nan, -1.0, 2.0),), row(nan, 0.0, 2.0)),
        ("NaN through clamp", lambda x: x.clamp(0, 1), (row(nan, -1.0, 2.0),), row(nan, 0.0, 1.0)),
        ("NaN through maximum", torch.maximum, (row(nan, 1.0), row(1.0, nan)), row(nan, nan)),
        ("NaN through amax", lambda x: x.amax(-1), (poisoned,), rowwise(lambda x: x.amax(-1))),
        ("NaN through max", lambda x: x.max(-1).values, (poisoned,), rowwise(lambda x: x.amax(-1))),
        ("NaN through amin", lambda x: x.amin(-1), (poisoned,), rowwise(lambda x: x.amin(-1))),
        ("NaN through sum", lambda x: x.sum(-1).isnan(), (poisoned,), torch.tensor([False, True, False])),
        ("NaN through cumsum", lambda x: x.cumsum(-1).isnan(), (poisoned,), clean.cumsum(-1).isnan()),
        ("NaN through softmax", lambda x: x.softmax(-1).isnan(), (poisoned,), clean.softmax(-1).isnan()),
        ("inf - inf in a matrix product", _multiply, (_matrix(dtype, (2, 0, inf), (2, 40, -inf)), ones), nan_row),
        ("0 * inf in a matrix product", _multiply, (_matrix(dtype, (2, 9, inf)), _matrix(dtype)), nan_row),
        ("NaN in a matrix product", _multiply, (_matrix(dtype, (2, 9, nan)), _matrix(dtype)), nan_row),
        ("isnan and isinf", lambda x: x.isnan() | x.isinf(), (row(nan, -inf, 0.0),), torch.tensor([True, True, False])),
        ("NaN differs from itself", lambda x: x == x, (row(nan, 1.0),), torch.tensor([False, True])),
    ]
    for name, compute, inputs, answer in cases:
        yield Feature("propagation", name, compute, inputs, answer)


def _overflow(dtype: torch.dtype) -> Iterator[Feature]:
    largest = torch.finfo(dtype).max
    edge = torch.tensor([largest, -largest], dtype=dtype)
    infinite = torch.tensor([math.inf, -math.inf], dtype=dtype)
    yield Feature("overflow", "sum", lambda x: x + x, (edge,), infinite)
    yield Feature("overflow", "product", lambda x: x * 2, (edge,), infinite)
    matrix = _matrix(dtype, (1, 0, largest), (1, 33, largest), (4, 2, -largest), (4, 3, -largest))
    answer = _matrix(dtype)
    answer[1], answer[4] = math.inf, -math.inf
    yield Feature("overflow", "matrix product", _multiply, (matrix, _matrix(dtype, fill=1.0)), answer)
    if dtype.itemsize < 4:
        wide = torch.tensor([largest * 1.01, -largest * 1.01, 3.4028234e38], dtype=torch.float32)
        answer = torch.tensor([math.inf, -math.inf, math.inf], dtype=dtype)
        yield Feature("overflow", "cast from float32", lambda x: x.to(dtype), (wide,), answer)


def _precision(dtype: torch.dtype) -> Iterator[Feature]:
    eps = torch.finfo(dtype).eps
    eye = torch.eye(SIDE, dtype=dtype)
    steps = 1 + eps * torch.arange(SIDE * SIDE).reshape(SIDE, SIDE).remainder(min(int(1 / eps), 2**20)).double()
    fine = steps.to(dtype)
    yield Feature("precision", "every digit of a factor counts", _multiply, (fine, eye), fine)
    yield Feature("precision", "every digit of the other factor counts", _multiply, (eye, fine), fine)
    if dtype == torch.float32:
        factor = _matrix(dtype, (0, 0, 1 + 2.0**-12))
        answer = _matrix(dtype, (0, 0, 1 + 2.0**-11))  # the last term, 2**-24, is half an ulp: ties to even
        yield Feature("precision", "(1 + 2**-12) squared", _multiply, (factor, factor), answer)
    ones = torch.ones(4, 4096, dtype=dtype)
    yield Feature("precision", "4096 ones in a product", lambda x: x @ x.mT, (ones,), torch.full((4, 4), 4096, dtype=dtype))
    yield Feature("precision", "4096 ones in a sum", lambda x: x.sum(-1), (ones,), torch.full((4,), 4096, dtype=dtype))


def _rounding(dtype: torch.dtype) -> Iterator[Feature]:
    half = torch.finfo(dtype).eps / 2
    wide = torch.tensor([1 + half, 1 + 3 * half, 1 + half * 1.01, -1 - half, -1 - 3 * half], dtype=torch.float32)
    answer = torch.tensor([1, 1 + 4 * half, 1 + 2 * half, -1, -1 - 4 * half], dtype=dtype)
    yield Feature("rounding", "cast from float32", lambda x: x.to(dtype), (wide,), answer)
    terms = torch.tensor([1.0, 1 + 2 * half, 1.0], dtype=dtype), torch.tensor([half, half, half * 1.5], dtype=dtype)
    answer = torch.tensor([1.0, 1 + 4 * half, 1 + 2 * half], dtype=dtype)
    yield Feature("rounding", "sum", torch.add, terms, answer)


def _integers(dtype: torch.dtype) -> Iterator[Feature]:
    def row(*values: int) -> Tensor:
        return torch.tensor(values, dtype=dtype)

    a, b = row(-7, 7, -7, 7, -8, 0), row(2, -2, -2, 2, 4, -3)
    limits = torch.iinfo(dtype)
    large = 2 ** (8 * dtype.itemsize - 2)
    cases: list[tuple[str, Callable[..., Tensor], tuple[Tensor, ...], Tensor]] = [
        ("floor division", lambda a, b: a // b, (a, b), row(-4, -4, 3, 3, -2, 0)),
        ("truncating division", lambda a, b: torch.div(a, b, rounding_mode="trunc"), (a, b), row(-3, -3, 3, 3, -2, 0)),
        ("remainder has the divisor's sign", torch.remainder, (a, b), row(1, -1, -1, 1, 0, 0)),
        ("fmod has the dividend's sign", torch.fmod, (a, b), row(-1, 1, -1, 1, 0, 0)),
        ("wraps around", lambda x: x + 1, (row(limits.max),), row(limits.min)),
        ("keeps every bit in a sum", lambda x: x + 1, (row(large, -large),), row(large + 1, 1 - large)),
        ("keeps every bit in a product", lambda x: x * 3, (row(large // 4 + 1,),), row(3 * (large // 4 + 1))),
        ("compares every bit", lambda x: x == x[0], (row(large, large + 1),), torch.tensor([True, False])),
        ("largest of all", lambda x: x.amax(), (row(large, large + 1, large - 1),), torch.tensor(large + 1, dtype=dtype)),
        ("shift keeps the sign", lambda x: x >> 1, (row(-8, 8, -1),), row(-4, 4, -1)),
        ("sum", lambda x: x.sum(), (row(large // 4, large // 4, 3),), torch.tensor(2 * (large // 4) + 3)),
    ]
    for name, compute, inputs, answer in cases:
        yield Feature("integer", name, compute, inputs, answer)
