"""What tests of the simulator share: run something in a process of its own in which a simulated chip is the device."""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

from readiness.simulator.chip import Chip, Condition, Defect
from readiness.simulator.kinds import kinds

Json = Any


def chip(*defects: Defect, chips: int = 1, memory_gib: float = 0.25) -> Chip:
    """A chip with these defects."""
    return Chip(name="tried", title="a chip of the tests", chips=chips, memory_gib=memory_gib, defects=defects)


def defect(kind: str, op: str | tuple[str, ...] = "*", *, dtype: tuple[str, ...] = (), severity: float | None = None,
           options: dict[str, Any] | None = None, **when: Any) -> Defect:  # fmt: skip
    """A defect; `options` is its `set`, further keywords are its conditions."""
    assert kind in kinds()
    conditions: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in when.items()}
    condition = Condition(**conditions)
    return Defect(kind, (op,) if isinstance(op, str) else op, dtype, condition, severity, options or {})


class DiedError(Exception):
    """The process ended without an answer; `code` is negative for a signal."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def inside(which: Chip, function: Callable[[], Json], *, number: int = 0, seed: int = 7, limit_s: float = 60.0) -> Json:
    """What a function returns (as JSON) in a forked process in which the chip is the device `sim:0`.

    Raises AssertionError with the other side's traceback, DiedError where it died, TimeoutError where it did not end.
    The device stays for the life of a process, so it must never be installed in the one that runs the tests.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            from readiness.simulator.install import install

            install(which, number, seed)
            answer = {"value": function()}
        except BaseException:  # noqa: BLE001 - the test is told
            answer = {"problem": traceback.format_exc()}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    text, deadline = b"", time.monotonic() + limit_s
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            piece = os.read(reader, 65536)
            if not piece:
                break
            text += piece
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not text:
        if time.monotonic() >= deadline:
            raise TimeoutError
        raise DiedError(code)
    told = json.loads(text)
    assert "problem" not in told, told["problem"]
    return told["value"]
