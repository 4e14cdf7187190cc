"""Yardsticks on simulated chips: a healthy one, one that is slower by 15 %, one with less memory, and one whose timer is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from readiness import check_registry
from readiness.datamodel import Evidence, Outcome, Status
from readiness.documents.assessment import evidence_from_json, evidence_to_json
from readiness.judging.judge import judge
from readiness.profile import loader
from readiness.simulator import machine_file
from readiness.simulator.faults import kinds
from tests.support import build, run_check, value, values
from tests.support.simulator import chip, defect, inside


def seen(check: str, *defects: Any, **settings: Any) -> Evidence:
    """The evidence of a check on a simulated chip."""

    def run() -> Any:
        from readiness import accelerators
        from readiness.accelerators.base import Accelerator
        from readiness.accelerators.sim import facts

        return evidence_to_json(run_check(check, Accelerator(facts(machine)[0], accelerators.stack("sim")), **settings))

    machine = chip(*defects, memory_gib=0.5)
    evidence = evidence_from_json(inside(machine, run, seed=7))
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


PRODUCTS: dict[str, Any] = {"dtypes": ("float32",), "budget_s": 0.05, "largest": 512}


@pytest.mark.parametrize(("defects", "ratio"), [((), 1.0), ((defect("wrong-figure", "event::elapsed_time", severity=0.5),), 0.5)])
def test_a_timer_that_is_wrong_disagrees_with_the_hosts_clock(defects: tuple[Any, ...], ratio: float) -> None:
    assert value(seen("throughput.matmul", *defects, **PRODUCTS), "timer_ratio") == pytest.approx(ratio, rel=0.2)


def test_a_slow_chip_is_slower_than_the_host_or_the_host_is_busy() -> None:
    found = seen("throughput.matmul", defect("slow", "mm", severity=0.1), **PRODUCTS)
    shares = values(found, "share_of_host")
    said = [row for row in found.rows if "share_of_host" in row]
    assert bool(shares) is not bool(said), "either a share or why there is none"
    assert all(share < 0.75 for share in shares)


@pytest.mark.parametrize(("defects", "share"), [((), 1.0), ((defect("less-memory", severity=0.875),), 0.875)])
def test_less_memory_than_the_chip_is_sold_with(defects: tuple[Any, ...], share: float) -> None:
    found = seen("throughput.memory", *defects, device_mib=8, budget_s=0.02)
    assert value(found, "capacity_share") == pytest.approx(share)


# -------------------------------------------------------------------------------------- by a clock that counts planted delays


def counted(name: str, check: str, **settings: Any) -> Evidence:
    """The evidence of a check on a shipped chip, by a clock on which each call takes a second and each planted delay four.

    What the host does beside the test then changes nothing.
    """

    def run() -> Any:
        from types import SimpleNamespace

        from readiness import accelerators
        from readiness.accelerators.base import Accelerator
        from readiness.accelerators.sim import facts
        from readiness.probes.throughput import rate_baselines, timing
        from readiness.simulator.faults import speed

        delays: list[float] = []

        def once(work: Any, synchronize: Any, *_: Any) -> float:
            before = len(delays)
            work()
            synchronize()
            return 1.0 + 4.0 * (len(delays) - before)

        fakes: list[tuple[Any, str, Any]] = [
            (speed, "time", SimpleNamespace(sleep=delays.append)), (rate_baselines, "once", once),
            *((module, "in_line_s", lambda: 0.0) for module in (rate_baselines, timing)),
            *((module, "is_reported", lambda: True) for module in (rate_baselines, timing)),
        ]  # fmt: skip
        for module, attribute, fake in fakes:
            setattr(module, attribute, fake)
        return evidence_to_json(run_check(check, Accelerator(facts(machine)[0], accelerators.stack("sim")), **settings))

    machine = machine_file.load(machine_file.names()[name], set(kinds()))
    evidence = evidence_from_json(inside(machine, run, seed=7))
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def outcomes(evidence: Evidence, profile: str) -> dict[str, Outcome]:
    """How the requirements of a profile that rest on a host's pace come out."""
    judged = judge(loader.load(profile, check_registry.shipped()), build.facts(stack="sim"), [evidence])
    return {item.requirement: item.outcome for item in judged.findings if item.check == evidence.check and item.measure == "share_of_host"}


SERVING: dict[str, Any] = {"workload": "qwen3-8b", "narrow_prompt": 64, "tokens": 2, "rounds": 1, "batches": (1,)}


def test_a_chip_that_is_slow_at_decoding_alone_is_caught_and_named() -> None:
    found = counted("slow-at-decoding", "model.serving", **SERVING)
    assert value(found, "share_of_host", phase="prefill") == 1
    assert value(found, "share_of_host", phase="decode") == pytest.approx(1 / 17), "a delay in each of four layers"
    assert outcomes(found, "qwen3-dense") == {"decode-keeps-host-pace": Outcome.FAIL, "prefill-keeps-host-pace": Outcome.PASS}
    honest = counted("healthy", "model.serving", **SERVING)
    assert set(values(honest, "share_of_host")) == {1.0}
    assert outcomes(honest, "qwen3-dense") == {"decode-keeps-host-pace": Outcome.PASS, "prefill-keeps-host-pace": Outcome.PASS}


def test_products_and_attention_of_a_slower_chip_fall_behind_the_hosts() -> None:
    slow = counted("slower-by-15-percent", "throughput.products", workload="qwen3-8b", budget_s=0.01)
    assert values(slow, "share_of_host", kind="matrices") == pytest.approx([1 / 5] * 3)
    assert set(values(slow, "timed_share")) == {1.0}
    decoding = counted("slow-at-decoding", "throughput.attention", workload="qwen3-8b", budget_s=0.01)
    assert value(decoding, "share_of_host", phase="decode") == pytest.approx(1 / 5)
    assert value(decoding, "share_of_host", phase="prefill") == 1
    assert value(decoding, "share_of_host", phase="backward") == 1
    prefix = "attention-keeps-host-pace-"
    assert outcomes(decoding, "qwen3-dense") == {f"{prefix}decode": Outcome.FAIL, f"{prefix}prefill": Outcome.PASS}


@pytest.mark.parametrize(("name", "share"), [("healthy", 1.0), ("less-memory", 0.875)])
def test_what_can_be_allocated_is_held_against_what_was_bought(name: str, share: float) -> None:
    found = counted(name, "throughput.allocator", mib=1, fragments_mib=32, budget_s=0.01)
    assert value(found, "allocatable_share", of="rated") == pytest.approx(share, abs=0.02)
    assert value(found, "allocatable_share", of="reported") == pytest.approx(1, abs=0.02)
    assert 0 < value(found, "returned_share") <= 1


def test_operations_on_a_chips_memory_are_right_and_no_launch_is_lost() -> None:
    assert value(counted("healthy", "throughput.stream", device_mib=8, budget_s=0.02), "wrong_values") == 0
    assert value(counted("healthy", "throughput.launch", budget_s=0.02), "lost_calls") == 0
