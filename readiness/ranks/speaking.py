"""Messages through pipes: JSON objects, one a line, each written whole however little the pipe takes at once."""

from __future__ import annotations

import json
import os

from readiness.ranks.values import Json


def say(descriptor: int, message: Json) -> None:
    """Write a message. Raises OSError where nobody is left to read it."""
    hand_on(descriptor, json.dumps(message))


def hand_on(descriptor: int, line: str) -> None:
    """Write a message as it was written by somebody else. Raises OSError where nobody is left to read it."""
    left = memoryview(line.encode() + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]
