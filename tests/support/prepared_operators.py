"""Importing this takes the seconds that each process with torch's operators would take, and keeps what that left behind.

For a process that is forked from and has done nothing else yet.
"""

from __future__ import annotations

import os

from readiness.host.gc_pause import without_collection

with without_collection():
    import torch

    from readiness.probes.operators import opinfo

    _given = os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    opinfo.load()
    #: What loading the database has left behind in an interpreter in which nothing else has happened: flags that can no longer
    #: be set, and a variable that PyTorch sets.
    FLAGS_FROZEN = torch.backends.flags_frozen()  # type: ignore[no-untyped-call]
    CACHE_FOLDER_SET = "TORCHINDUCTOR_CACHE_DIR" in os.environ
    if _given is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = _given
