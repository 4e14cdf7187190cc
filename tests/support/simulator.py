"""What tests of the simulator share: run something in a process of its own in which a simulated chip is the device."""

from __future__ import annotations

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

import cloudpickle

from readiness.simulator.faults import kinds
from readiness.simulator.machine_file import Chip, Condition, Defect

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


def inside(which: Chip, function: Callable[[], Json], *, number: int = 0, seed: int = 7, limit_s: float = 240.0) -> Json:
    """What a function returns (as JSON) in a process of its own in which the chip is the device `sim:0`.

    Raises AssertionError with the other side's traceback, DiedError where it died, TimeoutError where it did not end.
    The device stays for the life of a process, so it must never be installed in the one that runs the tests. Nor may the
    process be forked from it: once a gradient has been computed, PyTorch's engine knows no further device.
    """
    receiver, sender = _prepared().Pipe(duplex=False)
    work = cloudpickle.dumps((which, function, number, seed))
    process = _prepared().Process(target=_work, args=(sender, work))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit_s):
            raise TimeoutError
        answer = json.loads(receiver.recv())
    except EOFError:
        process.join()
        raise DiedError(process.exitcode) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    assert "problem" not in answer, answer["problem"]
    return answer["value"]


@cache
def _prepared() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.prepared_simulator"])
    return context


def _work(connection: Any, work: bytes) -> None:
    try:
        from readiness.simulator.install import install

        which, function, number, seed = cloudpickle.loads(work)
        install(which, number, seed)
        answer = {"value": function()}
    except BaseException:  # noqa: BLE001 - the test is told
        answer = {"problem": traceback.format_exc()}
    connection.send(json.dumps(answer))
    connection.close()
    os._exit(0)
