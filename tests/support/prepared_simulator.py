"""Importing this takes the seconds that each process with a simulated chip would take: torch, its operators, a chip's kernels.

For a process that is forked from and does nothing else; what is forked from it installs the chip that it wants. The
checklist is discovered in it as well.
"""

from __future__ import annotations

from readiness.host.gc_pause import without_collection

with without_collection():
    import torch._dynamo  # noqa: F401 - what compiles, and any optimizer, would take a second and a half to import

    from readiness.simulator import install
    from tests.support import checks, prepared_operators  # noqa: F401 - it comes first where nothing has imported it yet

    checks()
    install.register()
