"""Where the profiler saw an operator's work done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from readiness.probes.operators import profiler_traffic
from readiness.probes.operators.profiler_traffic import Traffic
from tests.support import cpu, value
from tests.support.operators import detail, outcomes, sweep


def event(category: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "ts": 1, "dur": 1, "args": arguments}


def trace(*events: dict[str, Any]) -> dict[str, Any]:
    return {"traceEvents": [event("cpu_op", "aten::svd"), {"ph": "M", "name": "process_name"}, *events]}


def test_kernels_and_bytes() -> None:
    found = profiler_traffic.of_trace(trace(
        event("kernel", "void vectorized_elementwise_kernel<4>"),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", bytes=400),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", bytes=8),
        event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", bytes=300),
        event("gpu_memcpy", "Memcpy DtoD (Device -> Device)", bytes=9000),
        event("gpu_memset", "Memset (Device)", bytes=50),
    ))  # fmt: skip
    assert found == Traffic(1, 408, 300)
    assert profiler_traffic.of_trace(trace(event("gpu_memcpy", "CopyDeviceToHost", bytes=7))) == Traffic(0, 7, 0)


@pytest.mark.parametrize("document", [{}, {"traceEvents": []}, trace()])
def test_a_trace_without_a_device_is_no_evidence(document: dict[str, Any]) -> None:
    assert profiler_traffic.of_trace(document) is None


@pytest.mark.parametrize(
    ("traffic", "inputs", "outputs", "hosted"),
    [
        (Traffic(0, 4000, 4000), 4000, 4000, True),
        (Traffic(3, 4096, 8), 4000, 8, True),          # a sum on the host; kernels may have made its input dense
        (Traffic(9, 4, 0), 4000, 4000, False),         # a status
        (Traffic(9, 4000, 0), 4000, 4000, False),      # equal, nonzero: told on the host, nothing comes back
        (Traffic(9, 0, 4000), 4000, 4000, False),      # indices from the host
        (Traffic(2, 16, 16), 16, 16, False),           # as large as a status
        (Traffic(0, 4000, 4000), 4000, 0, False),
        (None, 4000, 4000, False),
    ],
)  # fmt: skip
def test_all_there_and_all_back_is_the_hosts_work(traffic: Traffic | None, inputs: int, outputs: int, hosted: bool) -> None:
    assert (profiler_traffic.on_host(traffic, inputs, outputs) is not None) == hosted


def test_this_cpu_has_no_device_to_watch() -> None:
    called: list[int] = []
    assert profiler_traffic.activity(cpu()) is None
    assert profiler_traffic.watched(cpu(), lambda: called.append(1)) is None
    assert called == [1]


class Watching:
    """Stands in for PyTorch's profiler where there is a device."""

    def __init__(self, events: list[dict[str, Any]], start: Exception | None = None) -> None:
        self.events, self.problem, self.stopped = events, start, 0

    def __call__(self, activities: list[Any]) -> Watching:
        return self

    def start(self) -> None:
        if self.problem:
            raise self.problem

    def stop(self) -> None:
        self.stopped += 1

    def export_chrome_trace(self, file: str) -> None:
        Path(file).write_text(json.dumps({"traceEvents": self.events}))


def put(monkeypatch: pytest.MonkeyPatch, watching: Watching) -> None:
    monkeypatch.setattr(profiler_traffic, "activity", lambda accelerator: torch.profiler.ProfilerActivity.CPU)
    monkeypatch.setattr(torch.profiler, "profile", watching)


def test_the_call_is_made_once_whatever_becomes_of_the_profiler(monkeypatch: pytest.MonkeyPatch) -> None:
    for watching in (Watching([]), Watching([], RuntimeError("another profiler is running"))):
        put(monkeypatch, watching)
        called: list[int] = []
        assert profiler_traffic.watched(cpu(), lambda: called.append(1)) is None  # noqa: B023
        assert called == [1]
    broken = Watching([event("kernel", "gelu")])
    monkeypatch.setattr(broken, "export_chrome_trace", lambda file: Path(file).write_text('{"traceEvents": ['))
    put(monkeypatch, broken)
    assert profiler_traffic.watched(cpu(), lambda: None) is None
    watching = Watching([])
    put(monkeypatch, watching)
    with pytest.raises(ZeroDivisionError):
        profiler_traffic.watched(cpu(), lambda: 1 // 0)
    assert watching.stopped == 1


def test_what_the_profiler_says_of_itself_is_not_heard_and_what_the_call_says_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Loud(Watching):
        def start(self) -> None:
            os.write(2, b"profiler_start")

    put(monkeypatch, Loud([event("kernel", "gelu")]))
    assert profiler_traffic.watched(cpu(), lambda: os.write(2, b"of the call")) == Traffic(1, 0, 0)
    assert capfd.readouterr().err == "of the call"


def test_a_silent_trip_to_the_host_is_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    there_and_back = [
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", bytes=10**7),
        event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", bytes=10**7),
    ]
    put(monkeypatch, Watching(there_and_back))
    evidence = sweep("nn.functional.gelu")
    assert outcomes(evidence) == {"nn.functional.gelu": ("CPU fallback", "forward")}
    assert "the profiler saw 10000000 bytes" in detail(evidence, "nn.functional.gelu")
    assert value(evidence, "fallbacks") == 1
    assert value(evidence, "forward_coverage") == 1.0


def test_a_kernel_alone_is_the_devices_own(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Watching([event("kernel", "gelu")]))
    assert outcomes(sweep("nn.functional.gelu")) == {}
