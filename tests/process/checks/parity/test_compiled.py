"""parity.compiled: training through torch.compile seen right, seen wrong, compiled again and again, and refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.datamodel import Status
from tests.support import cpu, run_check, value, values


def test_compiled_steps_are_those_call_by_call() -> None:
    found = run_check("parity.compiled", cpu(), backend="eager", steps=3)
    assert found.status is Status.MEASURED, found.reason
    assert value(found, "supported") == 1
    assert value(found, "loss_error") < 1e-5
    assert value(found, "weight_error") < 1e-5
    assert value(found, "recompiles") == 0
    assert value(found, "first_step_s") > 0


def _compiling(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, int], Any]) -> None:
    """A compiler that calls what it was given; `change` gets it and the number of the call."""

    def compiled(call: Any, **_: Any) -> Any:
        calls = 0

        def run(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            return change(call, calls)(*given)

        return run

    monkeypatch.setattr(torch, "compile", compiled)


def test_an_optimizer_that_is_wrong_from_the_third_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def skips(call: Any, number: int) -> Any:
        return (lambda: None) if getattr(call, "__name__", "") == "step" and number >= 3 else call

    _compiling(monkeypatch, skips)
    found = run_check("parity.compiled", cpu())
    errors = [row["error"] for row in found.rows]
    assert errors[:3] == [0, 0, 0]
    assert value(found, "loss_error") > 1e-3
    assert value(found, "weight_error") > 1e-2


def test_a_loss_that_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    _compiling(monkeypatch, lambda call, _: call if getattr(call, "__name__", "") == "step" else lambda *given: call(*given) * torch.nan)
    found = run_check("parity.compiled", cpu(), steps=3)
    assert value(found, "loss_error") == value(found, "weight_error") == float("inf")


def test_what_a_stack_cannot_compile_is_no_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise torch._dynamo.exc.InvalidBackend("inductor")

    monkeypatch.setattr(torch, "compile", refuse)
    found = run_check("parity.compiled", cpu())
    assert value(found, "supported") == 0
    assert values(found, "loss_error") == values(found, "weight_error") == []


def test_what_fails_otherwise_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the device has fallen off the bus")

    monkeypatch.setattr(torch, "compile", fail)
    assert run_check("parity.compiled", cpu()).status is Status.ERROR
