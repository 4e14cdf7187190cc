"""The kernel's files about a device and its driver. Every root folder can be replaced: tests bring their own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

#: Vendors by PCI id, as registered with the PCI SIG (https://pci-ids.ucw.cz); any other id is unknown here.
PCI_VENDORS = {
    "10de": "NVIDIA", "1002": "AMD", "8086": "Intel", "1da3": "Habana", "19e5": "Huawei", "cabc": "Cambricon",
    "1ed5": "Moore Threads", "1d94": "Hygon", "1e3e": "Iluvatar", "9999": "MetaX",
}  # fmt: skip

_ROOT = Path("/")


def read_text(file: Path) -> str | None:
    """A small file's text without surrounding blanks; None where it cannot be read or is empty."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def module_version(*modules: str, root: Path = _ROOT) -> str | None:
    """Return the version of the first of these kernel modules that is loaded and has one."""
    for module in modules:
        version = read_text(root / "sys/module" / module / "version")
        if version is not None:
            return version
    return None


def nvidia_kernel_module(root: Path = _ROOT) -> tuple[str | None, str | None]:
    """Return version and kind (`open` or `proprietary`) of NVIDIA's kernel module; None for each that is unknown."""
    text = read_text(root / "proc/driver/nvidia/version") or ""
    return parse_nvidia_version(text) if text else (module_version("nvidia", root=root), None)


def loaded_library(name: str, root: Path = _ROOT) -> str | None:
    """The version in the file name of a shared library that this process has loaded, as `libcuda.so.590.48.01` has.

    A compatibility package is newer than the driver on purpose, and is not what is asked for.
    """
    for path in re.findall(rf"\s(/\S*/{re.escape(name)}\.so\.\S+)$", read_text(root / "proc/self/maps") or "", re.MULTILINE):
        match = re.search(r"\.so\.(\d+(?:\.\d+)+)$", path)
        if match and "compat" not in path:
            return match[1]
    return None


def parse_nvidia_version(text: str) -> tuple[str | None, str | None]:
    """The first line of /proc/driver/nvidia/version: the version stands after `for ARCH` (open) or `Module`."""
    line = next((line for line in text.splitlines() if line.startswith("NVRM version:")), "")
    if match := re.search(r"Open Kernel Module(?:\s+for\s+\S+)?\s+(\d+(?:\.\d+)+)", line):
        return match[1], "open"
    if match := re.search(r"Kernel Module(?:\s+for\s+\S+)?\s+(\d+(?:\.\d+)+)", line):
        return match[1], "proprietary"
    return None, None


def pci_vendor(address: str | None, root: Path = _ROOT) -> tuple[str | None, str | None]:
    """Vendor and raw id of the PCI device at `0000:17:00.0`; the vendor is None for an id that names nobody here."""
    if address is None:
        return None, None
    text = read_text(root / "sys/bus/pci/devices" / address.lower() / "vendor")
    if text is None:
        return None, None
    raw = text.lower().removeprefix("0x")
    return PCI_VENDORS.get(raw), raw


def pci_devices(vendor: str, kind: str, drivers: Collection[str], root: Path = _ROOT) -> list[str]:
    """The addresses of a vendor's PCI devices (`8086`) whose class begins with `kind` (`0380`), bound to such a driver."""
    found = []
    for place in sorted((root / "sys/bus/pci/devices").glob("*")):
        numbers = [(read_text(place / name) or "").lower().removeprefix("0x") for name in ("vendor", "class")]
        if numbers[0] == vendor and numbers[1].startswith(kind) and (place / "driver").resolve().name in drivers:
            found.append(place.name)
    return found


def pci_place(address: str | None) -> tuple[int, int, int, int] | None:
    """Domain, bus, device and function of an address like `0000:17:00.0`; None for anything else."""
    match = re.fullmatch(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", (address or "").lower())
    return None if match is None else (int(match[1], 16), int(match[2], 16), int(match[3], 16), int(match[4]))


def pci_address(properties: object) -> str | None:
    """Return the PCI address in torch's device properties, as the kernel writes it; None if torch does not report it."""
    bus = getattr(properties, "pci_bus_id", None)
    if not isinstance(bus, int):
        return None
    domain, device = getattr(properties, "pci_domain_id", 0), getattr(properties, "pci_device_id", 0)
    if not isinstance(domain, int) or not isinstance(device, int):
        return None
    return f"{domain:04x}:{bus:02x}:{device:02x}.0"


def ras_counters(address: str | None, root: Path = _ROOT) -> dict[str, int] | None:
    """The error counts of AMD's driver for the device at this PCI address, block by block; None where it keeps none.

    Each `ras/BLOCK_err_count` has lines like `ue: 0`; ue is uncorrectable, ce correctable, de deferred.
    """
    if address is None:
        return None
    words = {"ue": "uncorrected", "ce": "corrected", "de": "deferred"}
    counters: dict[str, int] = {}
    for file in sorted((root / "sys/bus/pci/devices" / address.lower() / "ras").glob("*_err_count")):
        for key, count in re.findall(r"^(ue|ce|de)\s*:\s*(\d+)\s*$", read_text(file) or "", re.MULTILINE):
            counters[f"{file.name.removesuffix('_err_count')}_{words[key]}"] = int(count)
    return counters or None


def is_bare(root: Path = _ROOT) -> bool:
    """Return whether this kernel surely runs in no virtual machine. Only x86 processors report it; others: False."""
    flags = re.search(r"^flags\s*:(.*)$", read_text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return flags is not None and "hypervisor" not in flags[1].split() and not (root / "sys/hypervisor/type").exists()


def any_node(patterns: Iterable[str], root: Path = _ROOT) -> bool:
    """Return whether a device node matches one of these globs below /dev."""
    return any(next((root / "dev").glob(pattern), None) is not None for pattern in patterns)
