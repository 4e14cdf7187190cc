"""What a result is compared by, and what a library's refusal looks like."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from readiness.ranks.values import Json

_UNSUPPORTED = re.compile(
    r"(not|n't) (yet |curren\w+ )?(been )?(support|implement)|unsupported|unconvertible|no backend type"
    r"|invalid scalar type|cannot use reduceop|EI0003",  # the last is HCCL's for an argument that it does not take
    re.IGNORECASE,
)


def is_refusal(problem: Exception) -> bool:
    """Whether the library says that it cannot do this, rather than that it went wrong."""
    return isinstance(problem, NotImplementedError) or bool(_UNSUPPORTED.search(str(problem)))


@dataclass(slots=True)
class Refusal:
    """The reason is empty unless something was refused."""

    reason: str = ""


@contextlib.contextmanager
def refusing() -> Iterator[Refusal]:
    """Turn the error by which a library says that it cannot do this into a reason; let all others through."""
    refusal = Refusal()
    try:
        yield refusal
    except (RuntimeError, TypeError, ValueError) as problem:
        if not is_refusal(problem):
            raise
        refusal.reason = f"{type(problem).__name__}: {problem}"[:200]


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
