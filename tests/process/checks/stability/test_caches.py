"""stability.caches: seen keeping nothing, seen growing with lengths and with numbers, and unable to tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from readiness.datamodel import Evidence
from readiness.probes.stability import cache_growth
from tests.support import cpu, run_check, value, values

LIMIT = 4096  # of `general`


def kept(evidence: Evidence, over: str) -> float:
    return value(evidence, "kept_bytes", over=over, memory="host")


def test_the_host_keeps_nothing() -> None:
    evidence = run_check("stability.caches", cpu(3))
    assert kept(evidence, "lengths") < LIMIT
    assert kept(evidence, "numbers") < LIMIT
    assert values(evidence, "kept_bytes", memory="device") == []  # the host's memory is the device's


def test_a_cache_by_length_is_told_from_one_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: dict[Any, bytearray] = {}
    honest = functional.softmax

    def planned(x: torch.Tensor, dim: int) -> torch.Tensor:
        plans.setdefault((x.shape, dim), bytearray(b"x" * 2**16))
        return honest(x, dim)

    monkeypatch.setattr(functional, "softmax", planned)
    evidence = run_check("stability.caches")
    assert kept(evidence, "lengths") > LIMIT
    assert kept(evidence, "numbers") < LIMIT


def test_a_cache_by_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: dict[float, bytearray] = {}
    honest = functional.softplus

    def planned(x: torch.Tensor, beta: float) -> torch.Tensor:
        plans.setdefault(beta, bytearray(b"x" * 2**16))
        return honest(x, beta=beta)

    monkeypatch.setattr(functional, "softplus", planned)
    evidence = run_check("stability.caches")
    assert kept(evidence, "numbers") > LIMIT
    assert kept(evidence, "lengths") < LIMIT


def test_a_cache_with_a_bound_that_was_reached_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: dict[Any, bytearray] = {}
    honest = functional.softmax

    def planned(x: torch.Tensor, dim: int) -> torch.Tensor:
        if len(plans) < 50:
            plans.setdefault((x.shape, dim), bytearray(b"x" * 2**16))
        return honest(x, dim)

    monkeypatch.setattr(functional, "softmax", planned)
    assert kept(run_check("stability.caches"), "lengths") < LIMIT


def test_an_operation_that_is_missing_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise NotImplementedError("conv1d on this device")

    monkeypatch.setattr(functional, "conv1d", missing)
    assert kept(run_check("stability.caches"), "lengths") < LIMIT


def test_a_memory_that_runs_full_still_tells_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[bytearray] = []
    honest = functional.softmax

    def planned(x: torch.Tensor, dim: int) -> torch.Tensor:
        if len(plans) == 170:
            raise torch.OutOfMemoryError("no memory is left")
        plans.append(bytearray(b"x" * 2**16))
        return honest(x, dim)

    monkeypatch.setattr(functional, "softmax", planned)
    evidence = run_check("stability.caches")
    assert kept(evidence, "lengths") > LIMIT
    assert kept(evidence, "numbers") < LIMIT


def test_lengths_and_numbers_never_come_twice() -> None:
    draw = torch.Generator().manual_seed(5)
    for chosen in (cache_growth.lengths(300, draw), cache_growth.numbers(300, draw)):
        assert len(set(chosen)) == len(chosen) == 301
    assert cache_growth.lengths(300, draw)[0] == max(cache_growth.lengths(300, draw))
