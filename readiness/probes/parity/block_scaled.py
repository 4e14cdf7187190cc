"""Linear layers in 8-bit floats with block scales, as DeepSeek-V3 is trained and published.

Activations and gradients have a scale for every 128 values of a row, weights one for every 128 x 128 block, and the sums
of products leave the matrix unit for float32 every 128 terms (DeepSeek-V3 technical report, arXiv 2412.19437, section
3.3; 14 bits of the unit's own accumulator were measured there to cost 2 % over 4096 terms).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.nn import functional

from readiness.numerics import accumulation_roundoff, unit_roundoff
from readiness.probes.parity.reference_cases import Case, Expected

Tensor = torch.Tensor
#: Values that share a scale, and terms that are summed before they are promoted.
BLOCK = 128


def cases(dtype: torch.dtype, generator: torch.Generator) -> Iterator[Case]:
    """Yield forward, input gradient and weight gradient, each in three ways; then conversions."""
    for name, rows, terms, columns in (("square", 256, 256, 256), ("long sums", 64, 4096, 128), ("one token", 1, 512, 256)):
        x, weight, upstream = (_drawn(*shape, generator) for shape in ((rows, terms), (columns, terms), (rows, columns)))
        yield from _products("forward", name, _by_row(x, dtype), _by_block(weight, dtype))
        yield from _products("gradient of the input", name, _by_row(upstream, dtype), _by_block(weight.t(), dtype))
        if rows % BLOCK == 0:  # the sum runs over the tokens
            yield from _products("gradient of the weight", name, _by_row(upstream.t(), dtype), _by_row(x.t(), dtype))


def conversions(dtype: torch.dtype, generator: torch.Generator) -> Iterator[Case]:
    """Yield conversions of every code to float32, of values between codes (also subnormal), and moves of values."""
    codes = torch.arange(256, dtype=torch.uint8)
    yield Case("cast", "every code", partial(_decoded, codes, dtype), [_exact("values", codes.view(dtype).float())])
    for name, move in _MOVES.items():
        kept = _drawn(40, 96, generator).to(dtype)
        yield Case("move", name, partial(_moved, move, kept), [_exact("values", move(kept.float()))])
    values = _between(dtype, generator)
    for source in (torch.float32, torch.bfloat16):
        given = values.to(source)
        expected = _exact("values", given.to(dtype).float())
        yield Case("cast", f"from {str(source).removeprefix('torch.')}", partial(_converted, given, dtype), [expected])


def _drawn(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw values whose size differs between blocks: a single scale would lose the small ones."""
    sizes = torch.rand(-(-rows // BLOCK), -(-columns // BLOCK), generator=generator).mul(6).sub(3).exp()
    spread = sizes.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[:rows, :columns]
    return torch.randn(rows, columns, generator=generator) * spread


@dataclass(frozen=True, slots=True)
class Scaled:
    """Scaled tensor: values (M, K) in 8 bits with scales (M, K / 128), or (M / 128, K / 128) for square blocks."""

    values: Tensor
    scales: Tensor
    square: bool

    def by_row(self) -> Tensor:
        """Scales (M, K / 128), for either kind of blocks."""
        return self.scales.repeat_interleave(BLOCK, 0) if self.square else self.scales

    def wide(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the values that it represents."""
        return self.values.to(dtype) * self.by_row().to(dtype).repeat_interleave(BLOCK, 1)

    def to(self, device: torch.device) -> Scaled:
        """Return a copy on a device."""
        return Scaled(self.values.to(device), self.scales.to(device), self.square)


def _by_row(values: Tensor, dtype: torch.dtype) -> Scaled:
    blocks = values.reshape(values.shape[0], -1, BLOCK)
    scales = blocks.abs().amax(-1) / torch.finfo(dtype).max
    return Scaled((blocks / scales[..., None]).to(dtype).reshape(values.shape).contiguous(), scales, square=False)


def _by_block(values: Tensor, dtype: torch.dtype) -> Scaled:
    rows, columns = values.shape
    blocks = values.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    scales = blocks.abs().amax((1, 3)) / torch.finfo(dtype).max
    return Scaled((blocks / scales[:, None, :, None]).to(dtype).reshape(rows, columns).contiguous(), scales, square=True)


def _products(what: str, name: str, left: Scaled, right: Scaled) -> Iterator[Case]:
    """Yield left (M, K) times right (N, K) transposed: scaled in the unit, promoted block by block, and in bfloat16."""
    a, b = left.wide(), right.wide()
    reference, sizes = a @ b.t(), a.abs() @ b.abs().t()
    fine = BLOCK**0.5 * accumulation_roundoff(torch.float32) * sizes
    # Each factor is rounded to bfloat16 once more, after its scale: that adds up like noise, block by block at least.
    coarse = fine + 4 * unit_roundoff(torch.bfloat16) / BLOCK**0.5 * sizes
    ways: tuple[tuple[str, Callable[..., Iterator[Tensor]], torch.dtype, Tensor], ...] = (
        ("block_scaled_mm", _block_scaled, torch.float32, fine),
        ("promoted_mm", _promoted, torch.float32, fine),
        ("dequantised_mm", _dequantised, torch.bfloat16, coarse),
    )
    for op, way, out, allowance in ways:
        expected = Expected("result", reference, allowance, out)
        yield Case(op, f"{what}, {name}", partial(way, left, right), [expected])


#: How stacks say that they do not take scales of this kind, or not as they lie; whatever else is raised is no refusal.
_REFUSALS = re.compile(r"scal|support|layout|stride|major|not_supported|invalid_value", re.IGNORECASE)


def _block_scaled(left: Scaled, right: Scaled, device: torch.device) -> Iterator[Tensor]:
    """Compute the product in one call, with scales in any layout that the stack accepts."""
    yield scaled_product(left.to(device), right.to(device), torch.float32)()


def scaled_product(a: Scaled, b: Scaled, out: torch.dtype) -> Callable[[], Tensor]:
    """Return the call that multiplies a (M, K) by b (N, K) transposed, with scales in the first layout that is accepted.

    Raises NotImplementedError where none is.
    """
    scaled_mm = getattr(functional, "scaled_mm", None)
    if scaled_mm is None:
        raise NotImplementedError("not supported: this torch has no scaled_mm with block-wise scales")
    kinds: Any = functional.ScalingType
    recipes = [kinds.BlockWise128x128 if factor.square else kinds.BlockWise1x128 for factor in (a, b)]
    problems: dict[str, None] = {}
    for first, second in product(_layouts(a), _layouts(b)):
        call = partial(
            scaled_mm, a.values, b.values.t(), first, recipes[0], second, recipes[1], output_dtype=out
        )  # fmt: skip
        try:
            call()
        except (RuntimeError, ValueError) as raised:
            if not _REFUSALS.search(str(raised)):
                raise
            problems[" ".join(str(raised).split())[:200]] = None
        else:
            return call
    # The last one is of the layout that got farthest.
    raise NotImplementedError(f"not supported: {next(reversed(problems))}")


def _layouts(factor: Scaled) -> Iterator[Tensor]:
    """Yield the scales as they are, column by column in memory, and so with columns padded to multiples of four.

    Of square blocks also the other way round: a row for each block of the sum, in multiples of four (cuBLASLt, as torch
    2.10 and 2.11 ask for).
    """
    scales = factor.scales
    yield scales
    padding = -scales.shape[1] % 4
    padded = functional.pad(scales, (0, padding))
    yield padded.t().contiguous().t()[:, : scales.shape[1]]
    if factor.square:
        yield padded.t()
    else:
        yield scales.t().contiguous().t()


def _promoted(left: Scaled, right: Scaled, device: torch.device) -> Iterator[Tensor]:
    """Compute 128 terms at a time in the unit, scaled and added up in float32 outside of it."""
    a, b = left.to(device), right.to(device)
    first, second, one = a.by_row(), b.by_row(), torch.ones((), device=device)
    rows = len(a.values)
    values = torch.cat([a.values, a.values[:1].expand(-rows % 16, -1)]) if rows % 16 else a.values  # units take 16
    total = torch.zeros(rows, len(b.values), device=device)
    for block in range(values.shape[1] // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        factors = values[:, part].contiguous(), b.values[:, part].contiguous().t()
        piece = torch._scaled_mm(*factors, one, one, out_dtype=torch.float32)
        total += piece[:rows] * first[:, block, None] * second[None, :, block]
    yield total


def _dequantised(left: Scaled, right: Scaled, device: torch.device) -> Iterator[Tensor]:
    """Convert both factors to bfloat16 by their scales, as if only weights were stored in 8 bits."""
    a, b = (factor.to(device).wide(torch.float32).to(torch.bfloat16) for factor in (left, right))
    yield a @ b.t()


#: What is done to tensors of 8 bits between products; each takes one and gives one.
_MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "clone": torch.clone,
    "transpose": lambda values: values.t().contiguous(),
    "slice": lambda values: values[3:, 1::2].contiguous(),
    "view": lambda values: values.view(-1, 32),
    "cat": lambda values: torch.cat([values, values[:7]]),
    "expand": lambda values: values[:, None].expand(-1, 2, -1).reshape(-1, values.shape[1]),
    "index_select": lambda values: values.index_select(0, torch.arange(39, -1, -3, device=values.device)),
    "chunk": lambda values: torch.chunk(values, 3, 1)[1].contiguous(),
    "copy_": lambda values: torch.zeros_like(values).copy_(values),
}


def _moved(move: Callable[[Tensor], Tensor], values: Tensor, device: torch.device) -> Iterator[Tensor]:
    yield move(values.to(device)).float()


def _decoded(codes: Tensor, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    yield codes.to(device).view(dtype).float()


def _converted(values: Tensor, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    yield values.to(device).to(dtype).float()


def _exact(what: str, reference: Tensor) -> Expected:
    return Expected(what, reference.double(), torch.zeros_like(reference, dtype=torch.float64), torch.float32)


def _between(dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Return finite codes, midpoints between neighbours (rounded to even), and random values among them; both signs."""
    codes = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    finite = torch.unique(codes[torch.isfinite(codes)])
    middles = (finite[1:] + finite[:-1]) / 2
    share = torch.rand(middles.numel(), generator=generator)
    return torch.cat([finite, middles, finite[:-1] + share * (finite[1:] - finite[:-1])])
