"""parity.matmul on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from readiness.datamodel import Status
from tests.support import cpu, run_check, value, values
from tests.support.parity import Change, Defect, Tensor, refuse, spoil, violations

LIMITS = {
    ("bound_ratio",): 2.0,
    ("relative_error", "float32"): 1e-5,
    ("relative_error", "bfloat16"): 3e-3,
    ("relative_error", "float16"): 4e-4,
}
PRODUCTS = ("matmul", "mm", "bmm", "linear")


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_cpu_keeps_the_limits(seed: int) -> None:
    evidence = run_check("parity.matmul", cpu(seed), dtypes=("float32", "bfloat16", "float16"))
    assert violations(evidence, LIMITS) == []
    assert values(evidence, "supported") == [1.0] * 6


def test_8_bit_floats_are_measured_or_reported_as_missing() -> None:
    evidence = run_check("parity.matmul", dtypes=("float8_e4m3fn",))
    supported = value(evidence, "supported", dtype="float8_e4m3fn", op="scaled_mm")
    assert supported in (0.0, 1.0)
    assert len(values(evidence, "bound_ratio")) == supported


def inputs_cut(keep: Any) -> Change:
    def change(function: Any, a: Tensor, b: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        if a.dtype == torch.float32:
            a, b = keep(a), keep(b)
        result: Tensor = function(a, b, *rest, **kwargs)
        return result

    return change


def to_tf32(x: Tensor) -> Tensor:
    return (x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


def one_element_off(out: Tensor) -> Tensor:
    out.view(-1)[out.abs().argmax()] *= 1.01
    return out


def one_nan(out: Tensor) -> Tensor:
    out.view(-1)[out.numel() // 2] = math.nan
    return out


def row_of_zeros(out: Tensor) -> Tensor:
    out[..., 0, :] = 0
    return out


def accumulated_in_blocks(function: Any, a: Tensor, b: Tensor, *rest: Any) -> Tensor:
    total = torch.zeros(())
    for start in range(0, a.shape[-1], 64):
        partial = a[..., start : start + 64] @ b[..., start : start + 64, :]
        total = (total + partial).bfloat16()
    return total.to(a.dtype)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (inputs_cut(to_tf32), {"float32"}),
        (inputs_cut(lambda x: x.bfloat16().float()), {"float32"}),
        (spoil(one_element_off), {"float32", "bfloat16"}),
        (spoil(one_nan), {"float32", "bfloat16"}),
        (spoil(row_of_zeros), {"float32", "bfloat16"}),
        (spoil(lambda out: out * 1.004), {"float32", "bfloat16"}),
        (spoil(lambda out: out.mT), {"float32", "bfloat16"}),
        (spoil(lambda out: out.double()), {"float32", "bfloat16"}),
        (accumulated_in_blocks, {"float32", "bfloat16"}),
    ],
    ids=["tf32", "bf16 inputs", "one element", "one NaN", "row of zeros", "factor", "shape", "dtype", "accumulator"],
)
def test_a_wrong_product_is_seen(change: Change, seen: set[str]) -> None:
    with Defect(["matmul"], change):
        evidence = run_check("parity.matmul")
    found = violations(evidence, LIMITS)
    assert {dtype for dtype in ("float32", "bfloat16") if any(dtype in text for text in found)} == seen
    assert any(item["case"] == "long sums" for item in evidence.rows)


def test_ignored_strides_are_seen() -> None:
    def change(function: Any, a: Tensor, b: Tensor) -> Tensor:
        result: Tensor = function(a.as_strided(a.shape, torch.empty(a.shape).stride(), 0), b)
        return result

    with Defect(["matmul"], change):
        assert violations(run_check("parity.matmul", dtypes=("float32",)), LIMITS)


def test_a_forgotten_bias_is_seen() -> None:
    with Defect(["linear"], lambda function, x, weight, bias: function(x, weight)):
        evidence = run_check("parity.matmul")
    assert len(violations(evidence, {("bound_ratio", "linear"): 2.0})) == 2


def test_a_missing_dtype_is_a_measurement_and_yields_no_error_figure() -> None:
    with Defect(PRODUCTS, refuse(torch.bfloat16)):
        evidence = run_check("parity.matmul")
    assert evidence.status is Status.MEASURED
    assert values(evidence, "supported", dtype="bfloat16") == [0.0, 0.0]
    assert values(evidence, "bound_ratio", dtype="bfloat16") == []
    assert values(evidence, "relative_error", dtype="bfloat16") == []
    assert values(evidence, "supported", dtype="float32") == [1.0, 1.0]
    assert any("not implemented" in item.get("refused", "") for item in evidence.rows)


def test_an_error_that_is_markedmething_else_ends_the_check() -> None:
    def change(function: Any, *args: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError("an illegal memory access was encountered")

    with Defect(PRODUCTS, change):
        evidence = run_check("parity.matmul")
    assert evidence.status is Status.ERROR
    assert "illegal memory access" in (evidence.reason or "")


def test_an_unknown_dtype_is_refused_by_name() -> None:
    evidence = run_check("parity.matmul", dtypes=("float33",))
    assert evidence.status is Status.ERROR
    assert "float33" in (evidence.reason or "")


def test_precision_is_strict_meanwhile_and_restored() -> None:
    seen = []

    def change(function: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(torch.get_float32_matmul_precision())
        return function(*args, **kwargs)

    torch.set_float32_matmul_precision("high")
    try:
        with Defect(["matmul"], change):
            run_check("parity.matmul", dtypes=("float32",))
        assert set(seen) == {"highest"}
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
