"""driver.autocast: seen working, seen wrong, and refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.support import cpu, run_check, value, values


@pytest.mark.parametrize("seed", range(5))
def test_the_host_casts_as_it_should(seed: int) -> None:
    evidence = run_check("driver.autocast", cpu(seed))
    for dtype, roundoff in (("bfloat16", 2**-8), ("float16", 2**-11)):
        assert value(evidence, "supported", dtype=dtype) == 1
        assert value(evidence, "autocast_errors", dtype=dtype) == 0
        assert 0 < value(evidence, "relative_error", dtype=dtype) < 2 * roundoff


def test_the_host_follows_the_published_lists() -> None:
    evidence = run_check("driver.autocast")
    assert values(evidence, "list_errors") == [0, 0]
    assert not any("operator" in row for row in evidence.rows)


def test_operators_that_stay_in_another_dtype_than_their_list_says_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    mse, product, joined = torch.nn.functional.mse_loss, torch.bmm, torch.cat
    monkeypatch.setattr(torch.nn.functional, "mse_loss", lambda x, y: mse(x, y).to(x.dtype))
    monkeypatch.setattr(torch, "bmm", lambda x, y: product(x, y).float())
    monkeypatch.setattr(torch, "cat", lambda tensors: joined([one.bfloat16() for one in tensors]).bfloat16())
    evidence = run_check("driver.autocast", dtypes=("bfloat16",))
    assert value(evidence, "list_errors") == 3
    (said,) = [item.about for item in evidence.measurements if item.name == "list_errors"]
    assert said == "not in the lower precision: bmm; not in float32: mse_loss; not in the widest of their inputs: cat"
    assert value(evidence, "autocast_errors") == 0


def test_an_operator_that_is_refused_is_on_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> torch.Tensor:
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(torch, "cdist", refuse)
    evidence = run_check("driver.autocast", dtypes=("bfloat16",))
    assert value(evidence, "list_errors") == 0
    assert any(row.get("operator") == "cdist" and row.get("refused") for row in evidence.rows)


def test_a_layer_that_stays_in_float32_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w: honest(x, w).float())
    evidence = run_check("driver.autocast")
    assert value(evidence, "autocast_errors", dtype="bfloat16") == 1
    assert any("a linear layer" in str(row.get("problem")) for row in evidence.rows)


def test_a_wrong_value_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.nn.functional.linear

    def wrong(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return honest(x, w) * (float("nan") if x.dtype == torch.float32 and torch.is_autocast_enabled("cpu") else 1.0)

    monkeypatch.setattr(torch.nn.functional, "linear", wrong)
    assert value(run_check("driver.autocast"), "relative_error", dtype="bfloat16") == math.inf


def test_a_step_that_raises_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> torch.Tensor:
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(torch.nn.functional, "linear", refuse)
    evidence = run_check("driver.autocast")
    assert value(evidence, "autocast_errors", dtype="float16") == 1
    assert values(evidence, "relative_error") == []


def test_a_dtype_that_autocast_does_not_know_is_unsupported_and_nothing_more() -> None:
    evidence = run_check("driver.autocast", dtypes=("int32",))
    assert value(evidence, "supported", dtype="int32") == 0
    assert values(evidence, "autocast_errors") == values(evidence, "relative_error") == []
