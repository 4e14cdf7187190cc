"""throughput: seen measuring, seen slow or wrong, and refused. No figure is compared with a clock."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from readiness.probes.throughput.gemm import Chain
from readiness.probes.throughput.timing import Timing, repeat
from tests.support import cpu, run_check, value, values

QUICK: dict[str, Any] = {"budget_s": 0.02, "largest": 512}


@pytest.mark.parametrize("seed", range(2))
def test_the_host_multiplies_at_some_speed(seed: int) -> None:
    evidence = run_check("throughput.matmul", cpu(seed), **QUICK)
    for dtype in ("float32", "bfloat16"):
        assert value(evidence, "supported", dtype=dtype) == 1
        assert 0 < value(evidence, "tflops", dtype=dtype) < 1000
    assert all(math.isfinite(row["checksum"]) and row["checksum"] > 0 for row in evidence.rows)
    assert all(measurement.samples for measurement in evidence.measurements if measurement.name == "tflops")


def test_a_slow_product_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Chain.step

    def slow(self: Chain) -> None:
        time.sleep(0.05)
        honest(self)

    monkeypatch.setattr(Chain, "step", slow)
    evidence = run_check("throughput.matmul", dtypes=("float32",), **QUICK)
    assert value(evidence, "tflops") < 2 * 512**3 / 0.05 / 1e12


def test_a_dtype_that_is_refused_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Chain.step

    def refuse(self: Chain) -> None:
        if self.right.dtype == torch.bfloat16:
            raise NotImplementedError("no bfloat16 here")
        honest(self)

    monkeypatch.setattr(Chain, "step", refuse)
    evidence = run_check("throughput.matmul", **QUICK)
    assert value(evidence, "supported", dtype="bfloat16") == 0
    assert values(evidence, "tflops", dtype="bfloat16") == []
    assert len(values(evidence, "tflops", dtype="float32")) == 1


def test_the_host_copies_at_some_speed() -> None:
    evidence = run_check("throughput.memory", host_mib=8, budget_s=0.02)
    assert 0 < value(evidence, "bandwidth_gbps") < 10_000
    assert value(evidence, "wrong_bytes") == 0


def test_a_copy_that_is_not_made_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, source: self)
    evidence = run_check("throughput.memory", host_mib=1, budget_s=0.01)
    assert value(evidence, "wrong_bytes") > 0


def test_a_device_that_cannot_hold_the_block_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch, "empty_like", refuse)
    assert values(run_check("throughput.memory", host_mib=1), "bandwidth_gbps") == []


def test_timing_reports_rates_and_quartiles() -> None:
    timing = Timing((1.0, 2.0, 4.0))
    assert timing.rate(8) == 4
    assert timing.spread(8) == 3
    assert Timing((1.0,)).spread(8) == 0


def test_every_sample_waits_for_the_device() -> None:
    log: list[str] = []
    timing = repeat(lambda: log.append("work"), lambda: log.append("wait"), budget_s=0, least=3)
    assert len(timing.seconds) == 3
    assert log[0] == "work"
    assert log[1] == "wait"
    assert log[-1] == "wait"
