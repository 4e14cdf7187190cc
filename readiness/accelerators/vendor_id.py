"""The real vendor of a device, decided by evidence and never by the name of torch's namespace; None if it stays open."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: A witness that knows only whose device it is not: it contradicts every other.
_NOBODY = "unknown"

#: Patterns of device names with their vendor; the first that matches counts.
_NAMES = (
    (re.compile(r"ZLUDA", re.IGNORECASE), _NOBODY),  # a translation layer, whatever else the name says
    (re.compile(r"\bNVIDIA\b"), "NVIDIA"),
    # As drivers of before 2021 name them, without the maker.
    (re.compile(r"^(Tesla|GeForce|Quadro|TITAN|GRID)\b|^A(10|30|40|100|800)-"), "NVIDIA"),
    (re.compile(r"\bMetaX\b|\bMXC\d", re.IGNORECASE), "MetaX"),
    (re.compile(r"\bIluvatar\b|\bBI-?V\d+|\bMR-?V\d+", re.IGNORECASE), "Iluvatar"),
    (re.compile(r"\bHygon\b|\bDCU\b|\bK100_AI\b|\bBW\d{3,}", re.IGNORECASE), "Hygon"),
    (re.compile(r"\bAMD\b|\bRadeon\b|\bInstinct\b", re.IGNORECASE), "AMD"),
    (re.compile(r"\bIntel\b", re.IGNORECASE), "Intel"),
    (re.compile(r"\bAscend", re.IGNORECASE), "Huawei"),
    (re.compile(r"\bMLU\d", re.IGNORECASE), "Cambricon"),
    (re.compile(r"\bMTT\b|\bMoore Threads\b", re.IGNORECASE), "Moore Threads"),
    (re.compile(r"\bGAUDI|\bHL-?\d", re.IGNORECASE), "Habana"),
)


def of_name(name: str | None) -> str | None:
    """The vendor that a device's name gives away."""
    for pattern, vendor in _NAMES:
        if name and pattern.search(name):
            return vendor
    return None


def decide(evidence: Mapping[str, str | None]) -> str | None:
    """Return the vendor on which all sources agree; None if they contradict each other or there is none.

    `evidence` maps a witness (`build`, `name`, `pci`, `nvml`) to the vendor it names.
    """
    named = {vendor for vendor in evidence.values() if vendor is not None}
    vendor = named.pop() if len(named) == 1 else None
    return None if vendor == _NOBODY else vendor
