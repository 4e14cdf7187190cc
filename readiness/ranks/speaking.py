"""JSON lines through pipes: one object a line, each written whole however little the pipe takes at once."""

from __future__ import annotations

import json
import os

from readiness.ranks.values import Json


def write_message(descriptor: int, message: Json) -> None:
    """Write an object as a line. Raises OSError where nobody is left to read it."""
    write_line(descriptor, json.dumps(message))


def write_line(descriptor: int, line: str) -> None:
    """Write a line of JSON that somebody else has encoded. Raises OSError where nobody is left to read it."""
    left = memoryview(line.encode() + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]
