"""A fit as text for people, and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from readiness.datamodel import Use
from readiness.memory_fit.estimate import Estimate, Training
from readiness.memory_fit.plan import Fit, Report

_GIB = 2**30
_USE = {Use.TRAINING: "training", Use.INFERENCE: "serving"}


def text(report: Report) -> str:
    """Return the report for a terminal: for each use whether it fits, what is needed, and how it was reckoned."""
    settings = report.settings
    lines = [
        f"{report.subject}: {report.title}, {report.model.parameters:,} parameters; chips of "
        f"{report.memory_bytes / _GIB:.4g} GiB, of which {settings.usable_share:.0%} can be used: "
        f"{report.memory_bytes * settings.usable_share / _GIB:.4g} GiB",
    ]
    for fit in report.fits.values():
        lines += ["", *_fit(fit)]
    return "\n".join(lines)


def _fit(fit: Fit) -> Iterator[str]:
    estimate, how = fit.estimate, fit.how
    verdict = "fits" if fit.fits else "does not fit"
    chips = "1 chip" if fit.chips == 1 else f"{fit.chips:,} chips"
    yield (
        f"{_USE[fit.use]} on {chips} ({estimate.layout}): {verdict}, {estimate.bytes / _GIB:.4g} of "
        f"{fit.usable_bytes / _GIB:.4g} GiB on the chip that needs most"
    )
    width = max(len(term.name) for term in estimate.terms)
    for term in estimate.terms:
        yield f"  {term.name:<{width}} {term.bytes / _GIB:>10,.3f} GiB = {term.formula}"
    yield from (f"  {note}" for note in estimate.notes)
    if fit.other is not None and isinstance(how, Training):
        fits = "fits" if fit.other.bytes <= fit.usable_bytes else "does not fit"
        yield f"  {'without' if how.recompute else 'with'} recomputation: {_sum(fit.other)}, {fits}"
    if fit.fewest is None:
        yield "  no number of chips is enough in such a layout"
    else:
        layout = fit.fewest.estimate.layout
        yield f"  fewest chips: {fit.fewest.chips:,} ({layout}), {fit.fewest.estimate.bytes / _GIB:.4g} GiB on each"
    if fit.longest is None:
        if fit.largest_batch is not None:
            yield f"  largest batch of a replica: {fit.largest_batch:,}"
        return
    assert fit.largest_batch is not None
    what = "sequences" if isinstance(how, Training) else "conversations"
    replicas = f", on {estimate.layout.data} replicas {fit.largest_batch * estimate.layout.data:,}"
    yield (
        f"  largest batch of a replica: {fit.largest_batch:,} {what} of {how.length:,} tokens"
        f"{replicas if estimate.layout.data > 1 else ''}"
    )
    trained = "" if fit.positions is None or fit.longest <= fit.positions else f"; the model has {fit.positions:,} positions"
    yield f"  longest sequence, one at a time: {fit.longest:,} tokens{trained}"


def _sum(estimate: Estimate) -> str:
    parts = " + ".join(f"{term.bytes / _GIB:.3f}" for term in estimate.terms)
    return f"{parts} = {estimate.bytes / _GIB:.4g} GiB"


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as a document of the schema `fit`."""
    architecture = report.model.architecture
    return {
        "schema": "readiness.fit/1",
        "subject": report.subject,
        "workload": report.model.name,
        "parameters": report.model.parameters,
        "layers": None if architecture is None else architecture.layers,
        "memory_bytes": report.memory_bytes,
        "usable_bytes": round(report.memory_bytes * report.settings.usable_share),
        "uses": {use.value: _use_to_json(fit) for use, fit in report.fits.items()},
    }


def _use_to_json(fit: Fit) -> dict[str, Any]:
    found: dict[str, Any] = {
        "fits": fit.fits,
        "chips": fit.chips,
        "dtype": fit.how.dtype,
        "batch": fit.how.batch,
        "length": fit.how.length,
        **_estimate_to_json(fit.estimate),
        "fewest_chips": None if fit.fewest is None else fit.fewest.chips,
        "largest_batch": fit.largest_batch,
        "longest": fit.longest,
        "positions": fit.positions,
    }
    if isinstance(fit.how, Training):
        found |= {"optimizer": fit.how.optimizer.value, "recompute": fit.how.recompute}
        found["otherwise"] = None if fit.other is None else _estimate_to_json(fit.other)
    else:
        found["cache_dtype"] = fit.how.cache_dtype
    return found


def _estimate_to_json(estimate: Estimate) -> dict[str, Any]:
    layout = estimate.layout
    return {
        "layout": {
            "tensor": layout.tensor, "pipeline": layout.pipeline, "expert": layout.expert, "data": layout.data,
            "sharding": layout.sharding.value,
        },
        "bytes": round(estimate.bytes),
        "terms": [
            {"name": term.name, "bytes": round(term.bytes), "formula": term.formula} for term in estimate.terms
        ],
        "notes": list(estimate.notes),
    }  # fmt: skip
