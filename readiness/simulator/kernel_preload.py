"""Import it to register the kernels of simulated chips once, for all processes that are forked later and install a chip.

It takes as long as a short check. Where PyTorch takes no devices written in Python, nothing is done: who installs a chip
is told then.
"""

from __future__ import annotations

import contextlib

from readiness.simulator import install

with contextlib.suppress(install.UnavailableError):
    install.register()
