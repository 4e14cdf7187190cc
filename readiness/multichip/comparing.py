"""Difference and digest of tensors: what the results of ranks are compared by."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from readiness.ranks.values import Json


def difference(found: torch.Tensor, expected: torch.Tensor) -> Json:
    """How a result (on the CPU) differs from the right one, with the first wrong element; empty where it does not."""
    if torch.equal(found, expected):
        return {}
    wrong = (found != expected).nonzero().flatten()
    index = int(wrong[0])
    return {
        "wrong": wrong.numel(),
        "index": index,
        "found": found[index].item(),
        "expected": expected[index].item(),
        "digest": digest(found),
    }


def digest(tensor: torch.Tensor) -> str:
    """A short digest of a tensor's bytes."""
    content: Any = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()[:16]
