"""Memory that a model needs against the device's. Only workers import this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Row, Use
from readiness.memory_fit import plan
from readiness.memory_fit.plan import Fit
from readiness.tracing import workload_schema

_GIB = 2**30


def of_device(accelerator: Accelerator) -> int | None:
    """Return the device's memory in bytes as its stack reports it; None if it does not."""
    reading = accelerator.memory()
    return reading[1] if reading is not None else accelerator.facts.memory_bytes


def fits(workload: str, settings: Mapping[str, Any], memory_bytes: int) -> list[Fit]:
    """Return the fit for each use."""
    loaded = workload_schema.load(workload_schema.find(workload))
    found = plan.report(workload, loaded, plan.Settings.of(settings), memory_bytes, tuple(Use), "settings of model.fit")
    return list(found.fits.values())


def rows(fit: Fit) -> Iterator[Row]:
    """Yield a row for each part of the memory, with its arithmetic."""
    for term in fit.estimate.terms:
        yield Row({"use": fit.use.value, "part": term.name, "bytes": round(term.bytes), "arithmetic": term.formula})
    if fit.other is not None:
        switched = "without" if getattr(fit.how, "recompute", False) else "with"
        yield Row({"use": fit.use.value, "part": f"in all {switched} recomputation", "bytes": round(fit.other.bytes)})


def summary(fit: Fit) -> str:
    """Return in words how much is needed where, and what the largest part is."""
    estimate = fit.estimate
    largest = max(estimate.terms, key=lambda term: term.bytes)
    return (
        f"{fit.use.value} on {fit.chips} chips ({estimate.layout}): {estimate.bytes / _GIB:.4g} GiB on a chip, of "
        f"{fit.usable_bytes / _GIB:.4g} usable; {largest.name} {largest.bytes / _GIB:.4g} GiB"
    )
