"""Devices that present themselves as `torch.cuda`: whose they are, and what is known of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readiness.accelerators import cuda as cuda_stack
from readiness.accelerators import torch_build, vendor_id, version_rules
from readiness.accelerators.base import OutOfReachError
from readiness.accelerators.cuda import Cuda
from readiness.accelerators.rocm import Rocm
from readiness.accelerators.torch_build import TorchBuild
from readiness.accelerators.version_rules import Ruling
from readiness.datamodel import AcceleratorFacts
from readiness.documents.assessment import facts_from_json, facts_to_json
from tests.unit.accelerators import fake_nvml
from tests.unit.accelerators.fake_nvml import UUID, NVMLError

Plant = Callable[..., None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Make torch believe in devices of these names, and in this build of itself."""

    def do(*names: str, version: str = "2.9.0", cuda: str | None = "13.0", hip: str | None = None, uuid: Any = UUID) -> None:
        def properties(index: int) -> SimpleNamespace:
            return SimpleNamespace(
                name=names[index], uuid=uuid, total_memory=79 * 2**30, major=9, minor=0, multi_processor_count=132,
                pci_bus_id=0x17 + index, pci_device_id=0, pci_domain_id=0,
            )  # fmt: skip

        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch, "__version__", version)
        monkeypatch.setattr(torch_build, "installed", lambda: TorchBuild(version, {"cuda": cuda, "hip": hip}))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
        monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 29, 7))
        monkeypatch.setattr(cuda_stack, "_driver_api", lambda: "13.1")
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make())

    return do


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _first(stack: Cuda | Rocm) -> AcceleratorFacts:
    facts = next(iter(stack.discover()))
    document = json.loads(json.dumps(facts_to_json(facts), allow_nan=False))
    assert facts_from_json(document).id == facts.id
    return facts


def test_nvidia_joined_with_nvml_and_the_kernel(plant: Plant, tmp_path: Path) -> None:
    plant("NVIDIA X1")
    _write(tmp_path / "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.48.01  Mon\n")
    _write(tmp_path / "sys/bus/pci/devices/0000:17:00.0/vendor", "0x10de")
    facts = _first(Cuda(tmp_path))
    assert (facts.id, facts.stack, facts.vendor, facts.model) == ("cuda:0", "cuda", "NVIDIA", "NVIDIA X1")
    assert (facts.serial, facts.memory_bytes) == ("1650000000000", 79 * 2**30)
    assert facts.software == {
        "torch": "2.9.0", "nccl": "2.29.7", "cuda": "13.0", "driver": "590.48.01", "cuda_driver_api": "13.1",
        "cudnn": "9.10.2", "driver_library": "590.48.01", "firmware": "96.00.00.00.01",
    }  # fmt: skip
    assert facts.counters is not None
    assert facts.counters["ecc_uncorrected_volatile"] == 10
    assert facts.properties["mig"] is False
    assert "retired_pages_pending" in facts.properties["nvml_refused"]


def test_under_windows_the_library_has_a_number_of_its_own(plant: Plant, tmp_path: Path) -> None:
    plant("NVIDIA X1")
    sys.modules["pynvml"] = fake_nvml.make(nvmlSystemGetDriverVersion="555.99", nvmlSystemGetNVMLVersion="12.555.52.01")
    assert {item.ruling for item in version_rules.judge(_first(Cuda(tmp_path)))} >= {Ruling.BROKEN}
    _write(tmp_path / "dev/dxg", "")
    facts = _first(Cuda(tmp_path))
    assert facts.software["driver"] == "555.99"
    assert Ruling.BROKEN not in {item.ruling for item in version_rules.judge(facts)}


def test_renumbered_devices_are_matched_by_address_not_by_index(plant: Plant, tmp_path: Path) -> None:
    plant("NVIDIA X1", "NVIDIA X1", uuid=None)
    sys.modules["pynvml"] = fake_nvml.make(
        addresses=("0000:17:00.0", "0000:18:00.0"), nvmlDeviceGetSerial=lambda handle: f"serial of {handle}"
    )
    assert [facts.serial for facts in Cuda(tmp_path).discover()] == ["serial of 0000:17:00.0", "serial of 0000:18:00.0"]


def test_without_nvml_the_device_is_listed_with_the_reason(plant: Plant, tmp_path: Path) -> None:
    plant("NVIDIA X1")
    sys.modules["pynvml"] = None  # type: ignore[assignment]
    facts = _first(Cuda(tmp_path))
    assert (facts.vendor, facts.serial, facts.counters) == ("NVIDIA", UUID, None)
    assert "cannot be imported" in facts.properties["nvml"]
    assert facts.software["driver_library"] is None
    assert Cuda(tmp_path).counters(facts) is None
    _write(tmp_path / "proc/self/maps", "7f1-7f2 r-xp 00000000 08:01 123   /usr/lib/libcuda.so.590.48.01\n")
    assert _first(Cuda(tmp_path)).software["driver_library"] == "590.48.01"


@pytest.mark.parametrize(
    ("name", "version", "pci", "vendor"),
    [
        ("MetaX C999", "2.8.0+metax3.5.3.9", "9999", "MetaX"),
        ("C999", "2.8.0+metax3.5.3.9", None, "MetaX"),
        ("Iluvatar BI-V999", "2.4.1+corex.4.3.0", "1e3e", "Iluvatar"),
        ("NVIDIA X1", "2.4.1+corex.4.3.0", None, None),  # the build and the name contradict each other
        ("Something", "2.9.0", None, None),
        ("Something", "2.9.0", "feed", None),
        ("X2 [ZLUDA]", "2.9.0", "10de", None),
    ],
)
def test_torch_cuda_does_not_mean_nvidia(
    plant: Plant, tmp_path: Path, name: str, version: str, pci: str | None, vendor: str | None
) -> None:
    plant(name, version=version)
    sys.modules["pynvml"] = fake_nvml.make(uuids=(), addresses=())
    if pci is not None:
        _write(tmp_path / "sys/bus/pci/devices/0000:17:00.0/vendor", f"0x{pci}")
    assert _first(Cuda(tmp_path)).vendor == vendor


@pytest.mark.parametrize("witness", ["nvml", "pci"])
def test_a_name_without_a_maker_is_nvidias_when_something_else_confirms_it(
    plant: Plant, tmp_path: Path, witness: str
) -> None:
    plant("X9 Compute")
    if witness == "pci":
        sys.modules["pynvml"] = fake_nvml.make(uuids=(), addresses=())
        _write(tmp_path / "sys/bus/pci/devices/0000:17:00.0/vendor", "0x10de")
    assert _first(Cuda(tmp_path)).vendor == "NVIDIA"


def test_nvml_is_not_used_for_another_vendors_device(plant: Plant, tmp_path: Path) -> None:
    plant("MetaX C999", version="2.8.0+metax3.5.3.9")
    sys.modules["pynvml"] = fake_nvml.make(nvmlInit=AssertionError("asked"))
    facts = _first(Cuda(tmp_path))
    assert facts.counters is None
    assert "not read" in facts.properties["nvml"]


def test_a_driver_that_opens_no_device_is_reported(plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("the driver is too old")

    plant()
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list(Cuda(tmp_path).discover()) == []
    _write(tmp_path / "dev/nvidiactl", "")
    with pytest.raises(RuntimeError, match="too old"):
        list(Cuda(tmp_path).discover())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert list(Cuda(tmp_path).discover()) == []


@pytest.mark.parametrize(
    ("chosen", "hidden"),
    [("", True), ("-1", True), ("NoDevFiles", True), (" -1,0", True), ("0,1,2,3", False), ("GPU-8f1c", False), ("7", False)],
)
def test_a_choice_of_devices_excuses_no_driver_that_opens_none(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, hidden: bool
) -> None:
    plant()
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    _write(tmp_path / "dev/nvidiactl", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    if hidden:
        assert list(Cuda(tmp_path).discover()) == []
    else:
        with pytest.raises(RuntimeError, match=f"torch finds no device; CUDA_VISIBLE_DEVICES is '{chosen}'"):
            list(Cuda(tmp_path).discover())


def test_counters_are_read_again(plant: Plant, tmp_path: Path) -> None:
    plant("NVIDIA X1")
    facts = _first(Cuda(tmp_path))
    sys.modules["pynvml"] = fake_nvml.make(nvmlDeviceGetPcieReplayCounter=9)
    after = Cuda(tmp_path).counters(facts)
    assert after is not None
    assert after["pcie_replays"] == 9
    sys.modules["pynvml"] = fake_nvml.make(nvmlInit=NVMLError("gone"))
    assert Cuda(tmp_path).counters(facts) is None


@pytest.mark.parametrize(
    ("nccl", "enabled", "share"),
    [
        ("2.30.3", "1", True), ("2.32.3", "1", True), ("2.30.3", None, False), ("2.30.3", "0", False), ("2.30.3", "", False),
        ("2.29.7", "1", False), (None, "1", False), ("unknown", "1", False),
    ],
)  # fmt: skip
def test_ranks_share_a_gpu_if_nccl_supports_it_and_the_variable_is_set(
    nccl: str | None, enabled: str | None, share: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NCCL_MULTI_RANK_GPU_ENABLE", raising=False)
    if enabled is not None:
        monkeypatch.setenv("NCCL_MULTI_RANK_GPU_ENABLE", enabled)
    facts = AcceleratorFacts("cuda:0", "cuda", 0, "cuda", "NVIDIA", "GPU", software={"nccl": nccl})
    assert Cuda().ranks_share(facts) is share
    assert Rocm().ranks_share(facts) is False


def test_amd_joined_with_the_kernels_files(plant: Plant, tmp_path: Path) -> None:
    plant("AMD Instinct M9", cuda=None, hip="6.4.43482-abcdef012")
    _write(tmp_path / "sys/module/amdgpu/version", "6.16.6\n")
    _write(tmp_path / "opt/rocm/.info/version", "7.1.1\n")
    folder = tmp_path / "sys/bus/pci/devices/0000:17:00.0"
    _write(folder / "vendor", "0x1002")
    _write(folder / "unique_id", "abcd1234abcd1234")
    _write(folder / "vbios_version", "113-M9-001")
    _write(folder / "ras/umc_err_count", "ue: 0\nce: 4\n")
    facts = _first(Rocm(tmp_path))
    assert (facts.id, facts.stack, facts.vendor, facts.serial) == ("cuda:0", "rocm", "AMD", "abcd1234abcd1234")
    assert facts.counters == {"umc_uncorrected": 0, "umc_corrected": 4}
    assert Rocm(tmp_path).counters(facts) == facts.counters
    software = facts.software
    assert (software["rocm"], software["driver"], software["firmware"]) == ("7.1.1", "6.16.6", "113-M9-001")
    assert list(Cuda(tmp_path).discover()) == []


def test_a_fork_of_rocm_is_not_amds(plant: Plant, tmp_path: Path) -> None:
    plant("K100_AI", version="2.5.1+das.opt1.dtk25041", cuda=None, hip="5.7.2")
    assert _first(Rocm(tmp_path)).vendor == "Hygon"


def test_rocm_finds_nothing_under_cuda(plant: Plant, tmp_path: Path) -> None:
    plant("NVIDIA X1")
    assert list(Rocm(tmp_path).discover()) == []


@pytest.mark.parametrize(
    ("build", "nodes", "cuda", "rocm"),
    [
        (TorchBuild("2.9.0+cpu", {"cuda": None, "hip": None}), (), "not built for CUDA", "not built for ROCM"),
        (TorchBuild("2.9.0", {"cuda": "13.0", "hip": None}), (), "no device node", "not built for ROCM"),
        (TorchBuild("2.9.0", {"cuda": "13.0", "hip": None}), ("nvidiactl",), None, "not built for ROCM"),
        (TorchBuild("2.9.0", {"cuda": "13.0", "hip": None}), ("dxg",), None, "not built for ROCM"),
        (TorchBuild("2.9.0+cpu", {"cuda": None, "hip": None}), ("nvidiactl", "kfd"), "is loaded", "is loaded"),
        (TorchBuild("2.9.0", {"cuda": None, "hip": "6.4"}), ("kfd",), "not built for CUDA", None),
        (TorchBuild("2.9.0", {"cuda": None, "hip": "6.4"}), (), "not built for CUDA", "no device node"),
        (TorchBuild("2.8.0+metax3", {"cuda": "11.6", "hip": None}), (), None, "not built for ROCM"),
        (TorchBuild("2.5.1+das.dtk1", {"cuda": None, "hip": "5.7"}), (), "not built for CUDA", None),
        (TorchBuild("2.9.0"), ("nvidiactl", "kfd"), None, None),
        (None, (), "torch is not installed", "torch is not installed"),
    ],
)
def test_absence_is_found_without_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, build: TorchBuild | None, nodes: tuple[str, ...],
    cuda: str | None, rocm: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch_build, "installed", lambda: build)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    (tmp_path / "dev").mkdir()
    for node in nodes:
        (tmp_path / "dev" / node).touch()
    for stack, reason_part in ((Cuda(tmp_path), cuda), (Rocm(tmp_path), rocm)):
        if reason_part == "is loaded":
            with pytest.raises(OutOfReachError, match=r"was not built for .*, though its driver is loaded"):
                stack.absence()
            continue
        reason = stack.absence()
        assert reason is None if reason_part is None else reason_part in (reason or "")


def test_witnesses_that_contradict_each_other_name_nobody() -> None:
    assert vendor_id.decide({"name": "NVIDIA", "pci": "AMD"}) is None
    assert vendor_id.decide({"name": None, "pci": None}) is None
    assert vendor_id.decide({"name": "AMD", "pci": "AMD", "build": None}) == "AMD"


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("Tesla V100-SXM2-32GB", "NVIDIA"), ("Tesla T4", "NVIDIA"), ("A100-SXM4-40GB", "NVIDIA"), ("GRID A100-10C", "NVIDIA"),
        ("Quadro RTX 6000", "NVIDIA"), ("GeForce RTX 3090", "NVIDIA"), ("TITAN V", "NVIDIA"), ("Iluvatar BI-V100", "Iluvatar"),
        ("MetaX C500", "MetaX"), ("X9 Compute", None), ("A100 clone", None),
    ],
)  # fmt: skip
def test_what_a_name_gives_away(name: str, maker: str | None) -> None:
    assert vendor_id.of_name(name) == maker
