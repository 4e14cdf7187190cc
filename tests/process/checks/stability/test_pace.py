"""stability.pace: seen level on the CPU, seen naming what is slow or runs on the host, and unable to tell."""

from __future__ import annotations

import gc
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from readiness.datamodel import Measurement, Status
from readiness.host import runqueue_wait
from readiness.probes.stability import cpu_relative_latency, operations
from readiness.probes.stability.operations import CONTIGUOUS, OPERATIONS, RARER, both_phases, draw
from readiness.probes.throughput import timing
from tests.support import cpu, run_check, value
from tests.support.parity import Defect, Tensor, refuse

CHOSEN = ("softmax", "multiply")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two operations, small: what is tested here is what becomes of their times."""
    chosen = tuple(item for item in OPERATIONS if item.name in CHOSEN)
    monkeypatch.setattr(cpu_relative_latency, "OPERATIONS", chosen)
    monkeypatch.setattr(cpu_relative_latency, "RARER", ())
    monkeypatch.setattr(operations.Operation, "large", property(lambda self: self.small))


def about(evidence: Any, name: str) -> str:
    found: list[Measurement] = [item for item in evidence.measurements if item.name == name]
    return str(found[0].about)


def scripted(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Times of device and host in turn, over and over, in place of the clock's."""
    taken = iter(seconds * 1000)

    def once(work: Any, synchronize: Any) -> float:
        work()
        synchronize()
        return next(taken)

    monkeypatch.setattr(cpu_relative_latency, "once", once)


@pytest.mark.parametrize("seed", range(3))
def test_the_cpu_keeps_its_own_pace(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, 0.0021, 0.002)
    evidence = run_check("stability.pace", cpu(seed))
    assert evidence.status is Status.MEASURED, evidence.reason
    for dtype in ("float32", "bfloat16"):
        assert value(evidence, "slowdown", dtype=dtype) == pytest.approx(1.05)
        assert value(evidence, "fallbacks", dtype=dtype) == 0
        assert value(evidence, "supported", dtype=dtype) == 1


def test_a_slow_operation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(work: Any, synchronize: Any) -> float:
        work()
        return 0.04 if seen and seen[-1] == "softmax" and synchronize is not cpu_relative_latency._nothing else 0.002

    seen: list[str] = []

    def change(function: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(function.__name__)
        return function(*args, **kwargs)

    monkeypatch.setattr(cpu_relative_latency, "once", once)
    with Defect(["softmax", "mul"], change):
        evidence = run_check("stability.pace", dtypes=("float32",))
    assert value(evidence, "slowdown") == pytest.approx(20)
    assert about(evidence, "slowdown").startswith("softmax in float32, ")
    assert "took 40 ms, the host's CPU 2 ms" in about(evidence, "slowdown")


def test_a_slow_call_by_chance_is_tried_again_and_a_short_one_is_not_held_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, *(0.05, 0.002) * 5, 0.002, 0.002)
    assert value(run_check("stability.pace", dtypes=("float32",)), "slowdown") < 2
    scripted(monkeypatch, 1e-4, 1e-6)
    assert value(run_check("stability.pace", dtypes=("float32",)), "slowdown") == pytest.approx(0.2)


@pytest.mark.parametrize(
    "text",
    [
        "The operator 'aten::_softmax' is not currently supported on the MPS backend and will fall back to run on the CPU.",
        "CAUTION: The operator 'aten::_softmax' is not currently supported on the NPU backend and will fall back to run on the CPU.",
        "aten::_softmax falls back to the CPU",
    ],
)
def test_a_stack_that_reports_host_fallback_is_believed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(function: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.dtype == torch.bfloat16 and not x.is_meta:
            warnings.warn(text, stacklevel=2)
        return function(x, *args, **kwargs)

    scripted(monkeypatch, 0.002, 0.002)
    with Defect(["softmax"], change):
        evidence = run_check("stability.pace")
    assert value(evidence, "fallbacks", dtype="float32") == 0
    assert value(evidence, "fallbacks", dtype="bfloat16") == 4
    named = [str(item.about) for item in evidence.measurements if item.name == "fallbacks"][1]
    assert named.startswith("softmax in bfloat16, contiguous inputs, forward: ")


@pytest.mark.parametrize("text", ["lazy initialisation took 3 s", "the backend uses a CPU thread to compile kernels"])
def test_other_warnings_are_none_of_this(text: str) -> None:
    assert cpu_relative_latency._FALLS_BACK.search(text.lower()) is None


def test_what_the_device_lacks_has_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, 0.002, 0.002)

    def change(function: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return function(x, *args, **kwargs) if x.is_meta else refuse(torch.bfloat16)(function, x, *args, **kwargs)

    with Defect(["softmax", "mul"], change):
        evidence = run_check("stability.pace")
    assert value(evidence, "supported", dtype="bfloat16") == 0
    assert "softmax in bfloat16" in [str(item.about) for item in evidence.measurements if item.name == "supported"][1]
    assert {item.labels["dtype"] for item in evidence.measurements if item.name == "slowdown"} == {"float32"}


def test_inputs_do_not_pile_up_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[weakref.ref[Tensor]] = []
    honest = operations.place

    def place(*args: Any) -> Tensor:
        tensor = honest(*args)
        placed.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(operations, "place", place)
    scripted(monkeypatch, 0.002, 0.002)
    found = list(cpu_relative_latency.latencies(cpu(), torch.float32, repeats=3))
    gc.collect()
    assert len(found) == 8
    assert len(placed) > 8
    assert not [item for item in placed if item() is not None]


def test_every_operation_runs_at_its_large_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for operation in (*OPERATIONS, *RARER):
        inputs = draw(cpu(), operation, torch.float32, large=True)
        for case in both_phases(operation, inputs, torch.float32, CONTIGUOUS, torch.device("cpu")):
            assert sum(part.numel() for part in case.call()) > 0



def test_time_in_line_does_not_count_and_time_at_work_does(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = iter([0.0, 5.0, 5.0, 5.0])
    monkeypatch.setattr(timing, "in_line_s", lambda: next(waits))
    spent = iter([0.0, 0.25, 0.25, 0.5])
    clock = iter([0.0, 6.0, 6.0, 6.1])
    monkeypatch.setattr("time.process_time", lambda: next(spent))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    first, second = (timing.once_running(lambda: None, lambda: None) for _ in range(2))
    monkeypatch.undo()  # the clock is wanted again
    assert first == 1.0
    assert second == 0.25  # several threads' work cannot be less than was spent


def test_without_runqueue_statistics_there_is_no_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runqueue_wait, "_TASKS", tmp_path / "none")
    assert runqueue_wait.in_line_s() == 0
