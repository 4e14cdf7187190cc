"""operators.large: right, wrong beyond a number of elements, not there, and unable to tell for want of memory or time.

A hundred thousand elements stand for 2^31 here: the same code runs with as much memory as there is.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.datamodel import Status
from readiness.probes.operators import large_ops, large_tensors
from tests.support import cpu, run_check, value, values
from tests.support.simulator import chip, defect, inside

#: One block has a million elements already: two are more than 2^20.
SMALL: dict[str, Any] = {"powers": (20,)}


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_cpu(seed: int) -> None:
    evidence = run_check("operators.large", cpu(seed), **SMALL)
    assert evidence.status is Status.MEASURED, evidence.reason
    assert {(row["operator"], row["outcome"]) for row in evidence.rows} == {(case.name, "right") for case in large_ops.CASES}
    assert value(evidence, "wrong", elements="2^20", extent="all") == 0
    assert value(evidence, "missing", elements="2^20", extent="all") == 0
    assert value(evidence, "tried", elements="2^20") == 1


def on_chip(*defects: Any, memory_gib: float = 1.0, **settings: Any) -> Any:
    """Wrong and missing with what they are about, and the operators that are not right, of a simulated chip."""
    planted = chip(*defects, memory_gib=memory_gib)

    def look() -> Any:
        from readiness import accelerators
        from readiness.accelerators import sim
        from readiness.accelerators.base import Accelerator

        evidence = run_check("operators.large", Accelerator(sim.facts(planted)[0], accelerators.stack("sim"), seed=7),
                             **(SMALL | settings))  # fmt: skip
        assert evidence.status is Status.MEASURED, evidence.reason
        counts = {
            f"{item.name} {item.labels['extent']}": [item.value, item.about] for item in evidence.measurements if "extent" in item.labels
        }
        bad = {str(row["operator"]): [row["outcome"], row["detail"]] for row in evidence.rows if row["outcome"] != "right"}
        return {"counts": counts, "bad": bad}

    return inside(planted, look, limit_s=200.0)


def test_a_healthy_chip() -> None:
    found = on_chip()
    assert found == {"counts": {"wrong all": [0, None], "missing all": [0, None]}, "bad": {}}


@pytest.mark.parametrize(
    ("planted", "operator"),
    [
        (defect("wrong-tail", "silu", numel_over=2**20), "silu"),
        (defect("wrong-result", "cumsum", severity=1.0, numel_over=2**20), "cumsum"),
        (defect("wrong-gradient", "bmm", severity=1.0, numel_over=2**20), "bmm"),
        (defect("wrong-gradient", "_softmax_backward_data", severity=1.0, numel_over=2**20), "softmax"),
        (defect("wrong-result", "max_pool*", severity=1.0, numel_over=2**20), "max_pool2d"),
        (defect("wrong-result", "upsample_nearest2d", severity=1.0, numel_over=2**19), "upsample_nearest2d"),
        (defect("wrong-result", "mul.Tensor", severity=0.5, numel_over=2**20), "mul"),
        (defect("zero-result", "cat", numel_over=2**20), "cat"),
        (defect("unwritten", "masked_fill_*", numel_over=2**20), "masked_fill_"),
        (defect("unwritten", "index_copy_", numel_over=2**20), "index_copy_"),
        (defect("wrong-result", "_softmax", severity=0.5, numel_over=2**20), "softmax"),
        (defect("wrong-result", "native_layer_norm", severity=0.5, numel_over=2**20), "layer_norm"),
        (defect("wrong-result", "native_layer_norm", severity=0.5, rows_over=4099), "layer_norm.rows"),
        (defect("wrong-result", "mm", severity=0.5, numel_over=2**20), "linear"),
        (defect("wrong-gradient", "_log_softmax_backward_data", severity=0.5, numel_over=2**20), "cross_entropy"),
        (defect("zero-result", "index_select", numel_over=2**20), "index_select"),
        (defect("zero-result", "sum.dim_IntList", numel_over=2**20), "sum.rows"),
        (defect("zero-result", "argmax", numel_over=2**20), "argmax"),
        (defect("nan", "neg", numel_over=2**20), "neg"),
    ],
)  # fmt: skip
def test_wrong_beyond_a_number_of_elements(planted: Any, operator: str) -> None:
    """Tried alone; among all the others below."""
    found = on_chip(planted, only=(operator,))
    assert {name: outcome for name, (outcome, _) in found["bad"].items()} == {operator: "wrong"}, found
    count, about = found["counts"]["wrong chosen"]
    assert count == 1
    assert operator in about


def test_several_wrong_ones_among_all_are_counted_and_named() -> None:
    found = on_chip(
        defect("wrong-tail", "silu", numel_over=2**20), defect("zero-result", "index_select", numel_over=2**20),
        defect("wrong-gradient", "_softmax_backward_data", severity=1.0, numel_over=2**20),
    )  # fmt: skip
    bad = {name for name, (outcome, _) in found["bad"].items() if outcome == "wrong"}
    assert bad >= {"silu", "index_select", "softmax"}
    count, about = found["counts"]["wrong all"]
    assert count == len(found["bad"]) == len(bad) < len(large_ops.CASES) / 2
    assert all(operator in about for operator in bad)


def test_a_refusal_is_missing() -> None:
    found = on_chip(defect("missing", "silu", numel_over=2**20))
    assert found["bad"]["silu"][0] == "missing"
    assert found["counts"]["missing all"][0] == 1
    assert found["counts"]["wrong all"][0] == 0


def test_a_lost_device_is_blamed_on_no_other() -> None:
    found = on_chip(defect("device-lost", "neg"))
    outcomes = {name: (outcome, detail) for name, (outcome, detail) in found["bad"].items()}
    assert outcomes["neg"][0] == "missing"
    assert "it left the device unusable" in outcomes["neg"][1]
    assert found["counts"]["missing all"][0] == 1
    assert found["counts"]["wrong part"][0] == 0, "what was not computed is not right"
    later = [detail for name, (_, detail) in outcomes.items() if name != "neg"]
    assert later
    assert all("the device was lost in neg" in detail for detail in later)


def test_unable_for_want_of_memory() -> None:
    found = on_chip(memory_gib=0.006)
    assert {outcome for outcome, _ in found["bad"].values()} == {"not tried"}
    assert "free are" in found["bad"]["cross_entropy"][1]
    assert set(found["counts"]) == {"wrong part", "missing part"}


def test_a_failed_part_fails_the_whole() -> None:
    found = on_chip(defect("zero-result", "argmax", numel_over=2**20), memory_gib=0.006)
    assert found["counts"]["wrong all"][0] == 1


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "missing"),
        (RuntimeError("NPU error: the address is out of range of global memory"), "missing"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes"), "not tried"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB"), "not tried"),
        (MemoryError(), "not tried"),
    ],
)
def test_an_illegal_access_is_no_want_of_memory(
    problem: Exception, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> large_tensors.Wrong:
        raise problem

    monkeypatch.setattr(large_ops, "CASES", (large_ops.Large("copy", 2, fails), large_ops.CASES[1]))
    evidence = run_check("operators.large", **SMALL)
    assert [row["outcome"] for row in evidence.rows] == [outcome, "right"]
    assert values(evidence, "missing", extent="all") == ([1] if outcome == "missing" else [])


def test_unable_for_want_of_time() -> None:
    evidence = run_check("operators.large", **SMALL, budget_s=0.0)
    assert evidence.status is Status.MEASURED
    assert value(evidence, "tried", elements="2^20") == 0
    assert values(evidence, "wrong") == values(evidence, "missing") == []


def test_a_slip_is_an_error() -> None:
    evidence = run_check("operators.large", only=("softmin",), **SMALL)
    assert evidence.status is Status.ERROR
    assert "softmin" in (evidence.reason or "")


@pytest.mark.parametrize("power", [15, 16])
def test_an_index_that_lost_its_upper_bits_is_seen_everywhere(power: int) -> None:
    """What a narrow index reads instead is another element, wherever it wraps."""
    block = torch.randn(large_tensors.ROWS, 8, generator=torch.Generator().manual_seed(1))
    whole = large_tensors.repeated(block, 10 * large_tensors.ROWS).view(-1)
    wrapped = whole[torch.arange(whole.numel()) % 2**power].view(-1, 8)
    found = large_tensors.against(wrapped, block)
    unsupported_ops = max(0, whole.numel() - 2**power)
    assert found.count == unsupported_ops
    assert found.index == (2**power if unsupported_ops else -1)
    assert not large_tensors.against(whole.view(-1, 8), block).count


def test_what_is_no_number_is_wrong_whatever_the_tolerance() -> None:
    block = torch.ones(large_tensors.ROWS, 4)
    whole = large_tensors.repeated(block, 2 * large_tensors.ROWS)
    whole[300, 2] = float("nan")
    found = large_tensors.against(whole, block, 10.0)
    assert (found.count, found.index) == (1, 300 * 4 + 2)
