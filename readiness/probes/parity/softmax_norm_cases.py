"""Cases of row-wise operators: softmax, log_softmax, layer_norm and rms_norm, forward and backward.

The allowances follow each formula's own sensitivity: what one roundoff in its inputs and intermediates does to each
element. `fine` is the roundoff of the float32 in which a row is expected to be worked out, `coarse` that of the dtype
itself, in which stacks keep what the backward pass needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Row, Yield
from readiness.numerics import accumulation_roundoff, name_of, on_host, underflow, unit_roundoff
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.parity.reference_cases import BACKWARD, PARAMETERS, Case, Expected

Tensor = torch.Tensor
EPSILON = 1e-6


def softmax_cases(dtype: torch.dtype, generator: torch.Generator) -> Iterator[Case]:
    """Yield softmax and log_softmax over long, offset, strided and partly masked rows."""

    def normal(*shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale + offset).to(dtype)

    masked = normal(16, 515, scale=2)
    masked[torch.rand(16, 515, generator=generator) < 0.6] = -math.inf
    masked[:, 7] = 0.5  # no row is masked entirely: what to give there is a matter of taste, and asked elsewhere
    inputs = [
        ("long rows", normal(12, 4099, scale=3), -1),
        ("rows far from zero", normal(12, 1027, scale=4, offset=300), -1),
        ("rows far below zero", normal(12, 260, scale=4, offset=-300), -1),
        ("first dimension", normal(131, 33, scale=3), 0),
        ("peaked rows", normal(16, 130, scale=30), -1),
        ("partly masked rows", masked, -1),
    ]
    for name, x, axis in inputs:
        cotangent = torch.randn(x.shape, generator=generator).to(dtype)
        yield _softmax(name, x, axis, cotangent)
        yield _log_softmax(name, x, axis, cotangent)


def _softmax(name: str, x: Tensor, axis: int, cotangent: Tensor) -> Case:
    fine, coarse = accumulation_roundoff(x.dtype), unit_roundoff(x.dtype)
    host, g, walk = on_host(x), on_host(cotangent), math.sqrt(x.shape[axis])
    away = (host - host.amax(axis, keepdim=True)).nan_to_num(neginf=0.0).abs()
    y = host.softmax(axis)
    inner, magnitude = (y * g).sum(axis, keepdim=True), (y * g.abs()).sum(axis, keepdim=True)
    # Relative error of y: the sum's random walk, the argument's roundoff through exp, and one more rounding.
    relative = fine * (walk + away) + coarse
    tiny = underflow(x.dtype)  # exp or what is kept of y may be subnormal
    spread = y * ((relative * y + tiny) * g.abs()).sum(axis, keepdim=True)
    backward = (relative * y + tiny) * (g.abs() + magnitude) + spread
    return _differentiable(
        "softmax", name, lambda x: x.softmax(axis), [x], cotangent, (y, relative * y + tiny), [(y * (g - inner), backward)]
    )


def _log_softmax(name: str, x: Tensor, axis: int, cotangent: Tensor) -> Case:
    fine, coarse = accumulation_roundoff(x.dtype), unit_roundoff(x.dtype)
    host, g, walk = on_host(x), on_host(cotangent), math.sqrt(x.shape[axis])
    # A cotangent where the result is -inf would meet exp(-inf) = 0; the loss never sends one there.
    g = torch.where(torch.isinf(host), 0, g)
    y, log_y = host.softmax(axis), host.log_softmax(axis)
    size = log_y.nan_to_num(neginf=0.0).abs()
    total = (host - host.amax(axis, keepdim=True)).exp().sum(axis, keepdim=True)
    # The row's sum, 1 and more, may be rounded to the dtype before its logarithm is taken.
    forward = fine * (walk + size + 2 * total.log().abs()) + coarse * (1 + size)
    gathered = g.abs().sum(axis, keepdim=True)
    backward = coarse * (g.abs() + y * (1 + size) * gathered) + walk * fine * y * gathered
    gradient = g - y * g.sum(axis, keepdim=True)
    return _differentiable(
        "log_softmax", name, lambda x: x.log_softmax(axis), [x], g.to(x.dtype), (log_y, forward), [(gradient, backward)]
    )


def norm_cases(dtype: torch.dtype, generator: torch.Generator) -> Iterator[Case]:
    """Yield layer_norm and rms_norm over long, many, offset and differently scaled rows."""

    def normal(*shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale + offset).to(dtype)

    sizes = torch.logspace(-2, 3, 24).unsqueeze(1)
    inputs = [
        ("long rows", normal(10, 4099)),
        ("many rows", normal(600, 72, scale=3)),
        ("rows far from zero", normal(12, 1027, offset=40)),
        ("rows of very different size", (torch.randn(24, 514, generator=generator) * sizes).to(dtype)),
        ("three dimensions", normal(3, 11, 256)),
    ]
    for name, x in inputs:
        width = x.shape[-1]
        weight, bias = normal(width, scale=0.5, offset=1), normal(width)
        cotangent = normal(*x.shape)
        yield _layer_norm(name, x, weight, bias, cotangent)
        yield _rms_norm(name, x, weight, cotangent)


def _layer_norm(name: str, x: Tensor, weight: Tensor, bias: Tensor, cotangent: Tensor) -> Case:
    fine, coarse = accumulation_roundoff(x.dtype), unit_roundoff(x.dtype)
    host, w, b, g = map(on_host, (x, weight, bias, cotangent))
    walk = math.sqrt(x.shape[-1])
    sigma = (host.var(-1, correction=0, keepdim=True) + EPSILON).sqrt()
    z = (host - host.mean(-1, keepdim=True)) / sigma
    offset = host.abs().mean(-1, keepdim=True) / sigma  # what a roundoff of the mean does to z
    y = z * w + b
    rounded = coarse * ((z * w).abs() + b.abs())
    forward = rounded + fine * (walk * (z * w).abs() + 4 * offset * w.abs())
    gw, gz = g * w, g * w * z
    gradient = (gw - gw.mean(-1, keepdim=True) - z * gz.mean(-1, keepdim=True)) / sigma
    mean_gw, mean_gz = gw.abs().mean(-1, keepdim=True), gz.abs().mean(-1, keepdim=True)
    size = gw.abs() + mean_gw + z.abs() * mean_gz
    shifted = offset * (mean_gz + z.abs() * mean_gw)
    backward = ((coarse + walk * fine) * size + coarse * shifted) / sigma
    lead = tuple(range(x.ndim - 1))
    # Each product may be rounded once; adding them up in float32 costs next to nothing.
    count = math.sqrt(x.numel() / x.shape[-1]) * fine
    shifted_z = z.abs() + 4 * offset
    to_weight = count * (g * z).abs().sum(lead) + coarse * (g.square() * shifted_z.square()).sum(lead).sqrt()
    to_bias = count * g.abs().sum(lead) + coarse * g.square().sum(lead).sqrt()
    gradients = [(gradient, backward), ((g * z).sum(lead), to_weight), (g.sum(lead), to_bias)]
    return _differentiable(
        "layer_norm",
        name,
        lambda x, weight, bias: functional.layer_norm(x, x.shape[-1:], weight, bias, EPSILON),
        [x, weight, bias],
        cotangent,
        (y, forward),
        gradients,
    )


def _rms_norm(name: str, x: Tensor, weight: Tensor, cotangent: Tensor) -> Case:
    fine, coarse = accumulation_roundoff(x.dtype), unit_roundoff(x.dtype)
    host, w, g = map(on_host, (x, weight, cotangent))
    walk = math.sqrt(x.shape[-1])
    size = (host.square().mean(-1, keepdim=True) + EPSILON).sqrt()
    z = host / size
    forward = (coarse + walk * fine) * (z * w).abs()
    gw, gz = g * w, g * w * z
    gradient = (gw - z * gz.mean(-1, keepdim=True)) / size
    backward = (coarse + walk * fine) * (gw.abs() + z.abs() * gz.abs().mean(-1, keepdim=True)) / size
    lead = tuple(range(x.ndim - 1))
    count = math.sqrt(x.numel() / x.shape[-1]) * fine
    to_weight = count * (g * z).abs().sum(lead) + coarse * (g * z).square().sum(lead).sqrt()
    return _differentiable(
        "rms_norm",
        name,
        lambda x, weight: functional.rms_norm(x, x.shape[-1:], weight, EPSILON),
        [x, weight],
        cotangent,
        (z * w, forward),
        [(gradient, backward), ((g * z).sum(lead), to_weight)],
    )


def _differentiable(
    op: str,
    name: str,
    function: Callable[..., Tensor],
    inputs: list[Tensor],
    cotangent: Tensor,
    result: tuple[Tensor, Tensor],
    gradients: list[tuple[Tensor, Tensor]],
) -> Case:
    """Return a case of a forward result and the gradients of its inputs, each with its allowance."""
    dtype = cotangent.dtype

    def compute(device: torch.device) -> Iterator[Tensor]:
        leaves = [tensor.to(device, copy=True).requires_grad_() for tensor in inputs]
        out = function(*leaves)
        yield out
        yield from torch.autograd.grad(out, leaves, cotangent.to(device))

    names = ["gradient of the input", "gradient of the weight", "gradient of the bias"]
    expected = [Expected("result", *result, dtype)]
    expected += [
        Expected(what, reference, allowance, dtype, phase=PARAMETERS if what != names[0] else BACKWARD)
        for what, (reference, allowance) in zip(names, gradients, strict=False)
    ]
    return Case(op, name, compute, expected)


def masked_row_violations(accelerator: Accelerator, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Yield]:
    """Count softmax rows of only -inf that give neither NaN (by the formula) nor 0."""
    x = torch.randn(12, 67, generator=generator).to(dtype)
    masked = torch.arange(12) % 3 == 0
    x[masked] = -math.inf
    with unsupported_as_reason() as refusal:
        out = x.to(accelerator.device).softmax(-1).cpu()
    if refusal.reason is None:
        wrong = torch.where(masked.unsqueeze(1), ~(out.isnan() | (out == 0)), ~out.isfinite())
        labels = {"dtype": name_of(dtype)}
        yield Row({"op": "softmax", "case": "rows masked entirely", "wrong": int(wrong.sum()), **labels})
        yield Measurement("masked_row_violations", int(wrong.sum()), labels, samples=wrong.numel())
