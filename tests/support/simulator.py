"""What tests of the simulator share: run something in a process of its own in which a simulated chip is the device."""

from __future__ import annotations

import json
import os
import select
import traceback
from collections.abc import Callable
from typing import Any

import cloudpickle

from readiness.host.temp_dirs import anonymous_file
from readiness.simulator.faults import kinds
from readiness.simulator.machine_file import Chip, Condition, Defect
from tests.support.command_server import server

Json = Any
#: What processes with a chip are started with, whatever a test does to its own environment.
_ENVIRONMENT = dict(os.environ)


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


def inside(which: Chip, function: Callable[[], Json], *, number: int = 0, seed: int = 7, limit_s: float = 240.0) -> Json:
    """What a function returns (as JSON) in a process of its own in which the chip is the device `sim:0`.

    Raises AssertionError with the other side's traceback, DiedError where it died, TimeoutError where it did not end.
    The device stays for the life of a process, so it must never be installed in the one that runs the tests. Nor may the
    process be forked from it: once a gradient has been computed, PyTorch's engine knows no further device.
    """
    process = server("simulator")
    receiver, sender = os.pipe()
    with os.fdopen(receiver, "rb") as answers:
        try:
            with anonymous_file("work") as work:
                cloudpickle.dump((which, function, number, seed), work)
                work.flush()
                work.seek(0)
                code = "from tests.support.simulator import work; work(*given)"
                pid = process.start(code, (), _ENVIRONMENT, (1, 2, work.fileno(), sender))
        finally:
            os.close(sender)
        if not select.select([answers], [], [], limit_s)[0]:
            process.kill(pid)
            raise TimeoutError
        answer = answers.readline()  # what it forked may hold the pipe for longer
    code_at_end = process.ended()
    if not answer:
        raise DiedError(code_at_end)
    content = json.loads(answer)
    assert "problem" not in content, content["problem"]
    return content["value"]


def work(request: int, answers: int) -> None:
    """In the process with the chip: do what the file says, and write what came of it into the pipe."""
    try:
        from readiness.simulator.install import install

        with os.fdopen(request, "rb") as file:
            which, function, number, seed = cloudpickle.load(file)
        install(which, number, seed)
        answer = {"value": function()}
    except BaseException:  # noqa: BLE001 - the test is told
        answer = {"problem": traceback.format_exc()}
    with os.fdopen(answers, "wb") as pipe:
        pipe.write(json.dumps(answer).encode() + b"\n")
    os._exit(0)
