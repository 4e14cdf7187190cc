"""Description of one operator under test: its name, its claims, and its entries in `op_semantics`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from readiness.numerics import name_of
from readiness.probes.operators import op_semantics


@dataclass(frozen=True, slots=True)
class Entry:
    """Operator or variant of it, as the database describes it (`info` is its OpInfo)."""

    name: str
    base: str
    info: Any

    @property
    def core(self) -> bool:
        """True if language models use it for training and inference."""
        return self.within(op_semantics.CORE)

    def claims(self, dtype: torch.dtype) -> bool:
        """True if PyTorch's CPU forward supports this dtype, which is what a device is compared with."""
        return dtype in self.info.supported_dtypes("cpu")

    def claims_backward(self, dtype: torch.dtype) -> bool:
        """True if PyTorch's CPU backward supports this dtype. The database also lists integers, which have no gradient."""
        differentiable = dtype.is_floating_point or dtype.is_complex
        if self.within(op_semantics.HOST_ONLY_BACKWARD.get(name_of(dtype), frozenset())):
            return False
        return bool(differentiable and self.info.supports_autograd) and dtype in self.info.supported_backward_dtypes("cpu")

    def host_only(self, dtype: torch.dtype) -> str | None:
        """Return why an accelerator does not need it in this dtype, or None."""
        listed = self.within(op_semantics.HOST_ONLY.get(name_of(dtype), frozenset()))
        whole = not (dtype.is_floating_point or dtype.is_complex)
        if listed or (whole and dtype not in self.info.supported_dtypes("cuda")):
            return "PyTorch does not have it on any accelerator in this dtype"
        return None

    def conditioning(self, dtype: torch.dtype) -> float:
        """Return how many times more than rounding explains is forgiven in this dtype; 1 for most operators."""
        table = op_semantics.ILL_CONDITIONED
        usual = table.get(self.name, table.get(self.base, 1.0))
        return max(usual, op_semantics.ILL_CONDITIONED_IF_COMPLEX.get(self.base, 1.0)) if dtype.is_complex else usual

    def within(self, names: frozenset[str]) -> bool:
        """True if a table of `op_semantics` contains this entry."""
        return self.name in names or self.base in names

    @property
    def unjudgeable(self) -> str | None:
        """Reason why it cannot be judged in this dtype, or None."""
        return op_semantics.UNJUDGEABLE.get(self.name)
