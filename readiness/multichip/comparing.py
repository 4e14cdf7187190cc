"""Comparison of results with the right ones, digests of tensors, and a library's refusal as a reason."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from readiness.ranks.reports import Report

_UNSUPPORTED = re.compile(
    r"(not|n't) (yet |curren\w+ )?(been )?(support|implement)|unsupported|unconvertible|no backend type"
    r"|invalid scalar type|cannot use reduceop|EI0003",  # the last is HCCL's for an argument that it does not take
    re.IGNORECASE,
)


def is_refusal(problem: Exception) -> bool:
    """True if the library says that it cannot do this, rather than that it went wrong."""
    return isinstance(problem, NotImplementedError) or bool(_UNSUPPORTED.search(str(problem)))


@dataclass(slots=True)
class Refusal:
    """Reason of a refusal, empty unless something was refused."""

    reason: str = ""


@contextlib.contextmanager
def unsupported_as_reason() -> Iterator[Refusal]:
    """Turn the error by which a library says that it cannot do this into a reason; let all others through."""
    refusal = Refusal()
    try:
        yield refusal
    except (RuntimeError, TypeError, ValueError) as problem:
        if not is_refusal(problem):
            raise
        refusal.reason = f"{type(problem).__name__}: {problem}"[:200]


@dataclass(frozen=True, slots=True)
class Unsupported(Report):
    """Report of something that the library does not have."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """Difference of a result from the right one: how many elements are wrong, the first of them, a digest of the result."""

    wrong: int
    index: int
    found: int | float
    expected: int | float
    digest: str


def difference(found: torch.Tensor, expected: torch.Tensor) -> TensorDiff | None:
    """Compare a result (on the CPU) with the right one, element by element; None where they are equal."""
    if torch.equal(found, expected):
        return None
    wrong = (found != expected).nonzero().flatten()
    index = int(wrong[0])
    return TensorDiff(wrong.numel(), index, found[index].item(), expected[index].item(), digest(found))


def digest(tensor: torch.Tensor) -> str:
    """A short digest of a tensor's bytes."""
    content: Any = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()[:16]
