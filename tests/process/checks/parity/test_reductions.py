"""parity.reductions on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.datamodel import Status
from tests.support import cpu, run_check, values
from tests.support.parity import Change, Defect, Tensor, refuse, spoil, violations

LIMITS = {("bound_ratio",): 2.0, ("relative_error", "float32"): 1e-5, ("relative_error", "bfloat16"): 6e-3}
OPERATORS = ["sum", "mean", "var", "logsumexp", "cumsum", "amax"]


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_cpu_keeps_the_limits(seed: int) -> None:
    evidence = run_check("parity.reductions", cpu(seed), dtypes=("float32", "bfloat16", "float16"))
    assert violations(evidence, LIMITS) == []
    assert values(evidence, "supported") == [1.0] * 3 * len(OPERATORS)


def one_element_off(out: Tensor) -> Tensor:
    out = out.clone()
    out.view(-1)[-1] *= 1.05
    return out


def last_term_dropped(function: Any, x: Tensor, axes: Any) -> Tensor:
    axis = axes if isinstance(axes, int) else axes[-1]
    result: Tensor = function(x.narrow(axis, 0, x.shape[axis] - 1), axes)
    return result


def difference_of_squares(function: Any, x: Tensor, axes: Any) -> Tensor:
    wide = x.float()
    return (wide.square().mean(axes) - wide.mean(axes).square()).to(x.dtype)


def summed_in_bfloat16(function: Any, x: Tensor, axes: Any) -> Tensor:
    total = torch.zeros((), dtype=torch.bfloat16)
    for part in torch.split(x.movedim(axes, tuple(range(len(axes)))).reshape(-1, *_rest(x, axes)), 128):
        total = total + part.sum(0).bfloat16()
    return total.to(x.dtype)


def _rest(x: Tensor, axes: tuple[int, ...]) -> list[int]:
    gone = {axis % x.ndim for axis in axes}
    return [size for axis, size in enumerate(x.shape) if axis not in gone]


@pytest.mark.parametrize(
    ("op", "change"),
    [
        *((op, spoil(one_element_off)) for op in OPERATORS),
        *((op, spoil(lambda out: out * torch.nan)) for op in OPERATORS),
        ("sum", last_term_dropped),
        ("mean", spoil(lambda out: out * 1.01)),
        ("sum", summed_in_bfloat16),
        ("var", difference_of_squares),
        ("logsumexp", lambda function, x, axes: x.exp().sum(axes).log()),
        ("amax", lambda function, x, axes: function(x.nan_to_num(-1e4), axes)),
    ],
)
def test_a_wrong_reduction_is_seen(op: str, change: Change) -> None:
    with Defect([op], change):
        found = violations(run_check("parity.reductions", dtypes=("float32", "bfloat16")), LIMITS)
    for dtype in ("float32", "bfloat16"):
        assert any(f"'{op}'" in text and dtype in text for text in found), found


def test_a_missing_operator_costs_only_itself() -> None:
    with Defect(["cumsum"], refuse(torch.bfloat16)):
        evidence = run_check("parity.reductions")
    assert evidence.status is Status.MEASURED
    assert values(evidence, "supported", op="cumsum", dtype="bfloat16") == [0.0]
    assert values(evidence, "bound_ratio", op="cumsum", dtype="bfloat16") == []
    assert values(evidence, "supported", op="cumsum", dtype="float32") == [1.0]
    assert violations(evidence, LIMITS) == []
