"""Every check that times a device lets it come to rest before, and says what had not."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Settled
from tests.support import cpu, run_check

QUICK: dict[str, dict[str, Any]] = {
    "throughput.matmul": {"budget_s": 0.001, "largest": 256, "dtypes": ("float32",)},
    "throughput.memory": {"budget_s": 0.001, "host_mib": 1},
    "throughput.stream": {"budget_s": 0.001, "host_mib": 1},
    "throughput.launch": {"budget_s": 0.001},
    "throughput.allocator": {"budget_s": 0.001, "mib": 1},
    "throughput.convolution": {"budget_s": 0.001},
    "throughput.products": {"budget_s": 0.001, "workload": "qwen3-8b"},
    "throughput.attention": {"budget_s": 0.001, "workload": "qwen3-8b"},
    "model.training": {"budget_s": 0.001, "workload": "qwen3-8b", "narrow_length": 8},
    "model.serving": {"workload": "qwen3-8b", "batches": (1,), "tokens": 2, "rounds": 1, "narrow_prompt": 4},
}


@pytest.mark.parametrize("check", QUICK)
def test_what_has_not_come_to_rest_is_told_by_every_timed_check(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = Settled(5.0, 90.0, 85.0, "no, after 5 s temperature_c falls, from 86 to 85")
    monkeypatch.setattr(timing, "settle", lambda *_, **__: hot)
    evidence = run_check(check, cpu(0), **QUICK[check])
    assert any(row.get("settled") == hot.unsettled and row.get("after_c") == 85.0 for row in evidence.rows), evidence.rows
