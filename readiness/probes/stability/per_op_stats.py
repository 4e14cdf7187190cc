"""Statistics of one operation under load."""

from __future__ import annotations

from dataclasses import dataclass

import torch

Tensor = torch.Tensor


@dataclass(slots=True)
class OpStats:
    """Statistics of one operation: calls, wrong results with the first of them, and errors."""

    name: str
    dtype: str
    phase: str
    calls: int = 0
    wrong: int = 0
    first_wrong_s: float = 0.0
    first_wrong_call: int = 0
    errors: int = 0
    error: str = ""
    refusal: str | None = None
    repeatable: bool = True
    first_error: float | None = None
    expected_results: tuple[Tensor, ...] = ()

    def describe(self) -> str:
        """Describe as text how often it differed."""
        first = f"first in call {self.first_wrong_call} after {self.first_wrong_s:.1f} s"
        return f"{self.name}: {self.wrong} of {self.calls} calls differed, {first}"
