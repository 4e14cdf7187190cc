"""What the kernel's files say, from files that tests bring."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from readiness.accelerators import sysfs
from tests.support.paths import RESOURCES
from tests.unit.accelerators.samples import needs_recordings, recorded


@pytest.mark.parametrize(
    ("file", "version", "kind"),
    [("proprietary", "711.22.03", "proprietary"), ("open", "712.33.04", "open"), ("aarch64", "713.4.0", "open")],
)
def test_three_wordings_of_one_driver(file: str, version: str, kind: str) -> None:
    text = (RESOURCES / "nvidia" / f"{file}.txt").read_text()
    assert sysfs.parse_nvidia_version(text) == (version, kind)


@needs_recordings
@pytest.mark.parametrize(
    ("name", "version", "kind"),
    [
        ("proc-driver-nvidia-version-proprietary-515.65.01.txt", "515.65.01", "proprietary"),
        ("proc-driver-nvidia-version-open-555.42.06.txt", "555.42.06", "open"),
        ("proc-driver-nvidia-version-jetson-aarch64-540.4.0.txt", "540.4.0", "open"),
    ],
)
def test_recorded_wordings(name: str, version: str, kind: str) -> None:
    assert sysfs.parse_nvidia_version(recorded(name)) == (version, kind)


@pytest.mark.parametrize("text", ["", "NVRM version: something else entirely", "GCC version: gcc version 12.2.0"])
def test_an_unknown_wording_names_no_version(text: str) -> None:
    assert sysfs.parse_nvidia_version(text) == (None, None)


def test_without_the_proc_file_the_module_gives_the_version(tmp_path: Path) -> None:
    assert sysfs.nvidia_kernel_module(tmp_path) == (None, None)
    _write(tmp_path / "sys/module/nvidia/version", "600.1\n")
    assert sysfs.nvidia_kernel_module(tmp_path) == ("600.1", None)


def test_the_version_of_a_loaded_library(tmp_path: Path) -> None:
    line = "7f1-7f2 r-xp 00000000 08:01 123   {}\n"
    _write(tmp_path / "proc/self/maps", line.format("/usr/local/cuda/compat/libcuda.so.900.1.2"))
    assert sysfs.loaded_library("libcuda", tmp_path) is None
    _write(tmp_path / "proc/self/maps", line.format("/usr/lib/libc.so.6") + line.format("/usr/lib/libcuda.so.590.48.01"))
    assert sysfs.loaded_library("libcuda", tmp_path) == "590.48.01"
    assert sysfs.loaded_library("libother", tmp_path) is None


def test_a_pci_vendor_is_named_only_when_it_is_known(tmp_path: Path) -> None:
    _write(tmp_path / "sys/bus/pci/devices/0000:17:00.0/vendor", "0x10de\n")
    _write(tmp_path / "sys/bus/pci/devices/0000:18:00.0/vendor", "0xfeed\n")
    assert sysfs.pci_vendor("0000:17:00.0", tmp_path) == ("NVIDIA", "10de")
    assert sysfs.pci_vendor("0000:18:00.0", tmp_path) == (None, "feed")
    assert sysfs.pci_vendor("0000:19:00.0", tmp_path) == (None, None)
    assert sysfs.pci_vendor(None, tmp_path) == (None, None)


def test_the_address_is_written_as_the_kernel_writes_it() -> None:
    properties = SimpleNamespace(pci_bus_id=0xC1, pci_device_id=0, pci_domain_id=1)
    assert sysfs.pci_address(properties) == "0001:c1:00.0"
    assert sysfs.pci_address(SimpleNamespace()) is None


def test_error_counts_block_by_block(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:23:00.0/ras"
    _write(folder / "umc_err_count", "ue: 1\nce: 7\nde: 2\n")
    _write(folder / "sdma_err_count", "ue: 0\nce: 0\n")
    _write(folder / "gfx_err_count", "not what it was\n")
    assert sysfs.ras_counters("0000:23:00.0", tmp_path) == {
        "umc_uncorrected": 1, "umc_corrected": 7, "umc_deferred": 2, "sdma_uncorrected": 0, "sdma_corrected": 0,
    }  # fmt: skip
    assert sysfs.ras_counters("0000:24:00.0", tmp_path) is None
    assert sysfs.ras_counters(None, tmp_path) is None


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
