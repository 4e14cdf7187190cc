"""Large tensors with more elements than 32 bits can index, made of one repeated block with known results.

The block's length is no divisor of a power of two, so that an index that lost its upper bits reads another element. All
comparisons are made in pieces small enough for any index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

#: Elements of a piece at most: what is compared at once, and copied at once.
_PIECE = 2**25
#: Rows of a block and elements of a row, both primes.
ROWS, COLUMNS = 251, 4099
#: The part of a row that can be seen as a square image.
SQUARE = 4096


@dataclass(frozen=True, slots=True)
class Wrong:
    """Number of wrong elements, and the first of them: index, value, expected value."""

    count: int = 0
    index: int = -1
    found: float = math.nan
    expected: float = math.nan

    def __str__(self) -> str:
        """Return a text such as `3 elements, the first at 2147483648: 0.5 instead of 0.25`."""
        return f"{self.count} elements, the first at {self.index}: {self.found:g} instead of {self.expected:g}"


def rows_for(elements: int) -> int:
    """Return the rows of at least `elements` elements: an odd number of blocks, so that no tile divides them."""
    blocks = -(-elements // (ROWS * SQUARE))
    return (blocks | 1) * ROWS


def repeated(block: torch.Tensor, rows: int) -> torch.Tensor:
    """Repeat `block` (ROWS, ...) to `rows` rows on its own device."""
    whole = torch.empty(rows, *block.shape[1:], dtype=block.dtype, device=block.device)
    for first in range(0, rows, len(block)):
        whole[first : first + len(block)].copy_(block[: rows - first])
    return whole


def against(whole: torch.Tensor, block: torch.Tensor, tolerance: float = 0.0) -> Wrong:
    """Compare every element of `whole` (rows, ...) with `block` (ROWS, ...), which it must repeat.

    One is wrong that is no number where it should be one, or farther off than `tolerance` times the larger of what it
    should be and the block's root mean square. Both on one device; 0 asks for equality.
    """
    size = float(block.float().square().mean().sqrt()) if tolerance else 0.0
    allowed = tolerance * block.float().abs().clamp_min(size) if tolerance else None
    count, first = 0, Wrong()
    for start, stop in _pieces(len(whole), block):
        piece = whole[start:stop].view(-1, *block.shape)
        wrong = piece != block if allowed is None else ~((piece.float() - block.float()).abs() <= allowed)
        here = int(wrong.sum())
        if here and not count:
            flat = int(wrong.reshape(-1).to(torch.uint8).argmax())
            width = block.numel() // len(block)
            found, expected = piece.reshape(-1)[flat], block.reshape(-1)[flat % block.numel()]
            first = Wrong(here, start * width + flat, float(found), float(expected))
        count += here
    return Wrong(count, first.index, first.found, first.expected)


def _pieces(rows: int, block: torch.Tensor) -> Iterator[tuple[int, int]]:
    """Yield starts and stops of pieces of whole blocks."""
    step = max(1, _PIECE // max(block.numel(), 1)) * len(block)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
