"""Processes that tests fork are as free to use threads as those of a run."""

from __future__ import annotations

import os
import sys

import pytest


@pytest.fixture(autouse=True)
def _no_pool_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process start no pool of threads: none that is forked from it later could use or replace it."""
    threaded = sys.modules.get("readiness.probes.operators.multithreaded_ops")
    if threaded is not None:
        this, available = os.getpid(), threaded.available
        monkeypatch.setattr(threaded, "available", lambda: os.getpid() != this and available())
