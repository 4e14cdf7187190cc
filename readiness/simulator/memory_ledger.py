"""Memory of a simulated chip over all processes of a check: what each holds, and what those left that have ended.

Each process writes the bytes that it holds into a file of its own, below the folder that is removed with the worker. Where
there is no such folder a chip's memory is that of one process. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from readiness.host.temp_dirs import PURGED_VARIABLE


class MemoryLedger:
    """What the processes that use one chip hold."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._descriptor: int | None = None
        self._owner = 0  # whose the descriptor is: a fork has its parent's, and must not write there

    @property
    def _folder(self) -> Path | None:
        prefix = os.environ.get(PURGED_VARIABLE)
        return None if prefix is None else Path(f"{prefix}memory-{self._number}")

    def record(self, held_bytes: int) -> None:
        """Write down what this process holds now."""
        folder, own = self._folder, os.getpid()
        if folder is None:
            return
        with contextlib.suppress(OSError):  # a full disk is no defect of the chip
            if self._owner != own:
                self._descriptor, self._owner = None, own
                folder.mkdir(exist_ok=True)
                self._descriptor = os.open(folder / str(own), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            if self._descriptor is not None:
                os.pwrite(self._descriptor, f"{held_bytes:<20d}".encode(), 0)

    def held_by_others(self) -> int:
        """Return the bytes that other processes hold which still run."""
        return sum(held for process, held, _ in self._others() if _runs(process))

    def others(self) -> int:
        """Return how many other processes that still run hold memory."""
        return sum(held > 0 and _runs(process) for process, held, _ in self._others())

    def left_behind(self) -> tuple[int, float]:
        """Return the bytes that ended processes held last, and for how many seconds the latest of them has been over."""
        left = [(held, age_s) for process, held, age_s in self._others() if held > 0 and not _runs(process)]
        return sum(held for held, _ in left), min((age_s for _, age_s in left), default=0.0)

    def _others(self) -> Iterator[tuple[int, int, float]]:
        folder = self._folder
        if folder is None or not folder.is_dir():
            return
        for file in folder.iterdir():
            if file.name != str(os.getpid()):
                with contextlib.suppress(OSError, ValueError):
                    yield int(file.name), int(file.read_text()), time.time() - file.stat().st_mtime


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
