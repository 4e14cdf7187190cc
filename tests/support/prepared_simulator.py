"""Importing this takes the seconds that each process with a simulated chip would take: torch, its operators, a chip's kernels.

For a process that is forked from and does nothing else; what is forked from it installs the chip that it wants. The
checklist is discovered in it as well.
"""

from __future__ import annotations

import gc

from readiness.host.garbage import without_collection

with without_collection():
    from readiness.probes.operators import opinfo
    from readiness.simulator import install
    from tests.support import checks

    opinfo.load()
    checks()
    install.register()
gc.collect()
gc.freeze()
