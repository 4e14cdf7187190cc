"""JSON lines through pipes: one object a line, written completely even if the pipe is full at times."""

from __future__ import annotations

import json
import os

from readiness.distributed.types import Json

#: No message is longer: what goes on without an end is none.
LONGEST_BYTES = 32 * 2**20


def write_message(descriptor: int, message: Json) -> None:
    """Write an object as a line. Raises OSError for a closed pipe."""
    write_line(descriptor, json.dumps(message))


def write_line(descriptor: int, line: str) -> None:
    """Write a line of JSON that is already encoded. Raises OSError for a closed pipe."""
    left = memoryview(line.encode() + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]


class Lines:
    """Line buffer: assembles lines from the pieces of a pipe, in linear time."""

    def __init__(self, longest_bytes: int = LONGEST_BYTES) -> None:
        self._longest_bytes = longest_bytes
        self._pieces: list[bytes] = []
        self._bytes = 0

    def take(self, content: bytes) -> list[bytes]:
        """Return the lines that this piece completes. Raises ValueError for a line longer than any message."""
        first, *further = content.split(b"\n")
        self._bytes += len(first)
        if self._bytes > self._longest_bytes:
            raise ValueError(f"more than {self._longest_bytes >> 20} MiB without a newline")
        self._pieces.append(first)
        if not further:
            return []
        *complete, rest = further
        lines = [b"".join(self._pieces), *complete]
        self._pieces, self._bytes = [rest], len(rest)
        return lines
