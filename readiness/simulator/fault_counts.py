"""Counts of planted defects over all processes of a check: whether one was triggered, and how often each acted.

A check that never triggered a defect cannot have detected it. A mark is a folder, and counts are files that are written
through memory, one for each process: they outlive a process that is killed in the act. All of it is swept with the
worker. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from pathlib import Path

from readiness.datamodel import PLANTED_ACTED
from readiness.host.temp_dirs import PURGED_VARIABLE

#: The keys of the environment of evidence under which they stand: whether any was met; how often each acted.
MET, ACTED = "planted_defect_met", PLANTED_ACTED
_MOST_DEFECTS, _COUNT = 256, struct.Struct("<q")
#: The file of this process, and whose it is: a fork has its parent's, and must not write there.
_files: dict[int, mmap.mmap | None] = {}


def mark() -> None:
    """Record that a call triggered a defect of this process's chip."""
    if (prefix := os.environ.get(PURGED_VARIABLE)) is not None:
        with contextlib.suppress(OSError):  # it is marked already
            Path(f"{prefix}met").mkdir()


def is_marked() -> bool | None:
    """Return whether a defect was triggered; None if this is not recorded here."""
    prefix = os.environ.get(PURGED_VARIABLE)
    return None if prefix is None else Path(f"{prefix}met").is_dir()


def add(position: int, times: int) -> None:
    """Add so many actions of the defect at this position in its file."""
    own = os.getpid()
    if own not in _files:
        _files.clear()
        _files[own] = _opened(own)
    if (file := _files[own]) is not None:
        offset = position * _COUNT.size
        _COUNT.pack_into(file, offset, _COUNT.unpack_from(file, offset)[0] + times)


def acted() -> list[int] | None:
    """Return how often each defect acted, by its position, in all processes so far; None if it is not recorded."""
    prefix = os.environ.get(PURGED_VARIABLE)
    if prefix is None:
        return None
    total = [0] * _MOST_DEFECTS
    for file in Path(f"{prefix}acted").glob("*"):
        content = file.read_bytes()
        if len(content) == _MOST_DEFECTS * _COUNT.size:
            total = [one + other[0] for one, other in zip(total, _COUNT.iter_unpack(content), strict=True)]
    return total


def _opened(process: int) -> mmap.mmap | None:
    if (prefix := os.environ.get(PURGED_VARIABLE)) is None:
        return None
    folder = Path(f"{prefix}acted")
    try:
        folder.mkdir(exist_ok=True)
        with (folder / str(process)).open("a+b") as file:  # a number may come again: what stands there counts on
            # Written, not only made so long: memory over a hole of a full disk ends the process that writes to it.
            file.write(bytes(_MOST_DEFECTS * _COUNT.size - file.tell()))
            file.flush()
            return mmap.mmap(file.fileno(), _MOST_DEFECTS * _COUNT.size)
    except OSError:  # a full disk is no defect of the chip
        return None
