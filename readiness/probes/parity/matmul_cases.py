"""Cases of matrix products and reductions, with float64 results and the bound of a correct summation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional

from readiness.numerics import accumulation_roundoff, on_host, unit_roundoff
from readiness.probes.parity.reference_cases import Case, Expected

Tensor = torch.Tensor


def product_cases(dtype: torch.dtype, generator: torch.Generator) -> Iterator[Case]:
    """Yield products of many shapes and layouts: long sums, odd sizes, transposed, sliced and batched inputs.

    The factors are drawn on the CPU in the dtype itself, so that the reference multiplies the very same values.
    """
    if dtype.itemsize == 1:
        yield from _scaled_cases(dtype, generator)
        return

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    def positive(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).add(0.1).to(dtype)

    half = normal(24, 2048)
    plain: list[tuple[str, Tensor, Tensor]] = [
        ("square", normal(64, 64), normal(64, 64)),
        ("odd sizes", normal(33, 1001), normal(1001, 17)),
        ("long sums", normal(96, 4096), normal(4096, 64)),
        ("very long sums", normal(16, 16387), normal(16387, 16)),
        ("long sums of one sign", positive(24, 4096), positive(4096, 24)),
        ("second transposed", normal(48, 1021), normal(40, 1021).mT),
        ("first transposed", normal(1021, 48).mT, normal(1021, 40)),
        ("both transposed", normal(77, 45).mT, normal(31, 77).mT),
        ("sliced, unaligned", normal(40, 259)[1:, 3:], normal(260, 43)[4:, 1:]),
        ("every second column", normal(32, 512)[:, ::2], normal(256, 32)),
        ("matrix times vector", normal(50, 4096), normal(4096, 1)),
        ("batched", normal(5, 37, 129), normal(5, 129, 21)),
        ("batched, one factor shared", normal(3, 20, 260), normal(260, 24).expand(3, 260, 24)),
        ("cancelling", torch.cat([half, -half], 1), normal(2048, 24).repeat(2, 1)),
    ]
    for name, a, b in plain:
        yield _product(name, a, b)
    yield _linear(normal(2, 9, 515), normal(70, 515), normal(70))


def _product(name: str, a: Tensor, b: Tensor) -> Case:
    def compute(device: torch.device) -> Iterator[Tensor]:
        yield _move(a, device) @ _move(b, device)

    reference, allowance = _bound(a, b)
    return Case("matmul", name, compute, [_expected(reference, allowance, a.dtype, scaled=name != "cancelling")])


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Case:
    def compute(device: torch.device) -> Iterator[Tensor]:
        yield functional.linear(x.to(device), weight.to(device), bias.to(device))

    reference, allowance = _bound(x, weight.mT)
    allowance = allowance + accumulation_roundoff(x.dtype) * on_host(bias).abs()
    # A bias that is added to an already rounded product costs one more rounding.
    allowance = allowance + unit_roundoff(x.dtype) * reference.abs()
    return Case("linear", "with bias", compute, [_expected(reference + on_host(bias), allowance, x.dtype)])


def _scaled_cases(dtype: torch.dtype, generator: torch.Generator) -> Iterator[Case]:
    """Yield products of 8-bit floats with one scale per factor, summed wider and returned in bfloat16."""
    for name, rows, terms, columns in (("square", 64, 64, 64), ("long sums", 64, 4096, 64)):
        a = torch.randn(rows, terms, generator=generator).to(dtype)
        b = torch.randn(columns, terms, generator=generator).to(dtype).t()
        reference, allowance = _bound(a, b)
        expected = _expected(reference / 8, allowance / 8, torch.bfloat16)
        yield Case("scaled_mm", name, partial(_scaled_product, a, b), [expected])


def _scaled_product(a: Tensor, b: Tensor, device: torch.device) -> Iterator[Tensor]:
    scales = torch.tensor(0.5).to(device), torch.tensor(0.25).to(device)
    yield torch._scaled_mm(a.to(device), b.mT.to(device).mT, *scales, out_dtype=torch.bfloat16)


def _bound(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    left, right = on_host(a), on_host(b)
    unit = math.sqrt(a.shape[-1]) * accumulation_roundoff(a.dtype)
    return left @ right, unit * (left.abs() @ right.abs())


def _expected(reference: Tensor, allowance: Tensor, dtype: torch.dtype, *, scaled: bool = True) -> Expected:
    return Expected("result", reference, allowance, dtype, scaled=scaled)


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    """Move to the device with the same strides and offset: a plain copy would be contiguous."""
    if tensor.is_contiguous() and tensor.storage_offset() == 0:
        return tensor.to(device)
    storage = torch.as_strided(tensor, (tensor.untyped_storage().nbytes() // tensor.itemsize,), (1,), 0).to(device)
    return storage.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


Reduce = Callable[[Tensor], Tensor]


def reduction_cases(dtype: torch.dtype, generator: torch.Generator) -> Iterator[Case]:
    """Yield sums and other reductions over long, cancelling, offset and strided inputs, in one dtype."""
    for name, x, dim in _reduction_inputs(dtype, generator):
        host = on_host(x)
        terms = host.numel() if dim is None else math.prod(host.shape[axis] for axis in dim)
        axes = tuple(range(host.ndim)) if dim is None else dim
        scaled = name != "cancelling"
        for op, function, reference, allowance in _reductions(host, axes, terms, dtype):
            # Of a few sums that nearly cancel, the error relative to the result says nothing.
            many = scaled and reference.numel() >= 12
            yield _reduction(op, name, x, function, _expected(reference, allowance, dtype, scaled=many))
        if len(axes) == 1:
            running = host.cumsum(axes[0])
            positions = torch.arange(1, terms + 1, dtype=torch.float64).sqrt()
            positions = positions.reshape([-1 if axis == axes[0] % host.ndim else 1 for axis in range(host.ndim)])
            allowance = accumulation_roundoff(dtype) * positions * host.abs().cumsum(axes[0])
            expected = _expected(running, allowance, dtype, scaled=scaled)
            yield _reduction("cumsum", name, x, lambda x, axis=axes[0]: x.cumsum(axis), expected)  # type: ignore[misc]
    yield _poisoned_maximum(dtype, generator)


def _reduction_inputs(
    dtype: torch.dtype, generator: torch.Generator
) -> Iterator[tuple[str, Tensor, tuple[int, ...] | None]]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    half = normal(6, 5000)
    yield "last dimension", normal(33, 1003), (-1,)
    yield "first dimension", normal(4099, 12), (0,)
    yield "two dimensions", normal(19, 31, 67), (0, 2)
    yield "all elements", normal(70, 1001), None
    yield "very long", normal(3, 65537), (-1,)
    yield "transposed", normal(513, 21).mT, (-1,)
    yield "sliced, every second column", normal(22, 2051)[1:, 3::2], (-1,)
    yield "large offset", (normal(8, 4097).float() + 1000).to(dtype), (-1,)
    yield "cancelling", torch.cat([half, -half.flip(1)], 1), (-1,)


def _reductions(
    x: Tensor, axes: tuple[int, ...], terms: int, dtype: torch.dtype
) -> Iterator[tuple[str, Reduce, Tensor, Tensor]]:
    """Yield operator, call, float64 result and allowance, for one input in float64."""
    fine, coarse = accumulation_roundoff(dtype), unit_roundoff(dtype)
    walk = math.sqrt(terms) * fine
    magnitude = x.abs().sum(axes)
    yield "sum", lambda x: x.sum(axes), x.sum(axes), walk * magnitude
    yield "mean", lambda x: x.mean(axes), x.mean(axes), walk * magnitude / terms
    variance = x.var(axes, correction=1)
    # The mean's roundoff shifts every deviation: it costs once the deviation times the magnitude.
    shift = 2 * fine * variance.sqrt() * x.abs().mean(axes)
    yield "var", lambda x: x.var(axes), variance, walk * variance + shift
    top = x.amax(axes)
    rest = (x - x.amax(axes, keepdim=True)).exp()
    total = rest.sum(axes)
    spread = (rest * (x - x.amax(axes, keepdim=True)).abs()).sum(axes) / total
    # Stacks compose it of operators in the input's dtype, each of which rounds: exp's argument, the sum, its logarithm.
    allowance = walk + coarse * (1 + spread + total.log().abs() + top.abs())
    yield "logsumexp", lambda x: x.logsumexp(axes), top + total.log(), allowance
    yield "amax", lambda x: x.amax(axes), top, torch.zeros_like(top)


def _reduction(op: str, name: str, x: Tensor, function: Reduce, expected: Expected) -> Case:
    def compute(device: torch.device) -> Iterator[Tensor]:
        yield function(_move(x, device))

    return Case(op, name, compute, [expected])


def _poisoned_maximum(dtype: torch.dtype, generator: torch.Generator) -> Case:
    x = torch.randn(40, 1025, generator=generator).to(dtype)
    rows = torch.arange(0, 40, 3)
    x[rows, torch.randint(1025, rows.shape, generator=generator)] = math.nan
    reference = on_host(x).amax(-1)
    expected = _expected(reference, torch.zeros_like(reference), dtype)
    return _reduction("amax", "NaN in some rows", x, lambda x: x.amax(-1), expected)
