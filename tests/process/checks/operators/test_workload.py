"""operators.workload on a healthy device, on devices with one thing wrong, and where nothing can be told."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.accelerators import sim
from readiness.datamodel import Evidence, Status
from readiness.probes.model_operators import matmul_bounds
from readiness.probes.model_operators.outcomes import CallTiming
from readiness.probes.operators import profiler_traffic
from tests.support import run_check, value, values
from tests.support.simulator import chip, defect, inside

#: The models' own work: products, gates, norms, attention, and what experts need.
ONLY = ("aten::mm", "aten::mul.Tensor", "aten::silu", "aten::scaled_dot_product_attention", "aten::topk")
#: Enough for the small sizes; large ones are left to those who have the time.
QUICK: dict[str, Any] = {"workload": "deepseek-v3", "budget_s": 150.0, "large_s": 0.0, "call_limit_s": 10.0}
TRAINING = {"phase": "training", "dtype": "all"}


def played(*only: str, **settings: Any) -> Evidence:
    return run_check("operators.workload", only=only or ONLY, **(QUICK | settings))


def outcomes(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Outcome and phase of what is neither native nor decomposed, by operator and dtype."""
    return {
        f"{row['operator'].removeprefix('aten::')} {row['dtype']}": (row["outcome"], row["phase"])
        for row in evidence.rows
        if row["outcome"] not in ("native", "decomposed", "summary")
    }


def test_a_healthy_cpu() -> None:
    evidence = played(large_s=2.0)
    assert evidence.status is Status.MEASURED, evidence.reason
    assert outcomes(evidence) == {}
    for use in ("training", "inference"):
        assert value(evidence, "obstacles", phase=use, dtype="all") == 0
        assert value(evidence, "forward_coverage", phase=use, dtype="all", weight="calls") == 1.0
        assert value(evidence, "forward_coverage", phase=use, dtype="all", weight="time") == 1.0
        shares = [value(evidence, f"{name}_share", phase=use, dtype="all", weight="calls") for name in ("native", "decomposed", "fallback")]
        assert sum(shares) == pytest.approx(1.0)
    assert value(evidence, "backward_coverage", dtype="bfloat16", weight="calls") == 1.0
    assert 0 < value(evidence, "full_size_share") <= 1
    assert {measurement.labels.get("extent") for measurement in evidence.measurements} == {"chosen", None}
    rows = {row["operator"]: row for row in evidence.rows}
    assert "positions" in rows["aten::mm"]["largest"]


def test_a_silent_trip_to_the_host_is_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiler_traffic, "activity", lambda accelerator: torch.profiler.ProfilerActivity.CPU)
    monkeypatch.setattr(profiler_traffic, "watched", lambda accelerator, call: call() or profiler_traffic.Traffic(0, 10**9, 10**9))
    evidence = played("aten::silu")
    assert outcomes(evidence) == {"silu bfloat16": ("CPU fallback", "forward")}
    assert value(evidence, "fallback_share", **TRAINING, weight="calls") == 1
    assert "the profiler saw" in evidence.rows[1]["detail"]


def test_a_result_that_has_no_room_at_full_size_stays_as_it_was_played() -> None:
    """The gradient of an embedding is as large as the vocabulary, whatever it is made of."""
    found = on_chip(only=("aten::embedding_dense_backward",), memory=1.0, large_s=20.0, call_limit_s=60.0)
    assert found["outcomes"] == {}
    assert found["measured"]["obstacles training all"][0] == 0


def test_whole_numbers_are_counted_where_the_host_has_no_kernel_for_them() -> None:
    tokens = torch.tensor([0, 3, 3, 1, 7, 7, 7], dtype=torch.int32)
    found = matmul_bounds.histc(tokens, 8, min=0, max=7)
    assert found.dtype == torch.int32
    assert found.tolist() == [1, 1, 0, 2, 0, 0, 0, 3]


def test_skipped_sizes_are_extrapolated_from_the_devices_speed() -> None:
    played = CallTiming(20e-6, False, "96 positions of the reduced model", 50e-6, more_work=2.5e12, more_bytes=1.2e9)
    whole = played.extrapolate(4e14, 3e12)
    assert whole.seconds == pytest.approx(20e-6 + 2.5e12 / 4e14 + 2 * 1.2e9 / 3e12)
    assert whole.backward_seconds == pytest.approx(50e-6 + 2 * (whole.seconds - 20e-6))
    assert whole.extrapolate(1.0, 1.0) == whole
    full = CallTiming(1.5, True, "4096 positions")
    assert full.extrapolate(1.0, 1.0) == full


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["qwen3-8b", "qwen3-235b-a22b", "deepseek-v3", "llama-3.1-8b"])
def test_no_false_alarm_on_a_whole_model(workload: str) -> None:
    large_s = 10.0 if workload == "deepseek-v3" else 2.0  # it has most kinds of operators; as large as the time allows is one code for all
    evidence = run_check("operators.workload", workload=workload, budget_s=200.0, large_s=large_s)
    assert outcomes(evidence) == {}
    assert value(evidence, "obstacles", phase="training", dtype="all", extent="all") == 0
    assert value(evidence, "unjudged", phase="training", dtype="all") == 0


def on_chip(*defects: Any, only: tuple[str, ...] = ONLY, memory: float = 4.0, **settings: Any) -> dict[str, Any]:
    """Outcomes, and the measurements that are about something, of a simulated chip with these defects."""
    planted = chip(*defects, memory_gib=memory)

    def look() -> Any:
        from readiness import accelerators
        from readiness.accelerators.base import Accelerator
        accelerator = Accelerator(sim.facts(planted)[0], accelerators.stack("sim"), seed=7)
        evidence = run_check("operators.workload", accelerator, only=only, **(QUICK | settings))
        assert evidence.status is Status.MEASURED, evidence.reason
        abouts = {
            f"{item.name} {item.labels.get('phase')} {item.labels.get('dtype')} {item.labels.get('weight', '')}".strip(): [item.value, item.about]
            for item in evidence.measurements
        }
        details = {row["operator"].removeprefix("aten::"): row["detail"] for row in evidence.rows}
        return {"outcomes": outcomes(evidence), "measured": abouts, "details": details}

    found: dict[str, Any] = inside(planted, look, limit_s=200.0)
    return found


def test_a_healthy_chip() -> None:
    found = on_chip(only=(*ONLY, "aten::_grouped_mm"))
    assert found["outcomes"] == {}
    assert found["measured"]["obstacles training all"] == [0, None]


@pytest.mark.parametrize(
    ("planted", "operator", "outcome"),
    [
        (defect("missing", "topk"), "topk float32", ["missing", "forward"]),
        (defect("one-element", "mm", severity=1e-2), "mm bfloat16", ["wrong", "forward"]),
        (defect("nan", "silu"), "silu bfloat16", ["wrong", "forward"]),
        (defect("rounded-result", "mul.Tensor", dtype=("float32",)), "mul.Tensor float32", ["wrong", "forward"]),
        (defect("narrow-sums", "mm"), "mm bfloat16", ["wrong", "forward"]),
        (defect("wrong-gradient", "silu_backward", severity=5e-2), "silu bfloat16", ["wrong", "backward"]),
        (defect("ignore-strides", "silu", noncontiguous=True), "silu bfloat16", ["wrong", "forward"]),
        (defect("ignore-offset", "silu"), "silu bfloat16", ["wrong", "forward"]),
        (defect("wrong-tail", "silu"), "silu bfloat16", ["wrong", "forward"]),
        (defect("nondeterministic", "silu", severity=1e-2), "silu bfloat16", ["nondeterministic", "forward"]),
        (defect("crash", "silu"), "silu bfloat16", ["crash", "forward"]),
        (defect("cpu-fallback", "topk"), "topk float32", ["CPU fallback", "forward"]),
        (defect("raise", "silu"), "silu bfloat16", ["missing", "forward"]),
    ],
    ids=lambda item: getattr(item, "kind", None),
)  # fmt: skip
def test_one_defect_costs_one_operator_by_name(planted: Any, operator: str, outcome: list[str]) -> None:
    found = on_chip(planted, only=(f"aten::{operator.split(maxsplit=1)[0]}", "aten::sigmoid", "aten::neg"))
    assert found["outcomes"].get(operator) in (outcome, ["wrong", outcome[1]] if planted.kind == "nondeterministic" else outcome)
    assert {name.split()[0] for name in found["outcomes"]} == {operator.split(maxsplit=1)[0]}


def test_a_hang_costs_one_operator() -> None:
    found = on_chip(defect("hang", "silu"), only=("aten::silu", "aten::sigmoid"), call_limit_s=3.0)
    assert found["outcomes"] == {"silu bfloat16": ["hang", "forward"]}
    assert "did not finish within 6 s" in found["details"]["silu"]


@pytest.mark.parametrize("kind", ["wrong-gradient", "crash", "missing"])
def test_a_failed_gradient_is_an_obstacle_to_training_only(kind: str) -> None:
    severity = 5e-2 if kind == "wrong-gradient" else None
    found = on_chip(defect(kind, "silu_backward", severity=severity), only=("aten::silu", "aten::sigmoid"))
    assert [phase for _, phase in found["outcomes"].values()] == ["backward"]
    assert found["measured"]["obstacles training all"][0] == 1
    assert found["measured"]["obstacles inference all"] == [0, None]
    assert found["measured"]["forward_coverage inference all calls"][0] == 1


def test_a_gradient_that_fails_hides_no_wrong_result() -> None:
    found = on_chip(
        defect("wrong-gradient", "silu_backward", severity=5e-2), defect("ignore-offset", "silu"), only=("aten::silu", "aten::sigmoid")
    )
    assert found["outcomes"] == {"silu bfloat16": ["wrong", "forward"]}
    assert found["measured"]["obstacles inference all"][0] == 1


def test_the_about_line_names_failing_operators() -> None:
    found = on_chip(
        defect("missing", "topk"), defect("wrong-gradient", "silu_backward", severity=5e-2), defect("cpu-fallback", "mul.Tensor"),
        only=("aten::topk", "aten::silu", "aten::mul.Tensor", "aten::mm"),
    )  # fmt: skip
    obstacles, line = found["measured"]["obstacles training all"]
    assert obstacles == 2
    assert line.startswith("sim:0: 1 of 4 operators of deepseek-v3 missing, 1 wrong in backward (bfloat16), 1 on the CPU: ")
    assert "% of its calls (" in line
    assert "silu in bfloat16: wrong in its gradient" in line
    assert found["measured"]["backward_coverage training bfloat16 calls"][0] < 1
    share, about = found["measured"]["forward_coverage training all calls"]
    assert share < 1
    assert "topk in float32: missing" in about


def test_unable_without_a_workload() -> None:
    evidence = run_check("operators.workload")
    assert evidence.status is Status.SKIPPED
    assert "no workload is named" in (evidence.reason or "")


def test_an_expired_budget_never_covers_the_whole_model() -> None:
    evidence = run_check("operators.workload", workload="qwen3-8b", budget_s=0.5)
    assert evidence.status is Status.MEASURED
    assert values(evidence, "obstacles", phase="training", dtype="all", extent="all") == []
    assert set(values(evidence, "obstacles", phase="training", dtype="all", extent="part")) <= {0}
    assert values(evidence, "backward_coverage", extent="all") == []
    unreached = [row for row in evidence.rows if row["detail"] == "no time was left"]
    assert unreached
    assert {row["outcome"] for row in unreached} == {"cannot be judged"}


def test_where_nothing_could_be_judged_nothing_is_known_to_stand_in_no_way() -> None:
    from readiness.probes.model_operators import replay
    from readiness.probes.model_operators.outcomes import ReplayResult
    from readiness.probes.model_operators.summary import WorkloadSummary
    from readiness.probes.operators.outcomes import Outcome
    from readiness.tracing import workload_schema

    loaded = workload_schema.load(workload_schema.find("qwen3-8b"))
    of_silu = [group for group in replay.op_groups(loaded) if group.name == "aten::silu"]
    assert of_silu
    for reached in (True, False):
        totals = WorkloadSummary("cpu:0", loaded, [(group, ReplayResult(Outcome.UNJUDGED, reached=reached)) for group in of_silu])
        assert {item.name for item in totals.measurements()} == {"operators", "unjudged"}


def test_unable_when_no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from readiness.isolation import task_process

    monkeypatch.setattr(task_process, "prepare_child", lambda parent: os._exit(3))
    evidence = played()
    assert evidence.status is Status.ERROR
    assert "exited with code 3" in (evidence.reason or "")
    assert evidence.measurements == ()


def test_a_defect_of_the_cpu_itself_shows(override: Callable[..., None]) -> None:
    def wrong(x: torch.Tensor) -> torch.Tensor:
        out = x * torch.sigmoid(x)
        return out * 1.05 if x.dtype == torch.bfloat16 else out

    override("silu", wrong)
    assert outcomes(played("aten::silu", "aten::mm")) == {"silu bfloat16": ("wrong", "forward")}


def test_an_operator_that_finds_no_room_on_the_disk_proves_nothing(override: Callable[..., None]) -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.bfloat16:
            raise RuntimeError("kernel cache: No space left on device")
        return x * torch.sigmoid(x)

    override("silu", fails)
    with pytest.raises(OSError, match="No space left on device"):
        played("aten::silu")


def test_fresh_interpreters_give_the_same_outcomes(tmp_path: Any) -> None:
    from readiness.probes.model_operators import replay, replay_supervisor
    from readiness.tracing import workload_schema
    from tests.support import cpu

    file = workload_schema.find("qwen3-8b")
    loaded = workload_schema.load(file)
    chosen = [group for group in replay.op_groups(loaded) if group.name == "aten::silu"]
    found = dict(replay_supervisor.run(cpu(), loaded, file, op_groups=chosen, budget_s=60.0, large_s=1.0, call_limit_s=20.0, fork_safe=False))
    assert [result.outcome.value for result in found.values()] == ["native"]


def test_importing_the_check_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; import readiness.checks.operators.workload; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
