"""parity.recomputation on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.utils.checkpoint

from readiness.datamodel import Evidence, Status
from readiness.probes.parity import activation_checkpointing
from tests.support import cpu, run_check, value, values
from tests.support.parity import Defect, Tensor, refuse


@pytest.fixture(autouse=True)
def _host_numbers() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    torch.set_rng_state(before)


def broken(evidence: Evidence, **labels: str) -> set[str]:
    return {
        row["promise"]
        for row in evidence.rows
        if row.get("kept") is False and labels.items() <= {key: row[key] for key in labels}.items()
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_cpu_does_the_same_again(seed: int) -> None:
    before = torch.get_rng_state()
    evidence = run_check("parity.recomputation", cpu(seed))
    assert evidence.status is Status.MEASURED, evidence.reason
    assert values(evidence, "supported") == [1] * 4
    assert values(evidence, "broken_promises") == [0] * 4
    assert values(evidence, "gradient_error") == [0] * 4
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_by_another_mask_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    evidence = run_check("parity.recomputation")
    for mode in activation_checkpointing.MODES:
        assert {f"dropout of block {index} leaves the same elements" for index in (0, 1)} <= broken(evidence, mode=mode)
    assert min(values(evidence, "gradient_error")) > 0.1


def test_numbers_that_are_put_back_too_far_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the backward pass the generator stands where it stood before the block: the next step draws the same again."""
    restore, states = torch.set_rng_state, []

    def put_back(state: Tensor) -> None:
        states.append(state)
        restore(states[0])

    monkeypatch.setattr(torch, "set_rng_state", put_back)
    evidence = run_check("parity.recomputation", dtypes=("float32",))
    assert "random numbers continue as without it" in broken(evidence)


def test_a_block_that_runs_again_in_another_precision_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    off = {"enabled": False, "dtype": torch.bfloat16, "cache_enabled": True}
    monkeypatch.setattr(torch.utils.checkpoint, "_get_autocast_kwargs", lambda *args, **kwargs: (off, off))
    evidence = run_check("parity.recomputation", dtypes=("bfloat16", "float32"))
    otherwise = {"autocast of block 0 is the same", "autocast of block 1 is the same"}
    assert broken(evidence, dtype="bfloat16", mode="reentrant") == otherwise
    assert value(evidence, "gradient_error", dtype="bfloat16", mode="reentrant") > 1e-4
    # Where blocks do not re-enter torch compares what it saved with what it gets, and stops.
    stopped = broken(evidence, dtype="bfloat16", mode="non-reentrant")
    assert any(text.startswith("torch finds no mismatch: ") for text in stopped)
    assert values(evidence, "gradient_error", dtype="bfloat16", mode="non-reentrant") == []
    assert broken(evidence, dtype="float32") == set()


def test_a_gradient_that_is_otherwise_the_second_time_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    silu = torch.nn.functional.silu

    def change(x: Tensor) -> Tensor:
        calls.append(1)
        return silu(x) * (1.2 if len(calls) > 4 else 1.0)  # two blocks that are kept, and two more for the first time

    monkeypatch.setattr(torch.nn.functional, "silu", change)
    evidence = run_check("parity.recomputation", dtypes=("float32",))
    assert value(evidence, "gradient_error", mode="reentrant") > 0.01
    assert values(evidence, "broken_promises") == [0, 0]


def test_a_missing_operator_is_a_measurement() -> None:
    with Defect(["silu"], refuse(torch.float32, torch.bfloat16)):
        evidence = run_check("parity.recomputation")
    assert evidence.status is Status.MEASURED
    assert values(evidence, "supported") == [0] * 4
    assert values(evidence, "broken_promises") == []
    assert values(evidence, "gradient_error") == []


def test_errors_of_the_device_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError("the device has been lost")

    monkeypatch.setattr(torch.nn.functional, "dropout", fail)
    evidence = run_check("parity.recomputation")
    assert evidence.status is Status.ERROR
    assert evidence.measurements == ()
