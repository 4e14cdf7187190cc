"""driver.stack: seen complete, seen inconsistent, and unable to tell."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from readiness.accelerators.base import Accelerator
from tests.support import cpu, run_check, value, values
from tests.support.paths import ROOT


def _with(**facts: object) -> Accelerator:
    accelerator = cpu()
    accelerator.facts = replace(accelerator.facts, **facts)  # type: ignore[arg-type]
    return accelerator


def test_the_checks_are_listed_without_torch() -> None:
    code = "import sys; from readiness import check_registry; check_registry.discover(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "False"


def test_this_machine_is_complete_and_consistent() -> None:
    evidence = run_check("driver.stack")
    assert value(evidence, "versions_found") == 1.0
    assert value(evidence, "inconsistencies") == 0
    assert any(row.get("component") == "torch" for row in evidence.rows)


def test_a_torch_that_does_not_use_the_processor_is_inconsistent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    accelerator = _with(properties={"architecture": "x86_64", "instruction_sets": ["avx2", "fma"]})
    evidence = run_check("driver.stack", accelerator)
    assert value(evidence, "inconsistencies") == 1
    assert [row["ruling"] for row in evidence.rows if "rule" in row] == ["broken"]


def test_an_old_driver_is_inconsistent_and_named() -> None:
    software = {"torch": "2.9.0+cu130", "cuda": "13.0", "driver": "550.54.15", "cuda_driver_api": "12.4"}
    evidence = run_check("driver.stack", _with(stack="cuda", vendor="NVIDIA", software=software, properties={}))
    assert value(evidence, "inconsistencies") == 1
    [row] = [row for row in evidence.rows if row.get("ruling") == "broken"]
    assert "550.54.15" in str(row["why"])
    assert str(row["source"]).startswith("https://")


def test_a_missing_version_is_counted_and_never_called_consistent() -> None:
    software = {"torch": "2.9.0+cu130", "cuda": "13.0", "driver": None, "cuda_driver_api": None}
    evidence = run_check("driver.stack", _with(stack="cuda", vendor="NVIDIA", software=software, properties={}))
    assert value(evidence, "versions_found") == 0.5
    assert value(evidence, "undecided_rules") == 1
    assert value(evidence, "inconsistencies") == 0


def test_a_stack_without_components_has_no_share() -> None:
    evidence = run_check("driver.stack", _with(stack="novel", software={}, properties={}))
    assert values(evidence, "versions_found") == []
    assert value(evidence, "undecided_rules") == 0
