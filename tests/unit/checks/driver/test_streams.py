"""driver.streams: seen in order, seen out of order, and absent."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.datamodel import Status
from readiness.probes.driver import streams as module_under_test
from tests.support import run_check, value, values
from tests.unit.checks.driver.fakes import FakeEvent, FakeStack, FakeStream, fake, streams

SETTINGS: dict[str, Any] = {"rounds": 2, "numbers": 1000, "work": 3}


def test_streams_in_order() -> None:
    evidence = run_check("driver.streams", fake(), **SETTINGS)
    assert value(evidence, "supported") == 1.0
    assert value(evidence, "order_violations") == 0
    assert value(evidence, "synchronize_works") == 1.0


def test_values_that_were_not_ready_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfinished(x: torch.Tensor, work: int) -> torch.Tensor:
        return x + (work - 1)

    monkeypatch.setattr(module_under_test, "_labour", unfinished)
    evidence = run_check("driver.streams", fake(), **SETTINGS)
    assert value(evidence, "order_violations") == 4
    assert value(evidence, "synchronize_works") == 0


def test_an_event_that_never_passes_shows() -> None:
    class Stuck(FakeEvent):
        def query(self) -> bool:
            return False

    evidence = run_check("driver.streams", fake(FakeStack(module=streams(Event=Stuck))), **SETTINGS)
    assert value(evidence, "synchronize_works") == 0.5
    assert any("ended all work" in str(row.get("promise")) for row in evidence.rows)


def test_what_the_device_refuses_is_no_violation() -> None:
    class Refusing(FakeStream):
        def wait_event(self, event: object) -> None:
            raise NotImplementedError("wait_event")

    evidence = run_check("driver.streams", fake(FakeStack(module=streams(Stream=Refusing))), **SETTINGS)
    assert value(evidence, "supported") == 0.75
    assert value(evidence, "order_violations") == 0


def test_the_host_has_none() -> None:
    evidence = run_check("driver.streams")
    assert evidence.status is Status.SKIPPED
    assert values(evidence, "order_violations") == []


def test_a_namespace_without_them_is_a_skip() -> None:
    bare: Any = object()
    evidence = run_check("driver.streams", fake(FakeStack(module=bare)))
    assert evidence.status is Status.SKIPPED
    assert "Stream" in (evidence.reason or "")
