"""Log of a worker: the output of its check and libraries. Errors of the log never fail a check."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from typing import Any


class _Log(io.FileIO):
    """Text stream that drops what cannot be written, without an error for the writer."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            if (written := super().write(data)) is not None:
                return written
        return memoryview(data).nbytes


def open_streams() -> None:
    """Redirect `sys.stdout` and `sys.stderr` to descriptors 1 and 2, line by line, without ever raising."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        raw = io.BufferedWriter(_Log(descriptor, "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "replace", line_buffering=True))


def flush() -> None:
    """Flush buffered output."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the check may have closed or replaced them
            stream.flush()


def print_traceback() -> None:
    """Print the exception that is being handled."""
    with contextlib.suppress(Exception):  # its own words may raise, and so may the stream
        traceback.print_exc()
