"""A defect acts exactly where its conditions hold: each condition alone, all of them in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from readiness.simulator.machine_file import Defect
from tests.support.simulator import chip, defect, inside


def _outcomes(cases: Mapping[str, tuple[Defect, Callable[[], Sequence[Callable[[], Any]]]]]) -> dict[str, list[bool]]:
    """Which of its calls each defect of kind `raise` met, one chip after another in one process."""

    def ask() -> dict[str, list[bool]]:
        from readiness.simulator.install import install

        found = {}
        for name, (planted, calls) in cases.items():
            install(chip(), 0)
            made = calls()
            install(chip(planted), 0)
            found[name] = [_raises(call) for call in made]
        return found

    told: dict[str, list[bool]] = inside(chip(), ask)
    return told


def _raises(call: Callable[[], Any]) -> bool:
    try:
        call()
    except RuntimeError as problem:
        if "SIM error" not in str(problem):
            raise
        return True
    return False


def _sim(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).abs().to(dtype).to("sim")


def _of(tensors: Callable[[], Sequence[torch.Tensor]], operator: str = "exp") -> Callable[[], Sequence[Callable[[], Any]]]:
    return lambda: [getattr(tensor, operator) for tensor in tensors()]


def _formats() -> list[torch.Tensor]:
    image, volume = _sim(2, 3, 4, 5), _sim(2, 3, 2, 4, 5)
    last, deep = image.contiguous(memory_format=torch.channels_last), volume.contiguous(memory_format=torch.channels_last_3d)
    return [image, last, last[:, :1], deep, _sim(3, 4).mT]


def test_layouts() -> None:
    found = _outcomes({
        "channels last": (defect("raise", "exp", memory_format="channels_last"), _of(_formats)),
        "of volumes": (defect("raise", "exp", memory_format="channels_last_3d"), _of(_formats)),
        "expanded": (defect("raise", "exp", expanded=True), _of(lambda: [_sim(3), _sim(1, 3).expand(4, 3), _sim(1, 3).expand(1, 3)])),
        "not expanded": (defect("raise", "exp", expanded=False), _of(lambda: [_sim(3), _sim(1, 3).expand(4, 3)])),
        "conjugate": (defect("raise", "mm", conjugate=True), _products),
        "not conjugate": (defect("raise", "mm", conjugate=False), _products),
    })  # fmt: skip
    assert found == {
        "channels last": [False, True, False, False, False], "of volumes": [False, False, False, True, False],
        "expanded": [False, True, False], "not expanded": [True, False],
        "conjugate": [False, True], "not conjugate": [True, False],
    }  # fmt: skip


def _products() -> list[Callable[[], Any]]:
    number = _sim(3, 3, dtype=torch.complex64)
    return [lambda: number @ number, lambda: number.conj() @ number]


def _values() -> list[torch.Tensor]:
    below, nan, infinite = torch.tensor([0.5, -1.0]), torch.tensor([0.5, float("nan")]), torch.tensor([0.5, float("inf")])
    return [tensor.to("sim") for tensor in (torch.tensor([0.5, 3.0]), below, nan, infinite, torch.tensor([3, 5]))]


def test_values() -> None:
    when: dict[str, dict[str, Any]] = {
        "above": {"value_over": 2.0}, "below": {"value_under": 0.0}, "between": {"value_over": 2.5, "value_under": 3.5},
        "nan": {"nan": True}, "no nan": {"nan": False}, "infinite": {"infinite": True}, "finite": {"infinite": False},
    }  # fmt: skip
    found = _outcomes({name: (defect("raise", "neg", **conditions), _of(_values, "neg")) for name, conditions in when.items()})
    assert found == {
        "above": [True, False, False, True, True], "below": [False, True, False, False, False],
        "between": [True, False, False, False, True], "nan": [False, False, True, False, False],
        "no nan": [True, True, False, True, True], "infinite": [False, False, False, True, False],
        "finite": [True, True, True, False, True],
    }  # fmt: skip


def test_values_are_those_before_the_call_overwrites_them() -> None:
    def ask() -> list[list[float]]:
        one, other = torch.tensor([-1.0, 4.0]).to("sim"), torch.tensor([1.0, 4.0]).to("sim")
        return [one.sqrt_().nan_to_num(9.0).cpu().tolist(), other.sqrt_().cpu().tolist()]

    # The NaN is made by the call, and was no input of it.
    assert inside(chip(defect("zero-result", "sqrt_", nan=True)), ask) == [[9.0, 2.0], [1.0, 2.0]]
    assert inside(chip(defect("zero-result", "sqrt_", value_under=0.0)), ask) == [[0.0, 0.0], [1.0, 2.0]]


def test_arguments_alone_and_together() -> None:
    def calls() -> list[Callable[[], Any]]:
        values = torch.arange(6.0).reshape(2, 3).to("sim")
        wide, narrow = torch.tensor([[0, 1, 2], [2, 1, 0]]).to("sim"), torch.zeros(2, 3, dtype=torch.int64).to("sim")
        turned = torch.zeros(3, 2, dtype=torch.int64).to("sim").mT
        return [lambda: values.gather(1, wide), lambda: values.gather(1, narrow), lambda: values.mT.gather(0, turned.mT), lambda: values.mT.gather(0, wide.mT.contiguous())]

    found = _outcomes({
        "one is large": (defect("raise", "gather", of=("index",), value_over=1.0), calls),
        "both are turned": (defect("raise", "gather", of=("self", "index"), noncontiguous=True), lambda: [*calls(), *_turned()]),
    })  # fmt: skip
    assert found["one is large"] == [True, False, False, True]
    assert found["both are turned"] == [False, False, False, False, True]


def _turned() -> list[Callable[[], Any]]:
    values, index = torch.ones(2, 3).to("sim").mT, torch.zeros(2, 3, dtype=torch.int64).to("sim").mT
    return [lambda: values.gather(0, index)]


def test_the_dtype_of_one_argument() -> None:
    from readiness.simulator.machine_file import Condition

    def calls() -> list[Callable[[], Any]]:
        wide, narrow = torch.ones(3, dtype=torch.int64).to("sim"), torch.ones(3, dtype=torch.int32).to("sim")
        return [lambda: wide + wide, lambda: wide + narrow, lambda: narrow + wide]

    planted = Defect("raise", ("add.Tensor",), when=Condition(of=("other",), dtype=("int32",)))
    anywhere = Defect("raise", ("add.Tensor",), when=Condition(dtype=("int32",)))
    found = _outcomes({"one": (planted, calls), "any": (anywhere, calls)})
    assert found == {"one": [False, True, False], "any": [False, True, True]}


def test_both_sides_of_a_copy() -> None:
    def calls() -> list[Callable[[], Any]]:
        dense, turned = torch.ones(3, 3).to("sim"), torch.ones(3, 3).to("sim").mT
        return [lambda: dense.copy_(dense + 1), lambda: dense.copy_(turned), lambda: turned.copy_(dense), lambda: turned.copy_(_sim(3, 3).mT)]

    found = _outcomes({
        name: (defect("raise", "copy::on_device", of=names, noncontiguous=True), calls)
        for name, names in {"source": ("source",), "target": ("target",), "both": ("source", "target")}.items()
    })  # fmt: skip
    assert found == {"source": [False, True, False, True], "target": [False, False, True, True], "both": [False, False, False, True]}


def test_the_deterministic_mode() -> None:
    def ask() -> list[bool]:
        x, found = torch.ones(3).to("sim"), []
        for mode in (False, True):
            torch._C._set_deterministic_algorithms(mode)  # what `use_deterministic_algorithms` does beside imports
            found.append(_raises(x.exp))
        return found

    assert inside(chip(defect("raise", "exp", deterministic=True)), ask) == [False, True]
    assert inside(chip(defect("raise", "exp", deterministic=False)), ask) == [True, False]


def test_what_has_not_been_seen_before() -> None:
    def shapes() -> list[Callable[[], Any]]:
        return [_sim(size).exp for size in (3, 4, 3, 5, 4)]

    def numbers() -> list[Callable[[], Any]]:
        x = _sim(3)
        return [lambda: x * 2.0, lambda: x * 3.0, lambda: _sim(7) * 2.0, lambda: x * x, lambda: x * torch.tensor(5.0), lambda: x * torch.tensor(5.0)]

    found = _outcomes({
        "shape": (defect("raise", "exp", unseen="shape"), shapes),
        "number": (defect("raise", "mul.Tensor", unseen="number"), numbers),
        "the third of them": (defect("raise", "exp", unseen="shape", after_calls=3), shapes),
    })  # fmt: skip
    assert found == {
        "shape": [True, True, False, True, False], "number": [True, True, False, False, True, False],
        "the third of them": [False, False, False, True, False],
    }  # fmt: skip


def test_the_rank_in_a_group() -> None:
    from readiness.simulator.call import Call
    from readiness.simulator.device import SimulatedDevice

    device = SimulatedDevice(chip(defect("raise", "c10d::allreduce_", rank=[1])), 0, 7)
    called = [Call("c10d::allreduce_", [[torch.ones(2)]], {}, group=2, rank=rank) for rank in (0, 1, None)]
    assert [_raises(lambda call=call: device.perform(call, lambda: None)) for call in called] == [False, True, False]  # type: ignore[misc]
