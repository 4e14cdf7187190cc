"""Python's collection of garbage, where it costs time and finds nothing: while modules and large files are read."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Turn garbage collection off while much is created that stays.

    For a file of millions of values it would double the time; for an import of torch with its compiler it is a fifth.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
