"""Stacks that come as a plug-in, and those torch knows by itself, each with a namespace made for the test."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from readiness import accelerators
from readiness.accelerators import torch_build
from readiness.accelerators.ascend import Ascend
from readiness.accelerators.base import Accelerator, OutOfReachError
from readiness.accelerators.mlu import Mlu
from readiness.accelerators.mps import Mps
from readiness.accelerators.torch_build import TorchBuild
from readiness.accelerators.xla import Xla
from readiness.accelerators.xpu import Xpu
from readiness.documents.assessment import facts_to_json
from tests.support.paths import RESOURCES

PLUGGED = {"ascend": "torch_npu", "mlu": "torch_mlu", "musa": "torch_musa", "hpu": "habana_frameworks", "xla": "torch_xla"}


def _namespace(count: int, name: str, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(
        device_count=lambda: count,
        get_device_name=lambda _: name,
        get_device_properties=lambda _: SimpleNamespace(total_memory=60 * 2**30),
        **more,
    )


def test_ascend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "npu", _namespace(2, "Ascend910B9"), raising=False)
    found = list(Ascend(RESOURCES / "ascend/fitting").discover())
    assert [facts.id for facts in found] == ["npu:0", "npu:1"]
    assert (found[1].vendor, found[1].model, found[1].memory_bytes) == ("Huawei", "Ascend910B9", 60 * 2**30)
    assert found[0].software == {
        "torch": torch.__version__, "torch_npu": None, "driver": "31.4.rc2", "firmware": "9.4.2.11.300", "cann": "8.5.0"
    }  # fmt: skip
    assert found[0].properties["compatibility"] == {"driver_and_firmware": True, "driver_and_cann": True}
    json.dumps(facts_to_json(found[0]), allow_nan=False)


def test_cambricon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch, "mlu", _namespace(1, "MLU999"), raising=False)
    file = tmp_path / "usr/local/neuware/version.txt"
    file.parent.mkdir(parents=True)
    file.write_text("Neuware Version 9.8.7\n")
    [facts] = Mlu(tmp_path).discover()
    assert (facts.vendor, facts.software["neuware"], facts.software["driver"]) == ("Cambricon", "9.8.7", None)


@pytest.mark.parametrize(("name", "kind", "vendor"), [("musa", "musa", "Moore Threads"), ("hpu", "hpu", "Habana")])
def test_other_plug_ins(monkeypatch: pytest.MonkeyPatch, name: str, kind: str, vendor: str) -> None:
    stack = accelerators.stack(name)
    monkeypatch.setattr(type(stack), "module", lambda _: _namespace(1, "X9"))
    [facts] = stack.discover()
    assert (facts.id, facts.vendor) == (f"{kind}:0", vendor)


def test_a_device_name_that_contradicts_the_plug_in_leaves_the_vendor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "npu", _namespace(1, "NVIDIA X1"), raising=False)
    assert next(iter(Ascend(RESOURCES).discover())).vendor is None


def test_missing_properties_are_reported_and_not_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = _namespace(1, "Ascend910B9")
    del namespace.get_device_properties
    monkeypatch.setattr(torch, "npu", namespace, raising=False)
    [facts] = Ascend(RESOURCES).discover()
    assert facts.memory_bytes is None
    assert "AttributeError" in facts.properties["device_properties_refused"]


def test_a_plug_in_that_fails_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise RuntimeError("the driver does not answer")

    monkeypatch.setattr(torch, "npu", SimpleNamespace(device_count=fail), raising=False)
    with pytest.raises(RuntimeError, match="does not answer"):
        list(Ascend(RESOURCES).discover())


def test_a_plug_in_that_counts_none_of_the_drivers_devices_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch, "npu", _namespace(0, ""), raising=False)
    monkeypatch.setattr(Ascend, "machine", tmp_path)
    assert list(Ascend(RESOURCES).discover()) == []  # no driver is loaded
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/davinci0").touch()
    with pytest.raises(RuntimeError, match="its driver is loaded, but torch finds no device"):
        list(Ascend(RESOURCES).discover())
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "-1")
    assert list(Ascend(RESOURCES).discover()) == []


def test_a_plug_in_that_adds_nothing_is_reported() -> None:
    with pytest.raises(RuntimeError, match="no namespace 'npu'"):
        list(Ascend(RESOURCES).discover())


@pytest.mark.parametrize("name", PLUGGED)
def test_absence_looks_for_the_plug_in_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    stack = accelerators.stack(name)
    module = PLUGGED[name]
    assert "is not installed" in (stack.absence() or "")
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert stack.absence() is None
    assert module not in sys.modules


def test_a_driver_without_its_plug_in_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/davinci0").touch()
    monkeypatch.setattr(Ascend, "machine", tmp_path)
    with pytest.raises(OutOfReachError, match="torch_npu is not installed, though its driver is loaded"):
        Ascend().absence()


def _fake_xla(monkeypatch: pytest.MonkeyPatch, kind: str, log: list[str]) -> None:
    runtime, core, model, top = (ModuleType(name) for name in ("runtime", "core", "xla_model", "torch_xla"))
    vars(runtime).update(
        device_type=lambda: kind,
        addressable_device_count=lambda: 2,
        global_runtime_device_attributes=lambda: [{"name": "TPU:0", "coords": [0, 0]}, {"name": "TPU:1"}],
    )
    vars(model).update(
        get_memory_info=lambda _: {"bytes_limit": 100, "bytes_used": 30}, wait_device_ops=lambda _: log.append("wait")
    )
    vars(top).update(sync=lambda: log.append("sync"))
    for name, module in {
        "torch_xla": top, "torch_xla.runtime": runtime, "torch_xla.core": core, "torch_xla.core.xla_model": model
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)


def test_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    _fake_xla(monkeypatch, "TPU", log)
    found = list(Xla().discover())
    assert [(facts.id, facts.vendor, facts.model) for facts in found] == [
        ("xla:0", "Google", "TPU:0"), ("xla:1", "Google", "TPU:1")
    ]  # fmt: skip
    assert "libtpu" in found[0].software
    device = torch.device("cpu")
    assert Xla().memory(device) == (70, 100)
    Xla().synchronize(device)
    assert log == ["sync", "wait"]


def test_the_host_behind_xla_is_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_xla(monkeypatch, "CPU", [])
    assert list(Xla().discover()) == []


def test_intel(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="Intel(R) X9", total_memory=2**35, driver_version="1.6.3", platform_name="Level-Zero")
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda _: properties)
    [facts] = accelerators.stack("xpu").discover()
    assert (facts.id, facts.vendor, facts.software["driver"]) == ("xpu:0", "Intel", "1.6.3")


def test_intel_devices_that_torch_does_not_count_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def device(address: str, kind: str, driver: str) -> None:
        place = tmp_path / "sys/bus/pci/devices" / address
        place.mkdir(parents=True)
        (place / "vendor").write_text("0x8086\n")
        (place / "class").write_text(f"{kind}\n")
        (tmp_path / "sys/bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (place / "driver").symlink_to(tmp_path / "sys/bus/pci/drivers" / driver)

    monkeypatch.setattr(torch.xpu, "device_count", lambda: 0)
    monkeypatch.setattr(Xpu, "root", tmp_path)
    device("0000:03:00.0", "0x030000", "i915")  # it has a screen
    device("0000:00:02.0", "0x038000", "i915")  # part of a processor, beside another card that has the screen
    device("0000:29:00.0", "0x038000", "vfio-pci")  # given to a virtual machine
    assert list(Xpu().discover()) == []
    device("0000:9a:00.0", "0x038000", "xe")
    with pytest.raises(RuntimeError, match=r"loaded \(0000:9a:00.0\), but torch finds no device"):
        list(Xpu().discover())


def test_intel_is_absent_from_a_build_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for names, absent in (({"xpu": None}, True), ({"xpu": "20250101"}, False), ({}, False)):
        monkeypatch.setattr(torch_build, "installed", lambda names=names: TorchBuild("2.9.0", names))
        assert (accelerators.stack("xpu").absence() is not None) == absent


def test_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Mps()
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert "macOS only" in (stack.absence() or "")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert stack.absence() is None
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert list(stack.discover()) == []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 400)
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    [facts] = stack.discover()
    assert (facts.id, facts.vendor, facts.memory_bytes) == ("mps:0", "Apple", 1000)
    assert Accelerator(facts, stack).stack.memory(torch.device("cpu")) == (600, 1000)
