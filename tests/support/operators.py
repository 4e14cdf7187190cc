"""What tests of the sweep share: a short sweep, and a kernel to plant defects in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from readiness.datamodel import Evidence
from readiness.probes.operators.summary import KNOWN_DEFECT
from tests.support import run_check

ONLY = ("add", "nn.functional.gelu", "mul", "nn.functional.softplus")


def sweep(*only: str, dtypes: tuple[str, ...] = ("float32",), **settings: Any) -> Evidence:
    """The evidence of a sweep of a few operators in one process."""
    return run_check("operators.sweep", only=only or ONLY, dtypes=dtypes, processes=1, **settings)


def findings(evidence: Evidence) -> list[dict[str, Any]]:
    """The rows about operators, without summaries and known defects of PyTorch's own."""
    return [dict(row) for row in evidence.rows if row.get("outcome", "summary") not in ("summary", KNOWN_DEFECT)]


def outcomes(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Outcome and phase of each operator that is neither native nor decomposed; known defects of PyTorch's own aside."""
    return {row["operator"]: (row["outcome"], row["phase"]) for row in findings(evidence)}


def detail(evidence: Evidence, operator: str) -> str:
    """What the row of an operator says."""
    return next(str(row["detail"]) for row in findings(evidence) if row["operator"] == operator)


def about(evidence: Evidence, name: str) -> str | None:
    """What the one measurement of this name is about."""
    return next(measurement.about for measurement in evidence.measurements if measurement.name == name)


def gelu(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """Gelu by other kernels than its own."""
    return x * 0.5 * (1 + torch.erf(x * 0.5**0.5))


def gelu_gradient(gradient: torch.Tensor, x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """Its gradient, likewise."""
    density = torch.exp(-x * x / 2) * (2 * torch.pi) ** -0.5
    normal: torch.Tensor = 0.5 * (1 + torch.erf(x * 0.5**0.5)) + x * density
    return gradient * normal


def only_float32(wrong: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A kernel that is wrong in float32 alone, so that the reference stays right."""
    return lambda x, approximate="none": wrong(gelu(x)) if x.dtype == torch.float32 else gelu(x)
