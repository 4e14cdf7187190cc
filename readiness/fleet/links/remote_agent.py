"""`readiness run` on a host that a command reaches: orders on standard input, what comes of it on standard output.

Started as `python -m readiness.fleet.links.remote_agent` there, so that no option passes through a shell. The first line of
its input is an object with `host`, `arguments`, `limit_s` and `version`; it answers with lines: `output`, `file` in pieces,
`end`, or `refused`. With the end of its input it ends, and the run with it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_PIECE_BYTES = 2**20


def main() -> int:
    """Run what the first line asks for."""
    from readiness import __version__

    out = os.dup(1)
    os.set_inheritable(out, False)
    os.dup2(2, 1)
    try:
        order = json.loads(sys.stdin.buffer.readline())
        host, arguments, limit_s = str(order["host"]), [str(word) for word in order["arguments"]], float(order["limit_s"])
        version = str(order["version"])
    except (ValueError, LookupError, TypeError) as problem:
        return _refuse(out, f"the first line is no order: {problem}")
    if version != __version__:
        return _refuse(out, f"readiness {__version__} is installed there, {version} here: install the same")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts commands in the background ignores it
    threading.Thread(target=_interrupt_at_end_of_input, daemon=True).start()
    from readiness.fleet import node_run

    try:
        for event in node_run.assess(host, arguments, {}, limit_s):
            for message in _messages(event):
                _say(out, message)
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0


def _messages(event: tuple[object, ...]) -> Iterator[dict[str, Any]]:
    match event:
        case ("file", str(name), bytes(content)):
            for start in range(0, len(content), _PIECE_BYTES):
                piece = base64.b64encode(content[start : start + _PIECE_BYTES]).decode()
                yield {"file": name, "piece": piece, "more": start + _PIECE_BYTES < len(content)}
        case ("output", str(line)):
            yield {"output": line[:2000]}
        case ("limit", seconds):
            yield {"limit": seconds}
        case ("end", code):
            yield {"end": code}


def _refuse(out: int, why: str) -> int:
    _say(out, {"refused": why})
    return 2


def _say(out: int, message: dict[str, Any]) -> None:
    left = memoryview(json.dumps(message).encode() + b"\n")
    while left:
        left = left[os.write(out, left) :]


def _interrupt_at_end_of_input() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
