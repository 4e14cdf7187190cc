"""What the kernel's files say of slots: whole, narrowed, slowed, silent, in virtual machines, and hostile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from readiness.accelerators import pcie, stack, sysfs
from readiness.accelerators.cuda import Cuda
from readiness.accelerators.pcie import Slot
from readiness.datamodel import AcceleratorFacts

ADDRESS = "0000:17:00.0"
SOUND = {
    "current_link_width": "16", "max_link_width": "16", "current_link_speed": "32.0 GT/s PCIe",
    "max_link_speed": "32.0 GT/s PCIe",
}  # fmt: skip


def device(root: Path, *, port: Mapping[str, str] | None = None, **files: str) -> Path:
    """A device below a port, with these files over those of a sound one; an empty text is no file."""
    bridge = root / "sys/devices/pci0000:16/0000:16:01.0"
    for folder, files_of_slot in ((bridge, SOUND if port is None else port), (bridge / ADDRESS, SOUND | files)):
        folder.mkdir(parents=True)
        for name, text in files_of_slot.items():
            if text:
                (folder / name).write_text(text + "\n")
    bus = root / "sys/bus/pci/devices"
    bus.mkdir(parents=True)
    (bus / ADDRESS).symlink_to(bridge / ADDRESS)
    processor(root, "fpu vme lahf_lm")
    return root


def processor(root: Path, flags: str) -> None:
    """What the kernel says of a processor with these flags."""
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(f"processor : 0\nmodel name : hypervisor\nflags\t\t: {flags}\nbugs : none\n")


def test_a_sound_slot(tmp_path: Path) -> None:
    found = pcie.read(ADDRESS, device(tmp_path))
    assert found == Slot(16, 32.0, 16, 32.0, 16)
    assert found.gbps == pytest.approx(63.0, abs=0.02)
    assert str(found) == (
        "16 lanes of 32 GT/s are in use: 63 GB/s each way; the device supports 16 of 32 GT/s, its other end of 16 lanes"
    )


@pytest.mark.parametrize(
    ("pace", "lanes", "gbps"), [("2.5 GT/s", 1, 0.25), ("5 GT/s", 16, 8.0), ("8.0 GT/s PCIe", 4, 3.94), ("64.0 GT/s PCIe", 16, 121.0)]
)
def test_generations(tmp_path: Path, pace: str, lanes: int, gbps: float) -> None:
    found = pcie.read(ADDRESS.upper(), device(tmp_path, current_link_speed=pace, current_link_width=str(lanes)))
    assert found is not None
    assert found.gbps == pytest.approx(gbps, rel=0.002)
    assert (found.most_lanes, found.most_pace) == (16, 32.0)


@pytest.mark.parametrize("port", [{}, {"max_link_width": "255"}, {"max_link_width": "none"}])
def test_a_port_without_data(tmp_path: Path, port: dict[str, str]) -> None:
    found = pcie.read(ADDRESS, device(tmp_path, port=port))
    assert found is not None
    assert found.port_lanes is None
    assert "other end" not in str(found)


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("text", ["", "Unknown", "0", "63", "255", "-4", "nan", "x" * 10_000, "\0"])
def test_half_an_answer_is_none(tmp_path: Path, name: str, text: str) -> None:
    files: dict[str, Any] = {name: text}
    found = pcie.read(ADDRESS, device(tmp_path, **files))
    assert found is None or (name.endswith("speed") and text in ("63", "255"))


def chain(root: Path, *places: dict[str, str]) -> str:
    """Devices one behind the other, from a port of the root on, with what is told of each. The address of the last."""
    folder, address = root / "sys/devices/pci0000:00", ""
    for number, files_of_slot in enumerate(places, start=1):
        address = f"0000:0{number}:00.0"
        folder = folder / address
        folder.mkdir(parents=True)
        for name, text in (SOUND | files_of_slot).items():
            (folder / name).write_text(text + "\n")
    bus = root / "sys/bus/pci/devices"
    bus.mkdir(parents=True)
    (bus / address).symlink_to(folder)
    processor(root, "fpu")
    return address


def test_a_switch_on_the_devices_own_board_is_part_of_it(tmp_path: Path) -> None:
    """AMD's cards: between device and switch all lanes are there, whatever the slot has."""
    lanes = (("0x1022", "16"), ("0x1002", "4"), ("0x1002", "16"), ("0x1002", "16"))
    address = chain(tmp_path, *({"vendor": vendor, "current_link_width": width} for vendor, width in lanes))
    found = pcie.read(address, tmp_path)
    assert found is not None
    assert (found.lanes, found.most_lanes, found.port_lanes) == (4, 16, 16)


def test_a_processor_of_the_same_maker_is_no_part_of_the_device(tmp_path: Path) -> None:
    """Hygon's devices hang on Hygon's processors: a port of a later generation than the device is no slow slot."""
    files_of_slot = {"vendor": "0x1d94", "current_link_speed": "16.0 GT/s PCIe"}
    address = chain(tmp_path, files_of_slot | {"max_link_speed": "32.0 GT/s PCIe"}, files_of_slot | {"max_link_speed": "16.0 GT/s PCIe"})
    found = pcie.read(address, tmp_path)
    assert found is not None
    assert (found.pace, found.most_pace) == (16.0, 16.0)


@pytest.mark.parametrize("address", [None, "", "..", "../../../../etc", "0000:17:00.0/../..", "0000:17:00.9", "0000:17:00.1", "\0"])
def test_other_addresses_have_none(tmp_path: Path, address: str | None) -> None:
    assert pcie.read(address, device(tmp_path)) is None


def test_what_a_virtual_machine_sees_is_made_up(tmp_path: Path) -> None:
    root = device(tmp_path)
    processor(root, "fpu vme hypervisor lahf_lm")
    assert not sysfs.is_bare(root)
    assert pcie.read(ADDRESS, root) is None
    processor(root, "fpu vme hypervisors")
    assert sysfs.is_bare(root)
    assert pcie.read(ADDRESS, root) is not None
    (root / "sys/hypervisor").mkdir()
    (root / "sys/hypervisor/type").write_text("xen\n")
    assert not sysfs.is_bare(root)
    assert pcie.read(ADDRESS, root) is None


@pytest.mark.parametrize("text", [None, "", "processor : 0\nFeatures : fp asimd\n"])
def test_without_processor_flags_virtualisation_is_unknown(tmp_path: Path, text: str | None) -> None:
    root = device(tmp_path)
    (root / "proc/cpuinfo").unlink()
    if text is not None:
        (root / "proc/cpuinfo").write_text(text)
    assert pcie.read(ADDRESS, root) is None


def test_stacks_read_the_slot_of_their_own_device(tmp_path: Path) -> None:
    root = device(tmp_path)
    facts = AcceleratorFacts("cuda:0", "cuda", 0, "cuda", "NVIDIA", "X1", properties={"pci_address": ADDRESS})
    assert Cuda(root).slot(facts) == Slot(16, 32.0, 16, 32.0, 16)
    assert stack("cpu").slot(AcceleratorFacts("cpu:0", "cpu", 0, "cpu", None, None)) is None
