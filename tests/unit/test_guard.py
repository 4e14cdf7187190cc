"""No test of this folder gets away with a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.unit.conftest import _guard


def by_multiprocessing() -> None:
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([sys.executable, "-c", ""], check=False),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: os.system("true"),
        os.fork,
        by_multiprocessing,
    ],
    ids=["subprocess", "posix_spawn", "system", "fork", "multiprocessing"],
)
def test_whoever_starts_a_process_is_stopped_and_remembered(start: Callable[[], object]) -> None:
    with contextlib.suppress(OSError), pytest.raises(AssertionError, match="started a process"):
        start()
    assert _guard.started
    _guard.started.clear()  # else this test would fail, too
