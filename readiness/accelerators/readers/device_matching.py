"""Match readings of vendors' sources to torch's accelerators: vendors and torch number devices differently."""

from __future__ import annotations

import os
from collections.abc import Sequence

from readiness.accelerators.readers.contract import Reading, pci_address
from readiness.datamodel import AcceleratorFacts


def of_device(readings: Sequence[Reading], facts: AcceleratorFacts, hiding: Sequence[str] = ()) -> Reading | None:
    """Return the reading of this accelerator: by PCI address, else by serial number, else by order; None if none surely
    matches.

    `hiding` are the variables of the environment that choose which devices a process sees, and in which order.
    """
    address = pci_address(str(facts.properties.get("pci_address") or ""))
    if address is not None:
        return next((reading for reading in readings if reading.value("pci_address") == address), None)
    if facts.serial:
        own = [reading for reading in readings if facts.serial == reading.value("serial")]
        if len(own) == 1:
            return own[0]
    ordered = [reading for reading in readings if reading.index is not None]
    position = facts.index
    for name in hiding:
        if name in os.environ:
            chosen = [item.strip() for item in os.environ[name].split(",")]
            if not all(item.isdecimal() for item in chosen) or position >= len(chosen):
                return None
            position = int(chosen[position])
            break
    if len({reading.vendor for reading in ordered}) != 1 or position >= len(ordered):
        return None
    return sorted(ordered, key=lambda reading: reading.index or 0)[position]
