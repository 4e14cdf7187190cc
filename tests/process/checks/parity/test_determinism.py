"""parity.determinism on a healthy CPU, on planted noise, and where nothing can be told."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch

from readiness.datamodel import Status
from readiness.probes.parity import determinism
from tests.support import cpu, run_check, value, values
from tests.support.parity import Change, Defect, Tensor, refuse

OPERATIONS = {"matmul", "attention", "sum", "scatter", "training_step"}


@pytest.mark.parametrize("seed", range(2))
def test_a_healthy_cpu_gives_the_same_bits(seed: int) -> None:
    evidence = run_check("parity.determinism", cpu(seed), repeats=4)
    assert values(evidence, "distinct_results") == [1] * 4 * len(OPERATIONS)
    assert {item.labels["op"] for item in evidence.measurements} == OPERATIONS
    assert not torch.are_deterministic_algorithms_enabled()


def every_fifth_call_differs() -> Change:
    """One bit of one element, in every fifth call."""
    calls = itertools.count(1)

    def change(function: Any, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = function(*args, **kwargs)
        if next(calls) % 5 == 0:
            other = out.detach().clone().contiguous()
            bits = other.view(-1).view(torch.int16 if out.dtype == torch.bfloat16 else torch.int32)
            bits[bits.numel() // 2] ^= 1
            out = out + (other - out).detach()
        return out

    return change


@pytest.mark.parametrize(
    ("name", "ops"),
    [
        ("matmul", {"matmul"}),
        ("scaled_dot_product_attention", {"attention", "training_step"}),
        ("index_add", {"scatter"}),
        ("sum", {"sum"}),
    ],
)
def test_a_single_bit_that_changes_is_seen(name: str, ops: set[str]) -> None:
    with Defect([name], every_fifth_call_differs()):
        evidence = run_check("parity.determinism", dtypes=("float32", "bfloat16"), modes=("default",), repeats=6)
    for op in OPERATIONS:
        for dtype in ("float32", "bfloat16"):
            distinct = value(evidence, "distinct_results", op=op, dtype=dtype, mode="default")
            assert (distinct > 1) == (op in ops), (op, dtype)


def test_a_missing_dtype_is_a_measurement() -> None:
    with Defect(["scaled_dot_product_attention"], refuse(torch.bfloat16)):
        evidence = run_check("parity.determinism", dtypes=("bfloat16",), modes=("default",), repeats=2)
    assert evidence.status is Status.MEASURED
    assert value(evidence, "supported", op="attention") == 0
    assert values(evidence, "distinct_results", op="attention") == []
    assert values(evidence, "distinct_results", op="matmul") == []  # a part proves nothing of the whole
    with Defect(["scaled_dot_product_attention"], refuse(torch.bfloat16)):
        evidence = run_check("parity.determinism", dtypes=("bfloat16", "float32"), modes=("default",), repeats=2)
    assert set(values(evidence, "distinct_results")) == {1}
    assert {item.labels["dtype"] for item in evidence.measurements if item.name == "distinct_results"} == {"float32"}


def test_what_has_no_deterministic_algorithm_is_named() -> None:
    def change(function: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.are_deterministic_algorithms_enabled():
            warnings.warn("index_add does not have a deterministic implementation", stacklevel=2)
        return function(*args, **kwargs)

    with Defect(["index_add"], change):
        evidence = run_check("parity.determinism", dtypes=("float32",), repeats=2)
    warned = {(row["op"], row["mode"]): row["warnings"] for row in evidence.rows}
    assert warned["scatter", "deterministic"] == ["index_add does not have a deterministic implementation"]
    assert warned["scatter", "default"] == []


def test_the_setting_is_restored_after_an_error() -> None:
    torch.use_deterministic_algorithms(False)
    with pytest.raises(ZeroDivisionError), determinism.deterministic(True):
        raise ZeroDivisionError
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_algorithms_are_requested_even_if_there_are_none() -> None:
    def lacking(function: Any, *arguments: Any, **options: Any) -> Any:
        if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RuntimeError("attention does not have a deterministic implementation, but you set ...")
        return function(*arguments, **options)

    with Defect(["scaled_dot_product_attention"], lacking):
        evidence = run_check("parity.determinism", dtypes=("float32",), modes=("deterministic",), repeats=2)
    assert {row["op"]: row["strict"] for row in evidence.rows} == {
        "matmul": True, "attention": False, "sum": True, "scatter": True, "training_step": False,
    }  # fmt: skip
    assert set(values(evidence, "distinct_results")) == {1}
    assert value(evidence, "supported", op="attention") == 1
