"""CPU fallback: operators that a device's software runs on the host, which is right but slow."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

#: "will fall back to run on the CPU" (MPS, Ascend), "Aten Op fallback from XPU to CPU happends", "falling back to CPU".
_FALLBACK_WARNING = re.compile(r"\bfall(s|ing)?[ -]?back\b.{0,80}\b(CPU|host)\b", re.IGNORECASE | re.DOTALL)


def warn_always() -> None:
    """Warn of every operator that falls back to the host, not only of the first, and of nothing else."""
    warnings.simplefilter("ignore")
    torch.set_warn_always(True)


@contextmanager
def watched(report: Callable[[str], None]) -> Iterator[None]:
    """Call `report` for every fallback warning within the block, in any thread.

    All other warnings vanish. PyTorch gives most of its warnings once per process only, unless
    `torch.set_warn_always` is on.
    """

    def record(message: Warning | str, *_: object) -> None:
        text = " ".join(str(message).split())
        if _FALLBACK_WARNING.search(text):
            report(text[:300])

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = record  # type: ignore[assignment]
        yield
