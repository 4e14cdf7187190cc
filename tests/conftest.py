"""What holds for every test.

One thread a process, since tests run side by side and spinning threads starve each other; those of ranks, which take more, do
not spin (a training of one rank then takes a fifth of the processor time on busy cores). Hypothesis has no deadline, since
a busy machine is no fault, and draws the same examples in CI every time, new ones at home.
"""

from __future__ import annotations

import compileall
import gc
import os
import sys

import pytest
from hypothesis import settings

from tests.support.paths import ROOT

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("readiness", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("readiness")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile readiness once for the hundreds of interpreters that import it, where they are told to keep nothing compiled."""
    if sys.dont_write_bytecode and not hasattr(session.config, "workerinput"):
        for folder in ("readiness", "checks", "reports", "tests/support"):
            compileall.compile_dir(ROOT / folder, quiet=2)


def pytest_collection_finish() -> None:
    """Keep what is there by now out of every garbage collection: of this process, and of those that are forked from it."""
    gc.collect()
    gc.freeze()
