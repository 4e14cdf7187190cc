"""model.training and model.serving on the CPU: measured, refused, wrong, on a busy host, and nothing to measure."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from readiness import check_registry
from readiness.accelerators.rated_figures import Rated
from readiness.datamodel import Evidence, Status
from readiness.errors import UsageError
from readiness.probes.model import steps
from readiness.probes.parity import train_and_decode
from readiness.probes.parity.train_and_decode import DecodeResult
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Timing
from readiness.profile import loader
from tests.support import cpu, run_check, value, values

QUICK: dict[str, Any] = {"budget_s": 0.01, "narrow_length": 16}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not say how long it kept the process waiting disturbs nothing that is known of."""
    monkeypatch.setattr(timing, "is_reported", lambda: False)


def trained(workload: str = "qwen3-8b", **settings: Any) -> Evidence:
    return run_check("model.training", cpu(0), workload=workload, **{**QUICK, **settings})


@pytest.mark.parametrize("workload", ["qwen3-8b", "qwen3-32b", "qwen3-235b-a22b", "llama-3.1-8b", "deepseek-v3"])
def test_a_step_of_every_shipped_decoder(workload: str, quiet: None) -> None:
    evidence = trained(workload)
    assert evidence.status is Status.MEASURED, evidence.reason
    assert value(evidence, "supported") == 1
    seconds = value(evidence, "step_s")
    assert value(evidence, "tokens_per_s") == pytest.approx(2 * 16 / seconds)
    row = evidence.rows[0]
    assert row["last_loss"] < row["first_loss"], "the same batch again and again is learned"
    total = float(row["arithmetic"].rpartition("= ")[2].split()[0])
    assert value(evidence, "tflops") == pytest.approx(total / seconds / 1e12, rel=1e-3)
    assert values(evidence, "utilisation") == []


def test_utilisation_is_the_models_operations_over_the_rated_peak(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readiness.accelerators.base.Accelerator.rated", lambda self: Rated("a test", "", {"bfloat16": 2.0}))
    evidence = trained()
    assert value(evidence, "utilisation") == pytest.approx(value(evidence, "tflops") / 2)
    about = next(item.about for item in evidence.measurements if item.name == "utilisation")
    assert "products with weights" in str(about)


def test_operations_are_six_for_each_product_with_a_weight() -> None:
    plan = steps.chosen_model(cpu(0), _config("llama-3.1-8b"))
    assert plan is not None
    one, text = steps.step_operations(plan, 1, 1)
    weights = plan.architecture.parameters - plan.architecture.embedding - 9 * 128  # the embedding is looked up, norms are no products
    assert one == pytest.approx(6 * (weights + plan.architecture.layers * plan.architecture.attention.score_width))
    assert f"{weights:,} products with weights" in text


def _config(name: str) -> Any:
    from readiness.tracing import workload_schema

    return workload_schema.load(workload_schema.find(name)).model["config"]


def test_a_busy_host_makes_the_pace_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "is_reported", lambda: True)
    waits = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(timing, "in_line_s", lambda: float(next(waits)))
    evidence = trained()
    assert value(evidence, "supported") == 1
    assert values(evidence, "step_s") == values(evidence, "tflops") == []
    assert any("busy" in str(row.get("step_s")) for row in evidence.rows)
    served = run_check("model.serving", cpu(0), workload="qwen3-8b", tokens=3, rounds=1, narrow_prompt=8)
    assert values(served, "between_tokens_ms") == []
    assert value(served, "wrong_tokens") == 0


def test_a_step_that_is_refused_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(steps.Training, "step", refuse)
    evidence = trained()
    assert value(evidence, "supported") == 0
    assert "no such kernel" in evidence.rows[0]["refused"]


@pytest.mark.parametrize("check", ["model.training", "model.serving"])
@pytest.mark.parametrize("workload", ["", "vit-large"])
def test_without_a_decoder_there_is_nothing_to_measure(check: str, workload: str) -> None:
    assert run_check(check, cpu(0), workload=workload).status is Status.SKIPPED


@pytest.mark.parametrize("check", ["model.training", "model.serving"])
def test_an_unknown_workload_is_refused_before_the_run(check: str) -> None:
    vet = check_registry.shipped()[check].vet
    assert vet is not None
    with pytest.raises(UsageError, match="no workload"):
        vet({"workload": "no-such"})


@pytest.mark.parametrize("workload", ["qwen3-8b", "qwen3-32b", "qwen3-235b-a22b", "llama-3.1-8b", "deepseek-v3"])
def test_serving_is_timed_and_its_tokens_are_the_references(workload: str, quiet: None) -> None:
    evidence = run_check("model.serving", cpu(0), workload=workload, batches=(1, 2), tokens=3, rounds=2, narrow_prompt=8)
    assert value(evidence, "wrong_tokens") == 0
    assert sum(row.get("clearly_chosen", 0) for row in evidence.rows) > 0
    for batch in ("1", "2"):
        for name in ("first_token_ms", "between_tokens_ms"):
            assert 0 < value(evidence, name, batch=batch, quantile="p50") <= value(evidence, name, batch=batch, quantile="p99")
        assert value(evidence, "tokens_per_s", batch=batch, phase="decode") > 0


def test_tokens_that_the_reference_would_not_choose_are_wrong(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = train_and_decode.decode

    def other(*arguments: Any) -> DecodeResult:
        found = honest(*arguments)
        return DecodeResult((found.tokens + 1) % 1024, found.logits)

    monkeypatch.setattr(train_and_decode, "decode", other)
    evidence = run_check("model.serving", cpu(0), workload="qwen3-8b", tokens=3, rounds=1, narrow_prompt=8)
    assert value(evidence, "wrong_tokens") > 0


def test_quantiles_and_waiting() -> None:
    timed = Timing(tuple(float(number) for number in range(100)), 0.05)
    assert (timed.median, timed.quantile(0.99), timed.busy) == (49.5, 99.0, False)
    assert Timing((1.0,), 0.2).busy
    assert not Timing((1.0,), math.nan).busy


def test_profiles_name_one_workload_for_all_checks_of_the_model() -> None:
    checks = check_registry.shipped()
    for name in ("qwen3-dense", "qwen3-moe", "llama-dense", "deepseek-v3"):
        settings = loader.load(name, checks).settings
        named = {settings[check]["workload"] for check in ("model.fit", "model.training", "model.serving", "operators.workload")}
        assert len(named) == 1


def test_memory_that_no_stack_counts_is_not_told() -> None:
    assert steps.peak_bytes(cpu(0)) is None
    assert torch.device("cpu") == cpu(0).device


# --------------------------------------------------------------------------------------------- the largest batch, and compiled


@pytest.mark.parametrize(("fits", "served"), [(64, 64), (16, 16), (1, 1), (0, None)])
def test_the_largest_batch_is_halved_until_it_fits(fits: int, served: int | None) -> None:
    tried = []

    def serving(batch: int) -> Any:
        tried.append(batch)
        if batch > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return steps.Served(batch, 8, Timing((1.0,)), Timing((1.0,)))

    found = steps.halved(serving, 64)
    assert (found.batch if found else None) == served
    assert tried == [64 >> number for number in range(len(tried))]


def test_what_is_no_want_of_memory_passes_through() -> None:
    def serving(_: int) -> Any:
        raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="lost"):
        steps.halved(serving, 4)


def test_the_largest_batch_follows_from_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = steps.chosen_model(cpu(0), _config("llama-3.1-8b"))
    assert plan is not None
    architecture = plan.architecture
    each = 100 * 2 * (2 * architecture.layers * 2 * 2 * 16 + 1024 + 4 * 128 + 3 * 208)
    for count, expected in ((1, 1), (5, 4), (63, 32), (10**6, 1024)):
        free = int(count * each / 0.8) + 1000
        monkeypatch.setattr("readiness.accelerators.base.Accelerator.memory", lambda self, free=free: (free, 2**40))
        assert steps.largest_batch(cpu(0), plan, 100, 2) == expected
    monkeypatch.setattr("readiness.accelerators.base.Accelerator.memory", lambda self: None)
    assert steps.largest_batch(cpu(0), plan, 100, 2) == 0


def through(monkeypatch: pytest.MonkeyPatch, compiler: Any) -> Evidence:
    """Training with a compiler in place of torch.compile's."""
    monkeypatch.setattr(torch, "compile", lambda function, backend: compiler(function))
    return trained(compile_narrow=True)


def test_a_compiled_step_is_timed_beside_the_other(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = through(monkeypatch, lambda function: lambda tokens: function(tokens) * 1.0)
    assert value(evidence, "compiled_supported") == 1
    assert value(evidence, "compiled_loss_error") == 0
    ratio = value(evidence, "step_s") / value(evidence, "compiled_step_s")
    assert value(evidence, "compiled_speedup") == pytest.approx(ratio)
    other = through(monkeypatch, lambda function: lambda tokens: function(tokens) * 1.5)
    assert value(other, "compiled_loss_error") == pytest.approx(0.5)


def test_a_stack_without_a_compiler_says_so_and_errors_are_none(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise NotImplementedError("no backend for this device")

    evidence = through(monkeypatch, refuse)
    assert value(evidence, "compiled_supported") == 0
    assert values(evidence, "compiled_step_s") == []
    assert value(evidence, "supported") == 1

    def fail(_: Any) -> Any:
        raise RuntimeError("device lost")

    assert through(monkeypatch, fail).status is Status.ERROR


def test_narrow_layers_are_not_compiled_by_default(quiet: None) -> None:
    evidence = trained()
    assert values(evidence, "compiled_supported") == []
    assert any("compiled" in row for row in evidence.rows)
