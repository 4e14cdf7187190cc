"""Importing this takes the seconds that each process with a simulated chip would take: torch, its operators, a chip's kernels.

For a process that is forked from and does nothing else; what is forked from it installs the chip that it wants. The
checklist is discovered in it as well.
"""

from __future__ import annotations

import gc
import os

from readiness.host.gc_pause import without_collection

with without_collection():
    import torch
    import torch._dynamo  # what compiles, and any optimizer, would take a second and a half to import

    from readiness.probes.operators import opinfo
    from readiness.simulator import install
    from tests.support import checks

    _given = os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    opinfo.load()
    #: What loading the database has left behind in an interpreter in which nothing else has happened: flags that can no longer
    #: be set, and a variable that PyTorch sets.
    FLAGS_FROZEN = torch.backends.flags_frozen()  # type: ignore[no-untyped-call]
    CACHE_FOLDER_SET = "TORCHINDUCTOR_CACHE_DIR" in os.environ
    if _given is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = _given
    checks()
    install.register()
gc.collect()
gc.freeze()
