"""driver.random: seen sound, seen broken, and refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.support import cpu, run_check, value, values


@pytest.mark.parametrize("seed", range(8))
def test_the_host_keeps_its_promises(seed: int) -> None:
    evidence = run_check("driver.random", cpu(seed))
    assert value(evidence, "generator_supported") == 1
    assert value(evidence, "reproducibility_failures") == 0
    errors = values(evidence, "moment_error")
    assert len(errors) == 4
    assert max(errors) < 5


def test_the_hosts_own_state_is_put_back() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run_check("driver.random")
    assert torch.equal(torch.rand(4), expected)


def test_a_seed_that_is_ignored_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, entropy = torch.randn, torch.Generator()

    def restless(*size: int, generator: Any = None, device: Any = None) -> torch.Tensor:
        return honest(*size, generator=entropy)

    monkeypatch.setattr(torch, "randn", restless)
    evidence = run_check("driver.random")
    assert value(evidence, "reproducibility_failures") == 4  # same seed and restored state, of both generators


def test_a_generator_that_stands_still_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn", lambda *size, **_: torch.ones(*size) / 2)
    evidence = run_check("driver.random")
    assert value(evidence, "reproducibility_failures") == 4  # it repeats itself, whatever the seed
    assert value(evidence, "moment_error", distribution="normal") > 100


def test_a_wrong_rate_of_dropout_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.nn.functional.dropout
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p: honest(x, p * 1.05) * (1 - p * 1.05) / (1 - p))
    evidence = run_check("driver.random")
    assert value(evidence, "moment_error", distribution="dropout") > 5
    assert value(evidence, "moment_error", distribution="normal") < 5


def test_numbers_out_of_range_are_infinitely_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *size, **rest: honest(*size, **rest) * 1.5)
    assert value(run_check("driver.random"), "moment_error", distribution="uniform") == math.inf


def test_a_device_without_its_own_generators_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.Generator

    def refuse(device: Any = None) -> torch.Generator:
        if device is not None:
            raise RuntimeError("this device has no generator")
        return honest()

    monkeypatch.setattr(torch, "Generator", refuse)
    evidence = run_check("driver.random")
    assert value(evidence, "generator_supported") == 0
    assert value(evidence, "reproducibility_failures") == 0
    assert any(row.get("refused") for row in evidence.rows)


def test_a_distribution_that_is_refused_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> torch.Tensor:
        raise NotImplementedError("bernoulli_")

    monkeypatch.setattr(torch.Tensor, "bernoulli_", refuse)
    assert values(run_check("driver.random"), "moment_error", distribution="bernoulli") == []
