"""Runs that several tests read: made once, by whichever test process comes first."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import goldens


@pytest.fixture(scope="session")
def assessed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a shipped simulated machine's assessment under `smoke`."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def file_of(machine: str) -> Path:
        folder = shared / f"smoke-{machine}"
        file = folder / "assessment.json"
        with (shared / f"smoke-{machine}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                folder.mkdir(exist_ok=True)
                goldens.assess(machine, "smoke", folder / "unfinished.json")
                (folder / "unfinished.json").rename(file)
        return file

    return file_of
