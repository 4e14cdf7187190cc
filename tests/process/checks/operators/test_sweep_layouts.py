"""operators.sweep on views: kernels that misread strides and offsets, and operators that rightly depend on them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.accelerators.base import Accelerator
from tests.support import value
from tests.support.operators import about, detail, findings, gelu, gelu_gradient, outcomes, sweep

STRIDED, OFFSET = "on a strided input", "on an input at an offset"
Misread = Callable[[torch.Tensor], torch.Tensor]


def ignore_strides(x: torch.Tensor) -> torch.Tensor:
    """Read as many elements as there are, one after the other."""
    return torch.as_strided(x, (x.numel(),), (1,), x.storage_offset()).reshape(x.shape).clone()


def ignore_offset(x: torch.Tensor) -> torch.Tensor:
    """Read from where the memory begins."""
    return torch.as_strided(x, x.shape, x.stride(), 0).clone()


def only_in(dtype: torch.dtype, misread: Misread) -> Misread:
    return lambda x: misread(x) if x.dtype == dtype else x


@pytest.mark.parametrize(("misread", "layout"), [(ignore_strides, STRIDED), (ignore_offset, OFFSET)])
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_misread_forward(override: Callable[..., None], misread: Misread, layout: str, name: str) -> None:
    read = only_in(getattr(torch, name), misread)
    override("gelu", lambda x, approximate="none": gelu(read(x)))
    evidence = sweep("nn.functional.gelu", "add", dtypes=("float32", "bfloat16"))
    found = findings(evidence)
    assert [(row["operator"], row["dtype"], row["outcome"], row["phase"]) for row in found] == [
        ("nn.functional.gelu", name, "wrong", "forward")
    ]
    assert found[0]["detail"].startswith(f"{layout}: ")
    reasons = [measurement.about for measurement in evidence.measurements if measurement.name == "wrong" and measurement.value]
    assert reasons == [f"cpu:0: nn.functional.gelu in {name}: wrong {layout}"]


@pytest.mark.parametrize(("misread", "layout"), [(ignore_strides, STRIDED), (ignore_offset, OFFSET)])
def test_misread_backward(override: Callable[..., None], misread: Misread, layout: str) -> None:
    read = only_in(torch.float32, misread)
    override("gelu_backward", lambda gradient, x, approximate="none": gelu_gradient(gradient, read(x)))
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("wrong", "backward")}
    assert value(evidence, "forward_coverage") == 1.0
    assert value(evidence, "backward_coverage") == 0.75
    assert about(evidence, "backward_coverage") == f"cpu:0: nn.functional.gelu in float32: wrong in its gradient {layout}"


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [(RuntimeError("the input must be dense"), "missing"), (NotImplementedError("strides"), "missing")],
)
def test_refused_view(override: Callable[..., None], problem: Exception, outcome: str) -> None:
    def dense(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        if x.dtype == torch.float32 and not x.is_contiguous():
            raise problem
        return gelu(x)

    override("gelu", dense)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": (outcome, "forward")}
    assert detail(evidence, "nn.functional.gelu").startswith(f"{STRIDED}: ")


def at_an_offset(end: Callable[[], None]) -> Callable[..., torch.Tensor]:
    def kernel(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        if x.storage_offset() and x.dtype == torch.float32:
            end()
        return gelu(x)

    return kernel


def test_hanging_at_an_offset(override: Callable[..., None], capfd: Any) -> None:
    override("gelu", at_an_offset(lambda: time.sleep(600)))
    evidence = sweep(operator_limit_s=2.0)
    assert outcomes(evidence) == {"nn.functional.gelu": ("hang", "forward")}
    assert detail(evidence, "nn.functional.gelu").startswith(f"{OFFSET}: ")
    assert (about(evidence, "crashed") or "").endswith(OFFSET)


def refuse() -> None:
    raise RuntimeError("addresses must be multiples of 16")


@pytest.mark.parametrize("end", [lambda: os.kill(os.getpid(), signal.SIGSEGV), refuse], ids=["crash", "refusal"])
def test_loud_at_an_offset_and_right_elsewhere(override: Callable[..., None], capfd: Any, end: Callable[[], None]) -> None:
    override("gelu", at_an_offset(end))
    evidence = sweep("nn.functional.gelu", "add", dtypes=("float32", "bfloat16"))
    assert value(evidence, "refuse_unaligned", dtype="float32") == 1
    assert value(evidence, "refuse_unaligned", dtype="bfloat16") == 0
    assert about(evidence, "refuse_unaligned") == "cpu:0: nn.functional.gelu in float32: refuses an input at an offset"
    assert value(evidence, "forward_coverage", dtype="float32") == value(evidence, "backward_coverage", dtype="float32") == 1
    assert value(evidence, "crashed", dtype="float32") == value(evidence, "missing", dtype="float32") == 0
    assert outcomes(evidence) == {"nn.functional.gelu": ("native", "forward")}
    assert detail(evidence, "nn.functional.gelu").startswith(f"but {OFFSET}: ")


def test_loud_at_an_offset_and_wrong_elsewhere(override: Callable[..., None], capfd: Any) -> None:
    loud = at_an_offset(refuse)
    override("gelu", lambda x, approximate="none": loud(x) * (1.01 if x.dtype == torch.float32 and x.ndim else 1))
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("wrong", "forward")}


def test_a_lost_device_costs_the_operator_that_lost_it_alone(
    override: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """An error that stays for good, as CUDA's do: whoever is tried next in that process is not to be blamed."""
    lost: list[bool] = []

    def kernel(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        if x.dtype == torch.float32:
            lost.append(True)
        if lost:
            raise RuntimeError("misaligned address")
        return gelu(x)

    def other(x: torch.Tensor, y: torch.Tensor, *, alpha: float = 1) -> torch.Tensor:
        if lost:
            raise RuntimeError("misaligned address")
        return torch.sub(x, y, alpha=-alpha)

    override("gelu", kernel)
    override("add.Tensor", other)
    monkeypatch.setattr(Accelerator, "is_usable", lambda accelerator: not lost)
    evidence = sweep("nn.functional.gelu", "add", "sub", dtypes=("float32", "bfloat16"))
    found = {(row["operator"], row["dtype"]): row for row in findings(evidence)}
    assert {key: row["outcome"] for key, row in found.items()} == {("nn.functional.gelu", "float32"): "crash"}
    assert found["nn.functional.gelu", "float32"]["detail"].startswith("left the device unusable: ")
    assert value(evidence, "judged", dtype="bfloat16") == 3


@pytest.mark.parametrize("dtypes", [("float32",), ("int64",)])
def test_operators_that_depend_on_memory_layout_are_not_wrong(dtypes: tuple[str, ...]) -> None:
    """The CPU itself refuses these views, or rightly gives something else for them."""
    only = ["as_strided", "as_strided_copy", "as_strided_scatter", "view", "view_as", "resize_", "contiguous"]
    only += ["view_as_complex", "native_group_norm", "nn.functional.nll_loss"] if dtypes == ("float32",) else []
    evidence = sweep(*only, dtypes=dtypes)
    assert {outcome for outcome, _ in outcomes(evidence).values()} <= {"cannot be judged"}
    assert value(evidence, "judged") >= 7
