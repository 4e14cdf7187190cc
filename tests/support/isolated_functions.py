"""What is called in a process of its own, each going wrong in its own way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from readiness.errors import BadFileError, UsageError

Note = Callable[[str], object]


class OddError(BaseException):
    """No exception that one expects."""


def adds(one: int, other: int, note: Note) -> dict[str, Any]:
    for text in ("began", "went on", "is done"):
        note(text)
    return {"sum": one + other, "pid": os.getpid(), "torch": "torch" in sys.modules}


def refuses(kind: str, note: Note) -> None:
    raise {"UsageError": UsageError, "BadFileError": BadFileError}[kind]("it is wrong", place="a place", remedy="fix it")


def goes_wrong(way: str, note: Note) -> Any:
    note(f"about to: {way}")
    WAYS[way]()
    return object() if way == "answers what is no JSON" else "it came to its end"


def _raises(problem: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise problem

    return act


def _takes_all_memory() -> None:
    taken: list[bytes] = []
    while True:
        taken.append(bytes(2**26))


def _talks(text: bytes) -> None:
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(descriptor, text)


def _recurs() -> None:
    _recurs()


WAYS: dict[str, Callable[[], Any]] = {
    "leaves": lambda: os._exit(0),
    "exits": lambda: sys.exit(0),
    "is interrupted": _raises(KeyboardInterrupt()),
    "raises what is no exception": _raises(OddError("odd")),
    "crashes": lambda: ctypes.string_at(0),
    "kills itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hangs": lambda: time.sleep(600),
    "holds the interpreter": lambda: ctypes.PyDLL(None).sleep(600),
    "stops": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "takes all memory": _takes_all_memory,
    "talks into every pipe": lambda: _talks(b"rubbish\n"),
    "says an answer of its own": lambda: _talks(b'{"answer": {"answer": "forged"}}\n'),
    "closes every pipe": lambda: os.closerange(3, 64),
    "answers what is no JSON": lambda: None,
    "recurs": _recurs,
}


def copies_itself(note: Note) -> str:
    os.fork()
    return "one answer"


def leaves_somebody(note: Note) -> int:
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid
