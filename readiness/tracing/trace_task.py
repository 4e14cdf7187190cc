"""Task of `readiness trace` in a separate process: build and record a model."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from readiness.errors import UsageError
from readiness.host.gc_pause import without_collection
from readiness.tracing import model_config
from readiness.tracing.offline import go_offline


def is_function(model: str) -> bool:
    """True if the text names a function, `module:function`, not a file."""
    return ":" in model and not model.endswith(".json")


def trace(
    model: str, name: str, batch: int, length: int, dtype: str, reduced: bool, note: Callable[[str], None]
) -> dict[str, Any]:
    """Return the packed workload in base 64, and its configuration if it is a reduced one.

    Raises UsageError and BadFileError for a model that cannot be had or does not run.
    """
    go_offline()
    with without_collection():
        import torch

        from readiness.tracing import model_loading, record_workload, workload_schema

    kind = getattr(torch, dtype)
    text = None
    if is_function(model):
        sources = model_loading.of_function(model, length=length, dtype=kind)
        title = f"{name}: {model}"
    else:
        config = model_config.read(Path(model))
        sources, config = model_loading.sources(config, batch=batch, length=length, dtype=kind, place=model, reduced=reduced)
        size = ", reduced" if reduced else ""
        title = f"{name}: {sources.whole.kind}{size}, {dtype}, {sources.whole.lengths[0]} {sources.whole.length}"
        text = json.dumps(config, indent=1) + "\n" if reduced else None
    try:
        packed = workload_schema.dumps(record_workload.record(sources, name=name, title=title, batch=batch, note=note))
    except RecursionError:
        raise UsageError("it is nested too deeply", place=model, remedy="build the model with fewer levels") from None
    return {"workload": base64.b64encode(packed).decode(), "config": text}
