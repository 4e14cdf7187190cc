"""operators.sweep with forward mode: derivatives along a direction, right, wrong, not there, fatal, and not asked for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

from readiness.accelerators import sim, stack
from readiness.accelerators.base import Accelerator
from readiness.probes.operators.summary import KNOWN_DEFECT
from readiness.simulator import machine_file as chips
from tests.support import cpu, run_check, value, values
from tests.support.operators import about, detail, gelu_gradient, outcomes, sweep
from tests.support.simulator import chip, defect, inside


def only_along_a_direction(change: Callable[[], float]) -> Callable[..., torch.Tensor]:
    """The kernel that gelu's derivatives are made of, changed in float32 and forward mode alone."""

    def kernel(gradient: torch.Tensor, x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        along = forward_ad._current_level >= 0 and x.dtype == torch.float32
        return gelu_gradient(gradient * (change() if along else 1.0), x)

    return kernel


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_core_is_healthy(seed: int) -> None:
    evidence = run_check(
        "operators.sweep", cpu(seed), catalogue="core", dtypes=("float32", "bfloat16"), forward_mode=True
    )
    assert value(evidence, "forward_coverage", dtype="float32", catalogue="core") == 1.0
    assert value(evidence, "judged", dtype="float32", catalogue="core") > 100
    assert value(evidence, "forward_mode_coverage", dtype="float32", catalogue="core") == 1.0
    assert value(evidence, "forward_mode_coverage", dtype="bfloat16", catalogue="core") == 1.0
    assert outcomes(evidence) == {}


def test_forward_mode_is_not_reported_unless_requested() -> None:
    assert values(sweep(), "forward_mode_coverage") == []


def test_wrong_along_a_direction_alone(override: Callable[..., None]) -> None:
    override("gelu_backward", only_along_a_direction(lambda: 1.01))
    evidence = sweep(forward_mode=True)
    assert value(evidence, "forward_mode_coverage") == 0.75
    assert value(evidence, "forward_coverage") == value(evidence, "backward_coverage") == 1.0
    assert value(evidence, "wrong") == 0
    assert outcomes(evidence) == {"nn.functional.gelu": ("native", "forward mode")}
    assert "error" in detail(evidence, "nn.functional.gelu")
    assert about(evidence, "forward_mode_coverage") == "cpu:0: nn.functional.gelu in float32: fails in forward mode"


def test_a_crash_along_a_direction_costs_it_alone(override: Callable[..., None], capfd: Any) -> None:
    def end() -> float:
        os.kill(os.getpid(), signal.SIGSEGV)
        return 1.0

    override("gelu_backward", only_along_a_direction(end))
    evidence = sweep(forward_mode=True)
    assert outcomes(evidence) == {"nn.functional.gelu": ("crash", "forward mode")}
    assert value(evidence, "forward_coverage") == value(evidence, "backward_coverage") == 1.0
    assert value(evidence, "forward_mode_coverage") == 0.75
    assert value(evidence, "crashed") == 1


def test_a_known_defect_along_a_direction_is_told_as_one() -> None:
    """The derivative of `matrix_exp` in 16 bits is NaN, as its result is: by PyTorch's own formula."""
    evidence = sweep("matrix_exp", dtypes=("bfloat16",), forward_mode=True)
    assert outcomes(evidence) == {}
    assert value(evidence, "known_defects", dtype="bfloat16") == 1
    assert values(evidence, "forward_mode_coverage") == []  # nothing is left that could be judged
    told = next(str(row["detail"]) for row in evidence.rows if row.get("outcome") == KNOWN_DEFECT)
    assert "forward mode: gives NaN in 16 bits" in told


def test_what_forward_loses_is_due(override: Callable[..., None]) -> None:
    def absent(*arguments: Any, **keywords: Any) -> torch.Tensor:
        raise NotImplementedError("Could not run 'aten::gelu' with arguments from this backend")

    override("gelu", absent)
    evidence = sweep(forward_mode=True)
    assert value(evidence, "forward_mode_coverage") == 0.75, evidence.rows


@pytest.mark.parametrize(("planted", "share"), [((), 1.0), ((defect("missing", "_softmax_backward_data"),), 1.0)])
def test_on_simulated_chips(planted: tuple[chips.Defect, ...], share: float) -> None:
    """Softmax's derivative along a direction is made of others than its gradient: that one is missing and this is right."""

    def run() -> list[float]:
        accelerator = Accelerator(sim.facts(chip(*planted))[0], stack("sim"), seed=7)
        from tests.support import run_check

        evidence = run_check(
            "operators.sweep", accelerator, only=("mm", "softmax"), dtypes=("float32",), forward_mode=True, processes=1
        )
        return [value(evidence, "forward_mode_coverage"), value(evidence, "backward_coverage")]

    assert inside(chip(*planted), run) == [share, pytest.approx(1 / 3) if planted else 1.0]
