"""What holds for every test.

One thread a process, since tests run side by side and spinning threads starve each other. Hypothesis has no deadline, since
a busy machine is no fault, and draws the same examples in CI every time, new ones at home.
"""

from __future__ import annotations

import os

from hypothesis import settings

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

settings.register_profile("readiness", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("readiness")
