"""Whose kernel runs: by the dispatch table of a device that PyTorch brings, of one that it lacks, and of a plug-in's."""

from __future__ import annotations

import pytest
import torch

from readiness.probes.operators import kernel_provenance
from readiness.probes.operators.kernel_provenance import Provenance
from tests.support.simulator import chip, inside

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aten::add.Tensor", Provenance.NATIVE),
        ("aten::gelu", Provenance.NATIVE),
        ("aten::add.out", Provenance.NATIVE),
        ("aten::linear", Provenance.DECOMPOSED),
        ("aten::embedding", Provenance.DECOMPOSED),
        ("aten::_cudnn_ctc_loss", Provenance.ABSENT),
        ("aten::nothing_of_this_name", Provenance.UNKNOWN),
        ("aten::add.nothing_of_this_name", Provenance.UNKNOWN),
    ],
)
def test_the_cpus_kernels(name: str, expected: Provenance) -> None:
    assert kernel_provenance.of_overload("cpu", name) is expected


def test_a_device_that_this_build_lacks_has_composites_and_nothing_of_its_own() -> None:
    assert kernel_provenance.of_overload("xpu", "aten::add.out") is Provenance.ABSENT
    assert kernel_provenance.of_overload("xpu", "aten::linear") is Provenance.DECOMPOSED
    assert kernel_provenance.of_overload("xpu", "aten::gelu") is Provenance.DECOMPOSED  # of an out= kernel that is not there


def test_an_unregistered_device_is_unknown() -> None:
    assert kernel_provenance.dispatch_key("npu") is None
    assert kernel_provenance.of_overload("npu", "aten::add.Tensor") is Provenance.UNKNOWN


def test_an_unreadable_dispatch_table_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_dispatch_has_kernel_for_dispatch_key")
    assert kernel_provenance.of_overload("cpu", "aten::add.Tensor") is Provenance.UNKNOWN


def test_a_mark_that_is_new_to_us_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_dispatch_dump_table", lambda name: "CPU: registered at x.cpp:1 [something new]\n")
    assert kernel_provenance.of_overload("cpu", "aten::linear") is Provenance.UNKNOWN


def test_an_operator_is_as_native_as_the_best_of_its_overloads() -> None:
    assert "aten::add.Tensor" in kernel_provenance.overloads("aten::add")
    assert "aten::gelu" in kernel_provenance.overloads("aten::gelu")
    assert kernel_provenance.of_operator("cpu", "aten::add") is Provenance.NATIVE
    assert kernel_provenance.of_operator("cpu", "aten::reshape") is Provenance.DECOMPOSED
    assert kernel_provenance.of_operator("cpu", "aten::nothing_of_this_name") is Provenance.UNKNOWN


def test_best_and_worst_of_several() -> None:
    several = [Provenance.DECOMPOSED, Provenance.FALLBACK, Provenance.NATIVE]
    assert (kernel_provenance.best(several), kernel_provenance.worst(several)) == (Provenance.NATIVE, Provenance.FALLBACK)
    assert (kernel_provenance.best([]), kernel_provenance.worst([])) == (Provenance.UNKNOWN, Provenance.UNKNOWN)


def _on_the_simulated_device() -> dict[str, list[str]]:
    poor = [
        name
        for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
        if name.startswith("aten::") and kernel_provenance.of_overload("sim", name) is not Provenance.NATIVE
    ]
    few = ("aten::linear", "aten::reshape", "aten::_cudnn_ctc_loss", "aten::gelu")
    return {"poor": poor, "few": [kernel_provenance.of_overload("sim", name).value for name in few]}


def test_a_plug_in_that_registers_its_kernels_and_a_fallback_is_native_where_it_has_kernels() -> None:
    told = inside(chip(), _on_the_simulated_device)
    assert set(told["poor"]) <= {"aten::_pin_memory", "aten::is_pinned"}  # which the simulator adds for the host alone
    assert told["few"] == ["decomposed", "decomposed", "CPU fallback", "native"]


def _structured() -> list[str]:
    """A plug-in that has the out= kernel alone: PyTorch makes the functional overload of it."""
    from torch.utils.backend_registration import rename_privateuse1_backend

    rename_privateuse1_backend("plugged")
    before = kernel_provenance.of_overload("plugged", "aten::gelu").value
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name, key in (("gelu.out", "PrivateUse1"), ("linear", "AutogradPrivateUse1")):
        library.impl(name, lambda *given, **named: None, key)  # type: ignore[no-untyped-call]
    after = [kernel_provenance.of_overload("plugged", name).value for name in ("aten::gelu", "aten::silu", "aten::linear")]
    return [before, *after]


def test_a_kernel_registered_as_out_or_before_autograd_is_the_devices_own() -> None:
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_structured) == ["decomposed", "native", "decomposed", "native"]


@pytest.mark.parametrize(
    ("operator", "recorded", "expected"),
    [
        ("nn.functional.gelu", ["aten::gelu"], Provenance.NATIVE),
        ("softmax", ["aten::_softmax"], Provenance.NATIVE),
        ("native_layer_norm", ["aten::native_layer_norm"], Provenance.NATIVE),
        ("sum", ["aten::sum"], Provenance.NATIVE),  # itself made of sum.dim_IntList
        ("nn.functional.linear", ["aten::t", "aten::addmm"], Provenance.DECOMPOSED),
        ("nn.functional.embedding", ["aten::embedding"], Provenance.DECOMPOSED),
        ("scaled_dot_product_attention", ["aten::_scaled_dot_product_flash_attention_for_cpu"], Provenance.NATIVE),
        ("resolve_conj", [], Provenance.DECOMPOSED),
        ("add", [], Provenance.NATIVE),
    ],
)
def test_a_call_is_native_where_a_kernel_of_its_name_ran(operator: str, recorded: list[str], expected: Provenance) -> None:
    assert kernel_provenance.of_call("cpu", operator, recorded)[0] is expected


def test_overloads_of_a_call_are_recorded() -> None:
    given = torch.ones(3)
    with kernel_provenance.Recorder() as recorder:
        torch.softmax(given, 0)
    assert recorder.recorded == ("aten::_softmax",)


def _fallback() -> list[str]:
    called = kernel_provenance.of_call("sim", "anything", ["aten::add.Tensor", "aten::_cudnn_ctc_loss"])
    return [called[0].value, called[1]]


def test_one_overload_that_falls_back_is_enough() -> None:
    assert inside(chip(), _fallback) == ["CPU fallback", "aten::_cudnn_ctc_loss"]
