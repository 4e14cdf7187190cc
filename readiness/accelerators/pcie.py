"""PCI Express slot of a device, from the kernel's files: lanes and speed, now and at most."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from readiness.accelerators import sysfs

_ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Slot:
    """A link by PCI Express. `pace` is 10^9 transfers a second on each lane; `most_*` is what the device is capable of.

    `port_lanes` is what the other end, a switch or the processor, is capable of; None where it does not tell.
    """

    lanes: int
    pace: float
    most_lanes: int
    most_pace: float
    port_lanes: int | None = None

    @property
    def gbps(self) -> float:
        """Its bandwidth one way now, in 10^9 bytes a second, before the overhead of packets."""
        return self.lanes * self.pace * _coding(self.pace) / 8

    def __str__(self) -> str:
        """In words."""
        port = "" if self.port_lanes is None else f", its other end of {self.port_lanes} lanes"
        return (
            f"{self.lanes} lanes of {self.pace:g} GT/s are in use: {self.gbps:.3g} GB/s each way;"
            f" the device supports {self.most_lanes} of {self.most_pace:g} GT/s{port}"
        )


def read(address: str | None, root: Path = _ROOT) -> Slot | None:
    """Read the slot of the device at `0000:17:00.0`; None if the kernel does not report all of it, as in many containers.

    What a virtual machine sees of a slot is made up by its host: it is None as well unless this surely is none.
    """
    if address is None or sysfs.pci_place(address) is None or not sysfs.is_bare(root):
        return None
    try:
        folder = _outermost((root / "sys/bus/pci/devices" / address.lower()).resolve(strict=True))
    except (OSError, RuntimeError):
        return None
    lanes, most_lanes = (_number(folder / f"{which}_link_width") for which in ("current", "max"))
    pace, most_pace = (_number(folder / f"{which}_link_speed") for which in ("current", "max"))
    # 63 and 255 lanes stand for an answer that the device did not give.
    if not lanes or not most_lanes or not pace or not most_pace or max(lanes, most_lanes) > 32:
        return None
    port_lanes = _number(folder.parent / "max_link_width") if sysfs.pci_place(folder.parent.name) is not None else None
    return Slot(int(lanes), pace, int(most_lanes), most_pace, int(port_lanes) if port_lanes and port_lanes <= 32 else None)


def _outermost(folder: Path) -> Path:
    """The end of a device's own hardware: many have a switch of their own on the board, and lanes are lost before that.

    A port of the root is the processor's, though one maker may have made both (Hygon, Intel).
    """
    maker = sysfs.read_text(folder / "vendor")
    while maker and sysfs.pci_place(folder.parent.parent.name) and sysfs.read_text(folder.parent / "vendor") == maker:
        folder = folder.parent
    return folder


def _number(file: Path) -> float | None:
    """Return the number at the start of a file like `16.0 GT/s PCIe`; None for `Unknown` and for none."""
    match = re.match(r"\d+(\.\d+)?", sysfs.read_text(file) or "")
    return float(match[0]) if match else None


def _coding(pace: float) -> float:
    """The share of the bits that are data: 8b/10b, 128b/130b, FLIT. Source: PCI Express Base Specification."""
    if pace <= 5:
        return 8 / 10
    return 128 / 130 if pace <= 32 else 242 / 256
