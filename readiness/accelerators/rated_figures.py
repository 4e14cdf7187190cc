"""Rated figures: what a model of accelerator is sold as, with source and date; data, never a limit.

They are looked up by the name that the driver gives. A model without an entry has none: what it reaches is reported, and
nobody knows whether it is what was bought.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("rated_figures.toml")
#: A part of a device has a part of its figures.
_PART = re.compile(r"\bmig\b|\bvgpu\b|\bgrid\b")


@dataclass(frozen=True, slots=True)
class Rated:
    """Rated figures of a model: dense rates by dtype in TFLOP/s, memory in bytes and in 10^9 bytes a second.

    `tfloat32` is a rate of float32 products in TF32. `source` and `date` say where they are from.
    """

    source: str
    date: str
    tflops: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: int | None = None
    memory_gbps: float | None = None

    def rate(self, dtype: str, *, tf32: bool = False) -> float | None:
        """Return the rate of products in TFLOP/s; None if it is not known."""
        return self.tflops.get("tfloat32" if tf32 and dtype == "float32" else dtype)


def of_model(model: str | None) -> Rated | None:
    """Return the rated figures of the model of this name; None if it has no entry."""
    name = (model or "").lower()
    if not name or _PART.search(name):
        return None
    return next((rated for globs, rated in _table() if any(fnmatchcase(name, glob) for glob in globs)), None)


@cache
def _table() -> tuple[tuple[tuple[str, ...], Rated], ...]:
    entries = tomllib.loads(_FILE.read_text(encoding="utf-8"))["chip"]
    return tuple((tuple(entry["models"]), _rated(entry)) for entry in entries)


def _rated(entry: Mapping[str, object]) -> Rated:
    tflops, memory, bandwidth = entry["tflops"], entry.get("memory_gib"), entry.get("memory_gbps")
    assert isinstance(tflops, dict)
    return Rated(
        source=str(entry["source"]),
        date=str(entry["date"]),
        tflops={name: float(rate) for name, rate in tflops.items()},
        memory_bytes=int(memory * 2**30) if isinstance(memory, int | float) else None,
        memory_gbps=float(bandwidth) if isinstance(bandwidth, int | float) else None,
    )
