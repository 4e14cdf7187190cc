"""Importing this takes the seconds that each process with a simulated chip would take: torch, its operators, a chip's kernels.

For a process that is forked from and does nothing else; what is forked from it installs the chip that it wants. The
checklist is discovered in it as well.
"""

from __future__ import annotations

import importlib
import os

from readiness.host.gc_pause import without_collection

with without_collection():
    from readiness.simulator import install
    from tests.support import checks, prepared_operators  # noqa: F401 - it comes first where nothing has imported it yet

    _given = os.environ.get("TORCHINDUCTOR_CACHE_DIR")  # which this sets
    importlib.import_module("torch._inductor.compile_fx")  # each process that compiles would take a second and a half for it
    if _given is None:
        os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    checks()
    install.register()
