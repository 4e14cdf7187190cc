"""parity.special_values on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.accelerators import sim
from readiness.accelerators.base import Accelerator
from readiness.probes.parity.special_values import features
from tests.support import run_check, value, values
from tests.support.parity import Change, Defect, Tensor, refuse, spoil
from tests.support.simulator import chip, defect, inside

FLOATS = ("float32", "bfloat16", "float16")


def test_a_healthy_cpu_gives_every_right_answer() -> None:
    evidence = run_check("parity.special_values")
    wrong = [row for row in evidence.rows if row["correct"] is not True]
    # Matrix units that multiply bfloat16 may flush subnormals by design, those of processors among them.
    assert [row for row in wrong if (row["kind"], row["dtype"]) != ("subnormal matmul", "bfloat16")] == []
    assert set(values(evidence, "supported")) == {1.0}


def test_every_feature_has_a_name_of_its_own() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int32, torch.int64):
        names = [(feature.kind, feature.name) for feature in features(dtype)]
        assert len(names) == len(set(names)) > 5


def test_flushed_subnormals_are_seen() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no switch for subnormals")
    try:
        evidence = run_check("parity.special_values", dtypes=("float32",))
    finally:
        torch.set_flush_denormal(False)
    assert value(evidence, "violations", dtype="float32", kind="subnormal") >= 4
    assert value(evidence, "violations", dtype="float32", kind="propagation") == 0


def without_nan(function: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    return function(x.nan_to_num(-9.0), *args, **kwargs)


def tf32(function: Any, a: Tensor, b: Tensor) -> Tensor:
    result: Tensor = function(*((x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32) for x in (a, b)))
    return result


def saturated(out: Tensor) -> Tensor:
    return out.clamp(torch.finfo(out.dtype).min, torch.finfo(out.dtype).max) if out.is_floating_point() else out


def accumulated_low(function: Any, a: Tensor, b: Tensor) -> Tensor:
    total = torch.zeros(())
    for term in range(a.shape[-1]):
        total = (total + a[..., term, None] * b[term]).to(a.dtype)
    return total


def truncated(function: Any, x: Tensor, *args: Any) -> Tensor:
    if x.dtype == torch.float32 and args[:1] == (torch.bfloat16,):
        return (x.view(torch.int32) & ~0xFFFF).view(torch.float32).bfloat16()
    result: Tensor = function(x, *args)
    return result


@pytest.mark.parametrize(
    ("names", "change", "dtype", "kind"),
    [
        (["amax"], without_nan, "float32", "propagation"),
        (["max"], without_nan, "bfloat16", "propagation"),
        (["softmax"], spoil(lambda out: out.nan_to_num(0)), "float32", "propagation"),
        (["relu"], spoil(lambda out: out.nan_to_num(0)), "float16", "propagation"),
        (["matmul"], lambda function, a, b: function(a.nan_to_num(0), b), "float32", "propagation"),
        (["matmul"], tf32, "float32", "precision"),
        (["matmul"], lambda function, a, b: function(a, b.bfloat16().to(b.dtype)), "float16", "precision"),
        (["matmul"], accumulated_low, "bfloat16", "precision"),
        (["add", "mul"], spoil(saturated), "float16", "overflow"),
        (["matmul"], spoil(saturated), "float16", "overflow"),
        (["to"], truncated, "bfloat16", "rounding"),
        (["remainder"], lambda function, a, b: torch.fmod(a, b), "int32", "integer"),
        (["floordiv", "floor_divide"], lambda function, a, b: torch.div(a, b, rounding_mode="trunc"), "int64", "integer"),
        (["add"], lambda function, a, b: function(a, b).int().long(), "int64", "integer"),
        (["amax"], lambda function, a: a.float().amax().to(a.dtype), "int32", "integer"),
    ],
)
def test_a_wrong_answer_is_counted_and_named(names: list[str], change: Change, dtype: str, kind: str) -> None:
    healthy = value(run_check("parity.special_values", dtypes=(dtype,)), "violations", kind=kind)
    with Defect(names, change):
        evidence = run_check("parity.special_values", dtypes=(dtype,))
    count = value(evidence, "violations", dtype=dtype, kind=kind)
    assert count > healthy == 0
    assert len([row for row in evidence.rows if row["kind"] == kind and row["correct"] is False]) == count


def test_what_a_device_lacks_is_no_violation() -> None:
    with Defect(["matmul", "cumsum"], refuse(torch.float16)):
        evidence = run_check("parity.special_values", dtypes=("float16",))
    assert value(evidence, "supported", kind="subnormal matmul") == 0
    assert values(evidence, "violations", kind="subnormal matmul") == []
    assert 0 < value(evidence, "supported", kind="propagation") < 1
    assert values(evidence, "violations", kind="propagation") == []  # nor is the rest of it a proof of the whole
    assert value(evidence, "violations", kind="subnormal") == 0
    assert sum("refused" in row for row in evidence.rows) == 12


def test_products_of_gradients_that_flush_what_the_forward_pass_keeps_are_seen() -> None:
    def run() -> list[Any]:
        facts = sim.facts(planted)
        evidence = run_check("parity.special_values", Accelerator(facts[0], sim.STACK, seed=7), dtypes=("float16",))
        bad = [row["feature"] for row in evidence.rows if row["correct"] is not True]
        return [value(evidence, "violations", kind="subnormal matmul"), value(evidence, "violations", kind="subnormal"), bad]

    planted = chip()
    assert inside(planted, run) == [0, 0, []]
    planted = chip(defect("flush-denormals", ("mm", "addmm", "bmm"), dtype=("float16",), backward=True))
    matmul, elementwise, bad = inside(planted, run)
    assert (matmul, elementwise) == (2, 0)
    assert bad == ["as a gradient of a left factor", "as a gradient of a right factor"]
