"""throughput: seen measuring, seen slow or wrong, and refused. No figure is compared with a clock."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readiness import check_registry
from readiness.accelerators.rated_figures import Rated
from readiness.datamodel import Evidence, Measurement, Outcome, Status, Use
from readiness.judging.judge import judge
from readiness.probes.throughput import rate_baselines
from readiness.probes.throughput.gemm import Chain
from readiness.probes.throughput.rate_baselines import Beside, is_steady, timer_ratio
from readiness.probes.throughput.timing import Timing, repeat
from readiness.profile import loader
from tests.support import build, cpu, run_check, value, values

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


def test_timing_reports_rates_and_how_far_another_run_may_be_off() -> None:
    timing = Timing((1.0, 2.0, 4.0))
    assert timing.rate(8) == 4
    assert timing.spread(8) == 6, "of a few samples all"
    assert Timing((1.0,)).spread(8) == 0
    many = tuple(1 / rate for rate in range(1, 10))
    assert Timing(many).spread(1) == pytest.approx(4), "of many the quartiles, from 3 to 7"
    assert Timing(many, 0.9).spread(1) == pytest.approx(4), "waiting of the host does not interrupt a device of its own"
    assert Timing(many, interrupted=0.2).spread(1) == pytest.approx(5), "and a fifth of the median, which is 5"
    assert Timing(many, interrupted=1.8).spread(1) == pytest.approx(9), "of two threads, each nearly always"
    assert Timing(many, interrupted=math.nan).spread(1) == pytest.approx(4)


@pytest.mark.parametrize(("backed", "interrupted"), [(True, 0.25), (False, 0.0)])
def test_a_busy_host_interrupts_what_its_own_processors_compute(backed: bool, interrupted: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from readiness.probes.throughput import timing

    monkeypatch.setattr(timing, "sampled", lambda *_, **__: Timing((1.0, 1.0), 0.25))
    device: Any = SimpleNamespace(
        device=SimpleNamespace(type="sim" if backed else "cuda"), synchronize=lambda: None,
        stack=SimpleNamespace(host_backed=backed, module=lambda: SimpleNamespace()),
    )  # fmt: skip
    found = timing.measured(device, lambda: None, budget_s=0.0)
    assert (found.waited, found.interrupted) == (0.25, interrupted)


def test_every_sample_waits_for_the_device() -> None:
    log: list[str] = []
    timing = repeat(lambda: log.append("work"), lambda: log.append("wait"), budget_s=0, least=3)
    assert len(timing.seconds) == 3
    assert log[0] == "work"
    assert log[1] == "wait"
    assert log[-1] == "wait"


# ------------------------------------------------------------------------------------------------------------ yardsticks


def rated_as(monkeypatch: pytest.MonkeyPatch, **figures: Any) -> None:
    monkeypatch.setattr("readiness.accelerators.base.Accelerator.rated", lambda self: Rated("a test", "2026-11-30", **figures))


def test_without_rated_figures_the_rate_alone_is_reported() -> None:
    evidence = run_check("throughput.matmul", dtypes=("float32",), **QUICK)
    assert values(evidence, "tflops")
    assert values(evidence, "share_of_rated") == []


def test_a_rate_is_held_against_the_rated_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rated_as(monkeypatch, tflops={"float32": 1e-9})
    evidence = run_check("throughput.matmul", **QUICK)
    assert value(evidence, "share_of_rated", dtype="float32") > 1.05
    assert values(evidence, "share_of_rated", dtype="bfloat16") == []


@pytest.mark.parametrize(("share", "failing"), [(0.8, set()), (0.2, {"matmul-meets-rating-float32"}), (1.5, {"matmul-not-above-rating-float32"})])
def test_far_below_the_rating_is_poor_and_above_it_suspect(share: float, failing: set[str]) -> None:
    facts = build.facts(stack="cuda")
    seen = Evidence("throughput.matmul", Status.MEASURED, measurements=(Measurement("share_of_rated", share, {"dtype": "float32"}),))
    judged = judge(loader.load("general", check_registry.shipped()), facts, [seen], uses=[Use.TRAINING])
    found = {item.requirement: item.outcome for item in judged.findings if "rating-float32" in item.requirement}
    assert {name for name, outcome in found.items() if outcome is Outcome.FAIL} == failing
    unknown = {item.outcome for item in judged.findings if item.requirement == "matmul-meets-rating-bfloat16"}
    assert unknown == {Outcome.UNKNOWN}


def test_memory_is_held_against_its_rating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readiness.accelerators.base.Accelerator.memory", lambda self: (2**30, 56 * 2**30))
    rated_as(monkeypatch, memory_bytes=64 * 2**30, memory_gbps=1e-6)
    evidence = run_check("throughput.memory", host_mib=4, budget_s=0.02)
    assert value(evidence, "capacity_share") == 0.875
    assert value(evidence, "share_of_rated") > 1


@pytest.mark.parametrize(("waited", "busy"), [(0.0, False), (0.09, False), (0.11, True), (math.nan, True)])
def test_a_busy_host_or_one_that_says_nothing_makes_no_comparison(waited: float, busy: bool) -> None:
    assert Beside(1.0, 0.85, waited).busy is busy
    assert Beside(1.0, 0.85, waited).share == 0.85


def test_a_best_that_comes_again_counts_even_on_a_busy_host() -> None:
    assert is_steady([1.0, 1.02, 5.0, 7.0])
    assert not is_steady([1.0, 1.2, 5.0, 7.0])
    assert not is_steady([1.0])
    assert not Beside(1.0, 0.85, 0.7, steady=True).busy
    assert Beside(1.0, 0.85, 0.7, steady=False).busy


def test_on_a_busy_host_the_better_of_two_estimates_counts() -> None:
    assert Beside(1.0, 0.85, 0.02, usual=0.97).share == 0.85, "on a quiet one the best says it"
    assert Beside(1.0, 0.85, 0.5, steady=True, usual=0.97).share == 0.97
    assert Beside(1.0, 0.85, 0.5, steady=True, usual=0.84).share == 0.85, "slow by both"


def test_turns_give_both_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([2.0, 1.0, 4.0, 3.0, 2.0, 1.8])
    monkeypatch.setattr(rate_baselines, "once", lambda work, synchronize: next(taken))
    found = rate_baselines.beside_host(lambda: None, lambda: None, lambda: None, turns=3)
    assert (found.device_s, found.host_s, found.usual) == (2.0, 1.0, 0.75)


def test_events_without_times_say_nothing() -> None:
    class Event:
        def __init__(self, **_: Any) -> None:
            raise TypeError("no times here")

    for module in (SimpleNamespace(), SimpleNamespace(Event=Event)):
        accelerator = cpu(0)
        accelerator.stack = SimpleNamespace(module=lambda module=module: module)  # type: ignore[assignment]
        assert timer_ratio(accelerator, lambda: None, 0.001) is None
