"""The simulated device is a genuine one, and a healthy chip is the CPU to the bit."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.simulator import chip, inside

HEALTHY = chip()
DTYPES = ("float32", "bfloat16", "float16")


def equal_on_both(function: Callable[..., torch.Tensor], *shapes: tuple[int, ...], dtype: str = "float32") -> bool:
    """Whether forward result and gradients are those of the CPU, bit by bit. To be called inside."""
    torch.manual_seed(3)
    drawn = [torch.randn(*shape).to(getattr(torch, dtype)) for shape in shapes]
    found: list[list[torch.Tensor]] = []
    for device in ("cpu", "sim"):
        inputs = [tensor.clone().to(device).requires_grad_() for tensor in drawn]
        torch.manual_seed(4)
        result = function(*inputs)
        assert result.device.type == device
        result.float().square().sum().backward()  # type: ignore[no-untyped-call]
        found.append([result.detach().cpu(), *(tensor.grad.cpu() for tensor in inputs if tensor.grad is not None)])
    host, device_results = found
    return len(host) == len(device_results) and all(map(torch.equal, host, device_results))


CASES: dict[str, tuple[Callable[..., torch.Tensor], list[tuple[int, ...]]]] = {
    "matmul": (lambda x, w: x @ w.t(), [(5, 70), (9, 70)]),
    "linear": (functional.linear, [(4, 3, 8), (16, 8), (16,)]),
    "attention": (lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True), [(2, 4, 17, 8)] * 3),
    "attention, grouped": (
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [(2, 4, 17, 8), (2, 2, 17, 8), (2, 2, 17, 8)],
    ),
    "attention, masked": (
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(9, 9, device=q.device).tril().bool()),
        [(1, 2, 9, 8)] * 3,
    ),
    "convolution": (lambda x, w, b: functional.conv2d(x, w, b, padding=1), [(2, 3, 8, 8), (4, 3, 3, 3), (4,)]),
    "transposed convolution": (
        lambda x, w, b: functional.conv_transpose2d(x, w, b, stride=2), [(2, 3, 5, 5), (3, 4, 3, 3), (4,)],
    ),
    "layer norm": (lambda x, w, b: functional.layer_norm(x, (8,), w, b), [(6, 8), (8,), (8,)]),
    "rms norm": (lambda x, w: functional.rms_norm(x, (8,), w), [(6, 8), (8,)]),
    "dropout": (lambda x: functional.dropout(x, 0.3), [(64, 8)]),
    "softmax of a view": (lambda x: x.t()[1:].softmax(-1), [(6, 8)]),
    "index": (lambda x: x[torch.tensor([3, 1, 3], device=x.device)], [(6, 8)]),
    "cross entropy": (lambda x: functional.cross_entropy(x, torch.arange(6, device=x.device)), [(6, 8)]),
    "complex": (lambda x: torch.fft.rfft(x).abs(), [(6, 8)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_the_cpus(name: str) -> None:
    function, shapes = CASES[name]
    dtypes = ("float32",) if name == "complex" else DTYPES
    assert inside(HEALTHY, lambda: {dtype: equal_on_both(function, *shapes, dtype=dtype) for dtype in dtypes}) == dict.fromkeys(
        dtypes, True
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_autocast_is_the_cpus(dtype: str) -> None:
    def mixed(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, dtype=getattr(torch, dtype)):
            y = functional.linear(x, w)
            assert y.dtype == getattr(torch, dtype)
            return functional.mse_loss(torch.cat([y, y.softmax(-1)]), torch.cat([x, x]))

    assert inside(HEALTHY, lambda: equal_on_both(mixed, (6, 8), (8, 8)))


def test_training_with_every_optimizer_is_the_cpus() -> None:
    def train(device: str, optimizer: Callable[..., Any]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)).to(device)
        chosen = optimizer(model.parameters())
        data = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
        for batch in data:
            chosen.zero_grad()
            model(batch.to(device)).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            chosen.step()
        return [parameter.detach().cpu() for parameter in model.parameters()]

    def compare() -> list[bool]:
        optimizers: list[Callable[..., Any]] = [
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
            lambda p: torch.optim.AdamW(p),
            lambda p: torch.optim.AdamW(p, fused=True),
            lambda p: torch.optim.AdamW(p, foreach=True),
            lambda p: torch.optim.Adafactor(p),
        ]
        return [all(map(torch.equal, train("cpu", item), train("sim", item))) for item in optimizers]

    assert inside(HEALTHY, compare) == [True] * 5


def test_views_share_memory_and_writes_through_them_are_seen() -> None:
    def write() -> list[float]:
        x = torch.zeros(4, 4, device="sim")
        x.t()[1:3, ::2] += 1
        x[2].mul_(0).add_(5)
        return [float(value) for value in x.cpu().flatten()]

    x = torch.zeros(4, 4)
    x.t()[1:3, ::2] += 1
    x[2].mul_(0).add_(5)
    assert inside(HEALTHY, write) == [float(value) for value in x.flatten()]


def test_tensors_of_every_layout_survive_a_file() -> None:
    def save_and_load() -> list[Any]:
        base = torch.arange(24.0, device="sim").reshape(4, 6)
        kept = {"view": base.t()[1:], "same": base, "half": base.bfloat16(), "empty": base[:0], "scalar": base[1, 2], "flags": base > 3}
        found = []
        for place in ("sim", "cpu", None):
            file = io.BytesIO()
            torch.save(kept, file)
            file.seek(0)
            loaded = torch.load(file, map_location=place)
            found += [
                torch.equal(loaded[name].cpu(), tensor.cpu()) and loaded[name].stride() == tensor.stride()
                for name, tensor in kept.items()
            ]
            found.append(loaded["view"].untyped_storage().data_ptr() == loaded["same"].untyped_storage().data_ptr())
            found.append(loaded["same"].device.type == (place or "sim"))
        return found

    assert all(inside(HEALTHY, save_and_load))


def test_memory_is_limited_counted_and_given_back() -> None:
    def fill() -> dict[str, Any]:
        free, total = torch.get_device_module("sim").mem_get_info()
        block = torch.empty(2**26, dtype=torch.uint8, device="sim")
        during = torch.get_device_module("sim").mem_get_info()[0]
        refused = []
        for elements in (2**28, 2**50):
            try:
                torch.ones(elements, device="sim")
            except torch.OutOfMemoryError as problem:
                refused.append("out of memory" in str(problem))
        for times in (8,):
            try:
                block.repeat(times)
            except torch.OutOfMemoryError as problem:
                refused.append("out of memory" in str(problem))
        del block
        return {"total": total, "held": free - during, "left": free - torch.get_device_module("sim").mem_get_info()[0], "refused": refused}

    assert inside(HEALTHY, fill) == {"total": 2**28, "held": 2**26, "left": 0, "refused": [True, True, True]}


def test_what_pytorch_leaves_to_cpp_works_all_the_same() -> None:
    def gaps() -> dict[str, Any]:
        own = torch.Generator(device="sim").manual_seed(5)
        host = torch.Generator().manual_seed(5)
        torch.accelerator.synchronize()
        lstm, gru = nn.LSTM(3, 4).to("sim"), nn.GRU(3, 4).to("sim")
        x = torch.randn(5, 2, 3)
        return {
            "generator": torch.equal(torch.rand(9, device="sim", generator=own).cpu(), torch.rand(9, generator=host)),
            "plain generator": type(torch.Generator("cpu").manual_seed(1).get_state()).__name__,
            "pinned": torch.ones(3).pin_memory().is_pinned(),
            "not pinned": torch.ones(3).is_pinned(),
            "lstm": torch.allclose(lstm(x.to("sim"))[0].cpu(), lstm.cpu()(x)[0]),
            "gru": torch.allclose(gru(x.to("sim"))[0].cpu(), gru.cpu()(x)[0]),
            "resized": list(torch.ones(2, device="sim").resize_(3, 3).shape),
            "bytes": torch.ones(3, device="sim").to(torch.float8_e4m3fn).float().tolist(),
            "text": str(torch.ones(2, device="sim")),
            "vmap": torch.vmap(lambda row: row.sum())(torch.ones(3, 2, device="sim")).tolist(),
            "deep copy": str(__import__("copy").deepcopy(nn.Linear(2, 2).to("sim")).weight.device),
        }

    assert inside(HEALTHY, gaps) == {
        "generator": True, "plain generator": "Tensor", "pinned": True, "not pinned": False, "lstm": True, "gru": True,
        "resized": [3, 3], "bytes": [1.0, 1.0, 1.0], "text": "tensor([1., 1.], device='sim:0')", "vmap": [2.0, 2.0, 2.0],
        "deep copy": "sim:0",
    }  # fmt: skip


def test_ten_thousand_steps_neither_leak_nor_crash() -> None:
    def work() -> int:
        module = torch.get_device_module("sim")
        weight = torch.randn(64, 600, device="sim", requires_grad=True)
        before = module.mem_get_info()[0]
        for _ in range(2500):
            (torch.randn(4, 64, device="sim") @ weight).square().mean().backward()  # type: ignore[no-untyped-call]
            weight.grad = None
        return int(before - module.mem_get_info()[0])

    assert inside(HEALTHY, work) == 0


def test_an_exception_on_its_way_is_not_lost_when_memory_is_given_back() -> None:
    def work() -> list[int]:
        def once(fail: bool) -> Any:
            held = torch.ones(2**16, device="sim")
            yield float(held[0])
            if fail:
                raise ValueError("it fails")

        raised = 0
        for number in range(300):
            try:
                assert list(once(number % 2 == 0)) == [1.0]
            except ValueError:
                raised += 1
        module = torch.get_device_module("sim")
        return [raised, module.mem_get_info()[1] - module.mem_get_info()[0]]

    assert inside(HEALTHY, work) == [150, 0]


def test_a_process_can_become_another_chip() -> None:
    from readiness.simulator.install import install, installed
    from tests.support.simulator import defect

    def change() -> list[Any]:
        sound = float((torch.ones(2, device="sim") * 2).sum())
        install(chip(defect("missing", "mul*"), chips=2), 1)
        current = installed()
        assert current is not None
        try:
            torch.ones(2, device="sim") * 2
        except NotImplementedError as problem:
            return [sound, current.number, "aten::mul" in str(problem)]
        return []

    assert inside(HEALTHY, change) == [4.0, 1, True]
