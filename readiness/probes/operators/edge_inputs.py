"""Inputs of calls that are made here, beside the database's own samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from readiness.probes.operators.seeded_selection import USUAL, Rotation

#: One over a multiple of 128, and so of 64, 16 and 8; and one under one of 16.
EDGE, BELOW = 129, 15
#: More than 32,768, 57,344 and 65,536.
ROWS = 65_537
#: What is special about calls that are made in several modules.
MIDDLE, MANY = "on {} elements", f"on {ROWS} rows"
WIDTHS = "on rows of {} values"
#: Positional arguments, and keyword arguments as a dictionary at their end.
Calls = Iterator[tuple[str, tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class EdgeSample:
    """Sample description like those of the database: all results are comparable."""

    def output_process_fn_grad(self, result: Any) -> Any:
        """Return the output unchanged."""
        return result


@dataclass(frozen=True, slots=True)
class InputFactory:
    """Creates the inputs of one operator in one dtype."""

    dtype: torch.dtype
    gradients: bool
    rotation: Rotation = USUAL

    def numbers(self, *shape: int) -> torch.Tensor:
        """Return standard normal values, or integers from -9 to 9, or booleans."""
        if self.dtype.is_floating_point:
            return torch.randn(shape).to(self.dtype).requires_grad_(self.gradients)
        if self.dtype.is_complex:
            return torch.randn(shape, dtype=torch.complex64).to(self.dtype).requires_grad_(self.gradients)
        if self.dtype is torch.bool:
            return torch.randint(0, 2, shape).to(torch.bool)
        return torch.randint(-9, 10, shape).to(self.dtype)

    def positive(self, *shape: int) -> torch.Tensor:
        """Return values from a half to one and a half, or integers from 1 to 9."""
        if self.dtype.is_floating_point:
            return (torch.rand(shape) + 0.5).to(self.dtype).requires_grad_(self.gradients)
        if self.dtype.is_complex:
            turned = torch.complex(torch.rand(shape) + 0.5, torch.rand(shape) - 0.5)
            return turned.to(self.dtype).requires_grad_(self.gradients)
        return torch.randint(1, 10, shape).to(self.dtype)

    def bits(self, *shape: int) -> torch.Tensor:
        """Return integers with random bits."""
        info = torch.iinfo(self.dtype)
        return torch.randint(max(info.min, -(2**62)), min(info.max, 2**62), shape).to(self.dtype)

    def extremes(self, *shape: int) -> torch.Tensor:
        """Return integers that fewer bits, float32 or float64 cannot hold."""
        info = torch.iinfo(self.dtype)
        wanted = (info.max, info.min, info.max - 1, info.min + 1, 2**24 + 1, 2**31, 2**31 + 1, 2**53 + 1, -(2**24) - 1,
                  -(2**53) - 1, 2**15 + 1, 257, 200, 0, 1, -1)  # fmt: skip
        held = torch.tensor([number for number in wanted if info.min <= number <= info.max], dtype=self.dtype)
        return held[torch.randint(0, len(held), shape)]

    def indices(self, count: int, *shape: int) -> torch.Tensor:
        """Return indices below `count`."""
        return torch.randint(0, count, shape)
