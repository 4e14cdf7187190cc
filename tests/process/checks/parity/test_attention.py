"""parity.attention on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from readiness.probes.parity.attention_cases import attention_reference
from tests.support import cpu, run_check, value, values
from tests.support.parity import Change, Defect, Tensor, refuse, scale_gradient, spoil, violations

LIMITS = {
    ("bound_ratio",): 4.0,
    ("relative_error", "float32"): 1e-5,
    ("relative_error", "bfloat16"): 0.015,
    ("masked_row_violations",): 0.0,
}
NAME = ["scaled_dot_product_attention"]
DTYPES = ("float32", "bfloat16")


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_cpu_keeps_the_limits(seed: int) -> None:
    evidence = run_check("parity.attention", cpu(seed), dtypes=("float32", "bfloat16", "float16"))
    assert violations(evidence, LIMITS) == []
    assert values(evidence, "supported") == [1.0] * 6


def test_another_correct_implementation_keeps_the_limits() -> None:
    with sdpa_kernel(SDPBackend.MATH):
        evidence = run_check("parity.attention")
    assert violations(evidence, LIMITS) == []


@pytest.mark.parametrize("causal", [True, False])
def test_the_reference_agrees_with_torch_and_autograd(causal: bool) -> None:
    draw = torch.Generator().manual_seed(3)
    query, cotangent = (torch.randn(2, 4, 9, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    key, value_ = (torch.randn(2, 2, 9, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    mask = None if causal else torch.randn(2, 1, 9, 9, generator=draw, dtype=torch.float64)
    references = attention_reference(query, key, value_, cotangent, mask, causal=causal)
    q, k, v = (tensor.clone().requires_grad_() for tensor in (query, key, value_))
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=True)
    for have, (want, _) in zip([out, *torch.autograd.grad(out, (q, k, v), cotangent)], references, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-10, atol=1e-12)


def without_mask(function: Any, *args: Any, **kwargs: Any) -> Tensor:
    result: Tensor = function(*args, **{**kwargs, "attn_mask": None, "is_causal": False})
    return result


def mask_off_by_one(function: Any, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
    if kwargs.get("is_causal"):
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(1)
        kwargs = {**kwargs, "is_causal": False, "attn_mask": mask}
    result: Tensor = function(q, k, v, **kwargs)
    return result


def wrong_groups(function: Any, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
    if kwargs.get("enable_gqa"):
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1)
    result: Tensor = function(q, k, v, **{**kwargs, "enable_gqa": False})
    return result


def without_scale(function: Any, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
    result: Tensor = function(q, k, v, **kwargs, scale=1.02 / q.shape[-1] ** 0.5)
    return result


def one_element_off(out: Tensor) -> Tensor:
    changed = out.clone()
    with torch.no_grad():
        changed[0, 0, -1, 0] += 0.05
    return changed


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        (without_mask, "forward"),
        (mask_off_by_one, "forward"),
        (wrong_groups, "forward"),
        (without_scale, "forward"),
        (spoil(one_element_off), "forward"),
        (spoil(lambda out: scale_gradient(out, 1.05)), "backward"),
        (lambda function, q, k, v, **kwargs: function(q, scale_gradient(k, 1.05), v, **kwargs), "backward"),
        (lambda function, q, k, v, **kwargs: function(q, k.detach() + 0 * k, v, **kwargs), "backward"),
    ],
    ids=["mask ignored", "mask off by one", "groups", "scale", "one element", "gradients", "key gradient", "detached"],
)
def test_a_wrong_attention_is_seen(change: Change, phase: str) -> None:
    with Defect(NAME, change):
        found = violations(run_check("parity.attention"), LIMITS)
    for dtype in DTYPES:
        assert any(dtype in text and phase in text for text in found), found


def test_a_nan_for_queries_without_keys_is_seen() -> None:
    def change(function: Any, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        if attn_mask is None or attn_mask.dtype != torch.bool:
            result: Tensor = function(q, k, v, attn_mask=attn_mask, **kwargs)
            return result
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~attn_mask, -torch.inf)
        out: Tensor = scores.softmax(-1) @ v
        return out

    with Defect(NAME, change):
        evidence = run_check("parity.attention", dtypes=("float32",))
    assert value(evidence, "masked_row_violations", dtype="float32") > 100
    assert value(evidence, "bound_ratio", dtype="float32", phase="forward") < 4


def test_a_missing_dtype_yields_no_error_figure() -> None:
    with Defect(NAME, refuse(torch.bfloat16)):
        evidence = run_check("parity.attention")
    assert values(evidence, "supported", dtype="bfloat16") == [0.0, 0.0]
    assert values(evidence, "bound_ratio", dtype="bfloat16") == []
    assert values(evidence, "masked_row_violations", dtype="bfloat16") == []
    assert violations(evidence, LIMITS) == []
