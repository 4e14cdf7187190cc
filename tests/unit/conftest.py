"""Tests of this folder start no process: whoever tries fails, with the command."""

from __future__ import annotations

import _posixsubprocess
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

#: The events of the interpreter under which a process begins. `multiprocessing` makes its own without one of them.
_STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec", "os.startfile")


class _Guard:
    """Refuses and remembers what is started while `on`: code under test may well take the refusal for any other error."""

    def __init__(self) -> None:
        self.on = False
        self.started: list[str] = []

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in _STARTS:
            self.refuse(event, *arguments[:2])

    def refuse(self, *what: object) -> NoReturn:
        self.started.append(" ".join(map(str, what)))
        raise AssertionError(f"a test of tests/unit started a process: {self.started[-1]}")


_guard = _Guard()
sys.addaudithook(_guard.hook)


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_posixsubprocess, "fork_exec", _guard.refuse)
    _guard.started.clear()
    _guard.on = True
    yield
    _guard.on = False
    assert not _guard.started
