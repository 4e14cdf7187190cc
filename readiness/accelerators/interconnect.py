"""Links from device to device, as reported by vendors' libraries and the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from readiness.accelerators import sysfs

_ROOT = Path("/")
#: The type of AMD's own links among `io_links`. Source: HSA_IOLINK_TYPE_XGMI in the kernel's kfd_topology.h.
_XGMI = 11


@dataclass(frozen=True, slots=True)
class Links:
    """Number of a device's links that are up, and their total bandwidth one way, in 10^9 bytes a second.

    `gbps` is the vendor's word; None where he gives none. `peers` is to how many other devices they go straight; None
    where a switch lies between, or nobody tells.
    """

    up: int
    gbps: float | None = None
    peers: int | None = None


def xgmi(address: str | None, root: Path = _ROOT) -> Links | None:
    """The XGMI links of the AMD device at a PCI address, to other devices and not to processors; None without any.

    The kernel's driver lists each device as a node with its links, whose bandwidth it tells in 10^6 bytes a second.
    """
    place = sysfs.pci_place(address)
    if place is None:
        return None
    domain, bus, device, function = place
    sought = {"domain": domain, "location_id": bus << 8 | device << 3 | function}
    topology = root / "sys/class/kfd/kfd/topology/nodes"
    nodes = {folder.name: _numbers(folder / "properties") for folder in _folders(topology)}
    own = [
        name for name, node in nodes.items() if node.get("simd_count") and sought.items() <= {"domain": 0, **node}.items()
    ]
    if len(own) != 1:
        return None
    every = [_numbers(folder / "properties") for folder in _folders(topology / own[0] / "io_links")]
    devices = {int(name) for name, node in nodes.items() if node.get("simd_count")}
    xgmi_links = [node for node in every if node.get("type") == _XGMI and node.get("node_to") in devices]
    rates, peers = [node.get("max_bandwidth", 0) for node in xgmi_links], {node["node_to"] for node in xgmi_links}
    return Links(len(xgmi_links), sum(rates) / 1000 if all(rates) else None, len(peers)) if xgmi_links else None


def _folders(parent: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder for folder in parent.iterdir() if folder.name.isdecimal())
    except OSError:
        return


def _numbers(file: Path) -> dict[str, int]:
    """Lines like `location_id 5888`; others are passed over."""
    lines = re.findall(r"^(\w+) (\d{1,19})$", sysfs.read_text(file) or "", re.MULTILINE)
    return {name: int(number) for name, number in lines}
