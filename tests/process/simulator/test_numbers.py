"""Kinds of defects about single numbers, lists of tensors and mixed precision: each does its harm, and only that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from readiness.simulator.machine_file import Defect
from tests.support.simulator import chip, defect, inside

NAN = float("nan")


def _each(cases: dict[str, tuple[Defect, Callable[[], Any]]]) -> dict[str, Any]:
    """What each function gives on a chip with its defect, one chip after another in one process."""

    def ask() -> dict[str, Any]:
        from readiness.simulator.install import install

        found = {}
        for name, (planted, function) in cases.items():
            install(chip(planted), 0)
            found[name] = function()
        return found

    told: dict[str, Any] = inside(chip(), ask)
    return told


def test_integers_are_narrowed() -> None:
    large = [5, 2**24 + 1, 2**31 + 1, -(2**31) - 1, 2**53 + 1]

    def ask(dtype: torch.dtype = torch.int64, values: list[int] = large) -> Callable[[], list[int]]:
        return lambda: torch.tensor(values, dtype=dtype).to("sim").flip(0).flip(0).cpu().tolist()

    rounded = {"rounded": True}
    found = _each({
        "wraps": (defect("narrow-integers", "flip"), ask()),
        "float32": (defect("narrow-integers", "flip", severity=24, options=rounded), ask()),
        "float64": (defect("narrow-integers", "flip", severity=53, options=rounded), ask()),
        "int8": (defect("narrow-integers", "flip", severity=4), ask(torch.int8, [7, 8, -9])),
        "bool": (defect("narrow-integers", "flip", severity=1), lambda: torch.tensor([True, False]).to("sim").flip(0).cpu().tolist()),
    })  # fmt: skip
    assert found == {
        "wraps": [5, 2**24 + 1, -(2**31) + 1, 2**31 - 1, 1], "float32": [5, 2**24, 2**31, -(2**31), 2**53],
        "float64": [5, 2**24 + 1, 2**31 + 1, -(2**31) - 1, 2**53], "int8": [7, -8, 7], "bool": [False, True],
    }  # fmt: skip


def test_ties_are_chosen_wrongly() -> None:
    values = torch.tensor([[2.0, 1.0, 2.0, 1.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0]])

    def ask() -> dict[str, list[bool]]:
        given, told = values.to("sim"), {}
        for name, call in {
            "sort": lambda x: x.sort(dim=-1, stable=True), "descending": lambda x: x.sort(0, True), "argsort": lambda x: (x.argsort(-1),),
            "topk": lambda x: x.topk(4), "max": lambda x: x.max(1), "argmax": lambda x: (x.argmax(),), "columns": lambda x: x.mT.sort(dim=0, stable=True),
        }.items():  # fmt: skip
            wanted, found = list(call(values)), [item.cpu() for item in call(given)]  # type: ignore[no-untyped-call]
            axis = 0 if name == "columns" else -1
            places = values.mT.gather(0, found[-1]) if name == "columns" else values.gather(0, found[-1]) if name == "descending" else None
            told[name] = [torch.equal(one, other) for one, other in zip(found, wanted, strict=True)]
            assert places is None or torch.equal(places, wanted[0]), (name, axis)  # they point at the right values all the same
        out = (torch.empty(2, 5).to("sim"), torch.empty(2, 5, dtype=torch.int64).to("sim"))
        torch.sort(given, stable=True, dim=-1, descending=False, out=out)
        told["out"] = [torch.equal(one.cpu(), other) for one, other in zip(out, values.sort(stable=True), strict=True)]
        told["without ties"] = [torch.equal(given[1:].argsort(-1).cpu(), values[1:].argsort(-1))]
        return told

    found = inside(chip(defect("wrong-ties")), ask)
    assert found == {
        "sort": [True, False], "descending": [True, True], "argsort": [False], "topk": [True, False], "max": [True, False],
        "argmax": [True], "columns": [True, False], "out": [True, False], "without ties": [True],
    }  # fmt: skip
    stable_alone = defect("wrong-ties", "sort.stable", argument={"stable": True})
    assert _each({"one": (stable_alone, lambda: [
        torch.equal(values.to("sim").sort(dim=-1, stable=stable).indices.cpu(), values.sort(dim=-1, stable=True).indices) for stable in (True, False)
    ])})["one"] == [False, True]  # fmt: skip


def test_a_nan_is_passed_over() -> None:
    def ask() -> list[float]:
        x = torch.tensor([3.0, NAN, 4.0]).to("sim")
        found = [x.sum(), x.max(), x.amin(), x.prod(), torch.linalg.vector_norm(x), x.clamp(-1, 2)[1], x.exp()[1], torch._foreach_norm([x, x])[1]]
        return [float(value) for value in found]

    told = inside(chip(defect("nan-skipped")), ask)
    assert told[:6] == [7.0, 4.0, 3.0, 12.0, 5.0, 0.0]
    assert math.isnan(told[6])
    assert told[7] == 5.0


def test_the_end_of_a_vector_disagrees() -> None:
    def ask() -> list[list[int]]:
        same, nan = torch.full((67,), 1.5).to("sim"), torch.full((67,), NAN).to("sim")
        whole = torch.full((64,), 1.5).to("sim")
        return [
            (found != found[0]).nonzero().flatten().cpu().tolist() for found in ((same + 1).cpu(), (whole + 1).cpu(), (nan + 1).cpu().isnan().int())
        ]

    tail = [64, 65, 66]
    assert inside(chip(defect("position-dependent", "add*")), ask) == [tail, [], []]
    assert inside(chip(defect("position-dependent", "add*", options={"nan": 0.0})), ask) == [[], [], tail]


def test_several_bits_are_wrong_more_often_than_one() -> None:
    def ask() -> list[int]:
        values, found = torch.full((50,), 1.5).to("sim"), []
        wanted = (torch.full((50,), 1.5) + 1).view(torch.int32)
        for _ in range(1000):
            differs = ((values + 1).cpu().view(torch.int32) ^ wanted).tolist()
            changed = [(item & 0xFFFFFFFF).bit_count() for item in differs if item]
            assert len(changed) == 1, changed
            found += changed
        return found

    counts: Counter[int] = Counter(inside(chip(defect("several-bits", "add*")), ask))
    assert 300 < counts[1] < 460
    assert max(counts) <= 12 or counts.total() - sum(counts[bits] for bits in range(13)) < 30  # an infinity differs in more


def test_mixed_precision_takes_the_wrong_dtype() -> None:
    def ask() -> list[str]:
        x, weight = torch.ones(4, 4).to("sim"), torch.ones(4, 4).to("sim")
        with torch.autocast("sim", torch.bfloat16):
            made = [x @ weight, torch.nn.functional.linear(x, weight), torch.nn.functional.mse_loss((x @ weight), x)]
        return [str(tensor.dtype) for tensor in made]

    low, high = "torch.bfloat16", "torch.float32"
    found = _each({
        "sound": (defect("nan", "exp"), ask), "product": (defect("wrong-autocast", "autocast::matmul"), ask),
        "loss": (defect("wrong-autocast", "autocast::mse_loss"), ask),
        "other": (defect("wrong-autocast", "autocast::linear", options={"dtype": "float16"}), ask),
    })  # fmt: skip
    assert found["sound"] == [low, low, high]
    assert found["product"] == [high, low, high]
    assert found["loss"] == [low, low, low]
    assert found["other"] == [low, "torch.float16", high]


def test_operators_on_lists_are_struck_as_such() -> None:
    def ask() -> list[list[float]]:
        lists = [[torch.ones(2).to("sim"), torch.full((3,), 2.0).to("sim")] for _ in range(2)]
        made = torch._foreach_add(lists[0], 1.0)
        torch._foreach_mul_(lists[1], 3.0)
        return [[float(tensor.sum()) for tensor in several] for several in (made, lists[1], [made[0] * 1])]

    found = _each({
        "new": (defect("zero-result", "_foreach_add.Scalar"), ask), "in place": (defect("zero-result", "_foreach_mul_*"), ask),
        "single": (defect("zero-result", "add.Tensor"), ask), "none": (defect("zero-result", "exp"), ask),
    })  # fmt: skip
    sound = [[4.0, 9.0], [6.0, 18.0], [4.0]]
    assert found == {
        "new": [[0.0, 0.0], sound[1], [0.0]], "in place": [sound[0], [0.0, 0.0], sound[2]],
        "single": [[0.0, 0.0], sound[1], [0.0]], "none": sound,
    }  # fmt: skip


def test_what_an_operator_without_results_wrote_is_harmed() -> None:
    def ask() -> list[float]:
        weight = torch.ones(4).to("sim").requires_grad_()
        weight.grad = torch.ones(4).to("sim")
        torch.optim.SGD([weight], lr=0.5, fused=True).step()
        return weight.detach().cpu().tolist()

    assert inside(chip(defect("zero-result", "_fused_sgd_*")), ask) == [0.0] * 4
    assert inside(chip(), ask) == [0.5] * 4
