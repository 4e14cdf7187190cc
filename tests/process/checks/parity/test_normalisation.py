"""parity.normalisation on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.support import cpu, run_check, value, values
from tests.support.parity import Change, Defect, Tensor, refuse, scale_gradient, spoil, violations

LIMITS = {
    ("bound_ratio", "forward"): 4.0,
    ("bound_ratio", "backward"): 4.0,
    ("bound_ratio", "parameters", "float32"): 4.0,
    ("masked_row_violations",): 0.0,
}
DTYPES = ("float32", "bfloat16")


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_cpu_keeps_the_limits(seed: int) -> None:
    evidence = run_check("parity.normalisation", cpu(seed), dtypes=("float32", "bfloat16", "float16"))
    assert violations(evidence, LIMITS) == []
    assert set(values(evidence, "supported")) == {1.0}


def no_maximum_subtracted(function: Any, x: Tensor, axis: int) -> Tensor:
    powers = x.float().exp()
    return (powers / powers.sum(axis, keepdim=True)).to(x.dtype)


def naive_variance(function: Any, x: Tensor, shape: Any, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    wide = x.float()
    mean = wide.mean(-1, keepdim=True)
    variance = wide.square().mean(-1, keepdim=True) - mean.square()
    return ((wide - mean) * torch.rsqrt(variance + eps) * weight + bias).to(x.dtype)


def rounded(out: Tensor) -> Tensor:
    return out.bfloat16().to(out.dtype) if out.dtype == torch.float32 else (out.float() * 64).round().to(out.dtype) / 64


@pytest.mark.parametrize(
    ("op", "change", "phase"),
    [
        ("softmax", no_maximum_subtracted, "forward"),
        ("softmax", spoil(lambda out: scale_gradient(out, 1.03)), "backward"),
        ("softmax", spoil(rounded), "forward"),
        ("log_softmax", lambda function, x, axis: x.softmax(axis).log(), "forward"),
        ("log_softmax", spoil(lambda out: scale_gradient(out, 0.97)), "backward"),
        ("layer_norm", naive_variance, "forward"),
        ("layer_norm", spoil(lambda out: scale_gradient(out, 1.03)), "backward"),
        ("layer_norm", spoil(rounded), "forward"),
        ("rms_norm", spoil(lambda out: scale_gradient(out, 1.03)), "backward"),
        ("rms_norm", lambda function, x, shape, weight, eps: functional.layer_norm(x, shape, weight), "forward"),
    ],
)
def test_a_wrong_operator_is_seen(op: str, change: Change, phase: str) -> None:
    with Defect([op], change):
        found = violations(run_check("parity.normalisation", dtypes=DTYPES), LIMITS)
    for dtype in DTYPES if change is not naive_variance else ("float32",):
        assert any(f"'{op}'" in text and dtype in text and phase in text for text in found), found


def test_an_error_of_the_backward_pass_alone_leaves_the_forward_pass_clean() -> None:
    with Defect(["layer_norm"], spoil(lambda out: scale_gradient(out, 1.03))):
        evidence = run_check("parity.normalisation", dtypes=("float32",))
    assert value(evidence, "bound_ratio", op="layer_norm", phase="forward") < 1
    assert value(evidence, "bound_ratio", op="layer_norm", phase="backward") > 100


def test_rows_masked_entirely_must_not_become_something_else() -> None:
    with Defect(["softmax"], spoil(lambda out: out.nan_to_num(1 / out.shape[-1]))):
        evidence = run_check("parity.normalisation", dtypes=("float32",))
    assert value(evidence, "masked_row_violations", dtype="float32") == 4 * 67
    with Defect(["softmax"], spoil(lambda out: out.nan_to_num(0.0))):
        evidence = run_check("parity.normalisation", dtypes=("float32",))
    assert value(evidence, "masked_row_violations", dtype="float32") == 0


def test_a_forward_pass_without_backward_is_distinguished() -> None:
    class Refusing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            raise NotImplementedError("the backward pass is missing")

    with Defect(["rms_norm"], spoil(lambda out: Refusing.apply(out))):  # type: ignore[no-untyped-call]
        evidence = run_check("parity.normalisation", dtypes=("float32",))
    assert value(evidence, "supported", op="rms_norm", phase="forward") == 1
    assert value(evidence, "supported", op="rms_norm", phase="backward") == 0
    assert values(evidence, "bound_ratio", op="rms_norm", phase="backward") == []


def test_a_missing_dtype_yields_no_error_figure() -> None:
    with Defect(["softmax", "log_softmax", "layer_norm", "rms_norm"], refuse(torch.bfloat16)):
        evidence = run_check("parity.normalisation")
    assert set(values(evidence, "supported", dtype="bfloat16")) == {0.0}
    assert values(evidence, "bound_ratio", dtype="bfloat16") == []
    assert values(evidence, "masked_row_violations", dtype="bfloat16") == []
