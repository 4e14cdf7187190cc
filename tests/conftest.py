"""What holds for every test: one thread a process, since tests run side by side and spinning threads starve each other."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
