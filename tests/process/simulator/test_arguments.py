"""Conditions on single arguments and results, and the kinds of defects that are about them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from readiness.simulator.call import Call
from tests.support.simulator import chip, defect, inside


def _x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def test_an_argument_is_found_by_its_name() -> None:
    call = Call("aten::add.Tensor", [1, 2], {"alpha": 3}, (10, 20, 30))
    assert [call.argument(name) for name in ("self", "other", "alpha", "beta")] == [1, 2, 3, None]
    assert [call.device_argument(name) for name in ("self", "other", "alpha", "beta")] == [10, 20, 30, None]
    assert Call("aten::add.Tensor", [1, 2], {}).argument("alpha") == 1
    for name in ("copy::to_host", "aten::no_such", "aten::add.no_such", "stream::wait", "checkpoint::load"):
        assert Call(name, [1], {}).argument("self") is None


@pytest.mark.parametrize(
    ("conditions", "acts"),
    [
        ({"argument": {"dim": True}}, [True, False]),
        ({"argument": {"dim": False}}, [False, True]),
        ({"argument": {"dim": "[1]"}}, [True, False]),
        ({"argument": {"keepdim": True}}, [False, False]),
        ({"argument": {"keepdim": False}}, [True, True]),
        ({"argument": {"nothing": True}}, [False, False]),
        ({"argument": {"dim": True, "keepdim": True}}, [False, False]),
    ],
)
def test_a_condition_on_arguments(conditions: dict[str, Any], acts: list[bool]) -> None:
    def ask() -> list[bool]:
        return [bool(_x(3, 4).to("sim").sum(dim).cpu().isnan().any()) for dim in (1, 0)]

    assert inside(chip(defect("nan", "sum*", **conditions)), ask) == acts


def test_a_number_that_an_argument_equals() -> None:
    def ask() -> list[bool]:
        return [bool(torch.add(_x(3).to("sim"), _x(3).to("sim"), alpha=alpha).cpu().isnan().any()) for alpha in (1, 2)]

    assert inside(chip(defect("nan", "add.Tensor", argument={"alpha": 2})), ask) == [False, True]


def test_a_number_of_tensors_that_are_exceeded() -> None:
    def ask() -> list[bool]:
        return [bool(torch.cat([_x(3).to("sim")] * count).cpu().isnan().any()) for count in (4, 5)]

    assert inside(chip(defect("nan", "cat", tensors_over=4)), ask) == [False, True]


def test_rows_and_dimensions() -> None:
    def ask() -> list[bool]:
        return [bool(_x(*shape).to("sim").exp().cpu().isnan().any()) for shape in ((2, 3, 50), (2, 4, 50), (7,), ())]

    assert inside(chip(defect("nan", "exp", rows_over=6)), ask) == [False, True, False, False]
    assert inside(chip(defect("nan", "exp", multiple_of=2, dimension=1)), ask) == [False, True, False, False]
    assert inside(chip(defect("nan", "exp", multiple_of=7, dimension=0)), ask) == [False, False, True, False]


def test_of_one_argument_alone() -> None:
    def ask() -> list[bool]:
        large, small, turned = _x(8, 4).to("sim"), _x(4, 2).to("sim"), _x(2, 4).to("sim").mT
        results = (large @ small, small.mT @ large.mT, large @ turned)
        return [bool(result.cpu().isnan().any()) for result in results]

    assert inside(chip(defect("nan", "mm", numel_over=20, of=("self",))), ask) == [True, False, True]
    assert inside(chip(defect("nan", "mm", numel_over=20, of=("mat2",))), ask) == [False, True, False]
    assert inside(chip(defect("nan", "mm", noncontiguous=True, of=("mat2",))), ask) == [False, True, True]
    assert inside(chip(defect("nan", "mm", numel_over=0, of=("bias",))), ask) == [False, False, False]


def _gradients(needs_input: bool = True) -> list[torch.Tensor | None]:
    x, weight, bias = _x(5, 4).to("sim").requires_grad_(needs_input), _x(4).to("sim"), _x(4).to("sim")
    weight.requires_grad_()
    bias.requires_grad_()
    functional.layer_norm(x, (4,), weight, bias).square().sum().backward()  # type: ignore[no-untyped-call]
    return [x.grad, weight.grad, bias.grad]


def test_one_result_of_several() -> None:
    def ask() -> list[Any]:
        found = [_gradients(), _gradients(needs_input=False)]
        return [[None if item is None else bool((item.cpu() == 0).all()) for item in as_list] for as_list in found]

    which = chip(defect("zero-result", "native_layer_norm_backward", options={"output": 1}))
    assert inside(which, ask) == [[False, True, False], [None, True, False]]


def test_a_factor_in_place_of_an_error() -> None:
    def ask() -> list[float]:
        x, weight = _x(3, 4).to("sim"), _x(5, 4).to("sim").requires_grad_()
        out = x @ weight.mT
        out.sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        host = _x(5, 4).requires_grad_()
        (_x(3, 4) @ host.mT).sum().backward()  # type: ignore[no-untyped-call]
        assert host.grad is not None
        return [float(out.detach().cpu().norm() / (_x(3, 4) @ host.detach().mT).norm()), float(weight.grad.cpu().norm() / host.grad.norm())]

    assert inside(chip(defect("wrong-gradient", "mm", options={"factor": 0.1})), ask) == pytest.approx([1.0, 0.1])
    assert inside(chip(defect("wrong-result", "mm", options={"factor": 3.0}, backward=False)), ask) == pytest.approx([3.0, 1.0])


def test_a_part_of_the_result_is_zero() -> None:
    def ask() -> list[list[float]]:
        x = torch.ones(4, 2).to("sim")
        return [x.exp().cpu().flatten().tolist(), x.mT.exp().cpu().flatten().tolist(), (x > 0).cpu().flatten().tolist()]

    half, strided, flags = inside(chip(defect("zero-result", ("exp", "gt.Scalar"), severity=0.5)), ask)
    assert [value == 0 for value in half] == [False] * 4 + [True] * 4
    assert [value == 0 for value in strided] == [False] * 4 + [True] * 4
    assert flags == [True] * 4 + [False] * 4


def test_what_is_given_to_be_written_to_stays() -> None:
    def ask() -> list[Any]:
        one, target = torch.ones(3).to("sim"), torch.full((3,), 9.0).to("sim")
        torch.exp(one, out=target)
        copied = torch.full((3,), 5.0).to("sim").copy_(torch.ones(3))
        return [one.add_(1).cpu().tolist(), target.cpu().tolist(), one.add(1).cpu().tolist(), copied.cpu().tolist()]

    which = chip(defect("unwritten", ("add*", "exp.out")), defect("unwritten", "copy::to_device", after_calls=5))
    added, target, right, _ = inside(which, ask)
    assert (added, target, right) == ([1.0] * 3, [9.0] * 3, [2.0] * 3)


def test_an_argument_that_is_not_looked_at() -> None:
    def ask() -> list[float]:
        x = _x(1, 1, 6, 8)
        causal = functional.scaled_dot_product_attention(x.to("sim"), x.to("sim"), x.to("sim"), is_causal=True).cpu()
        plain = functional.scaled_dot_product_attention(x, x, x)
        return [float((causal - plain).abs().max()), float(torch.add(torch.ones(()).to("sim"), 1, alpha=5).cpu())]

    which = chip(
        defect("ignore-argument", "_scaled_dot_product_flash_attention*", options={"argument": "is_causal"}),
        defect("ignore-argument", "add.*", options={"argument": "alpha"}),
    )
    assert inside(which, ask) == pytest.approx([0.0, 2.0], abs=1e-6)


def test_another_operator() -> None:
    def ask() -> list[Any]:
        z = torch.tensor([1j, 2.0])
        product = torch.dot(z.to("sim"), z.to("sim")).cpu()
        median = torch.tensor([1.0, float("nan"), 2.0]).to("sim").nanmedian().cpu()
        return [product.real.item(), bool(median.isnan())]

    which = chip(
        defect("wrong-operator", "dot", options={"operator": "vdot"}),
        defect("wrong-operator", "nanmedian", options={"operator": "median"}),
    )
    assert inside(which, ask) == [5.0, True]


def test_saturation_leaves_what_is_finite() -> None:
    def ask() -> list[float]:
        x = torch.tensor([1.0, -65504.0, 65504.0]).half().to("sim")
        return [*(x * 2).cpu().tolist(), float((x[:1] * 0 / 0).cpu())]

    assert inside(chip(defect("saturate")), ask) == [2.0, -65504.0, 65504.0, 0.0]


def test_another_layout_has_the_same_values() -> None:
    def ask() -> list[Any]:
        x = _x(3, 4).mT
        arrived, copied = x.to("sim"), x.to("sim").clone()
        product = x.to("sim") @ x.to("sim").mT
        same = [torch.equal(arrived.cpu(), x), torch.equal(copied.cpu(), x), torch.allclose(product.cpu(), x @ x.mT)]
        return [same, list(arrived.stride()), list(copied.stride()), list(product.stride())]

    assert inside(chip(), ask)[1:] == [[1, 4], [1, 4], [4, 1]]
    which = chip(defect("wrong-layout", ("layout::strided", "mm")))
    assert inside(which, ask) == [[True, True, True], [3, 1], [3, 1], [1, 4]]


def test_a_named_dtype() -> None:
    def ask() -> list[str]:
        return [str(torch.ones(0, dtype=torch.bool).to("sim").sum().dtype), str(torch.ones(2, dtype=torch.bool).to("sim").sum().dtype)]

    which = chip(defect("wrong-dtype", "sum*", options={"dtype": "bool"}, empty=True))
    assert inside(which, ask) == ["torch.bool", "torch.int64"]
