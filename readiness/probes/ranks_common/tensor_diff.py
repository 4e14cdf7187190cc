"""Differences of tensors from the right ones, their digests, and the report of unsupported operations."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from readiness.distributed.rank_messages import Report


@dataclass(frozen=True, slots=True)
class Unsupported(Report):
    """Report: the library does not support something."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """Difference of a result from the right one: number of wrong elements, the first of them, digest of the result."""

    wrong: int
    index: int
    found: int | float
    expected: int | float
    digest: str


def difference(found: torch.Tensor, expected: torch.Tensor) -> TensorDiff | None:
    """Compare a result (on the CPU) with the right one element by element; return None if they are equal."""
    if torch.equal(found, expected):
        return None
    wrong = (found != expected).nonzero().flatten()
    index = int(wrong[0])
    return TensorDiff(wrong.numel(), index, found[index].item(), expected[index].item(), digest(found))


def digest(tensor: torch.Tensor) -> str:
    """Return a short digest of a tensor's bytes."""
    content: Any = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()[:16]
