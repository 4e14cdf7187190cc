"""Intel: xpu-smi's JSON and tables, and the kernel's files (survivability mode, throttling).

Kunlunxin's tool has the same name: what it prints decides whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readiness.accelerators import sysfs
from readiness.accelerators.readers import tool_output
from readiness.accelerators.readers.contract import Reading, Report, number, pci_address, whole
from readiness.accelerators.readers.tool_runner import Context, NotMineError, SourceError

VENDOR = "Intel"
_MIB = 2**20
#: Rows of `xpu-smi stats` that count errors, and what they count.
_ERRORS = {
    "reset": "resets", "programming errors": "programming_uncorrected", "driver errors": "driver_uncorrected",
    "cache errors correctable": "cache_corrected", "cache errors uncorrectable": "cache_uncorrected",
    "mem errors correctable": "memory_corrected", "mem errors uncorrectable": "memory_uncorrected",
}  # fmt: skip


def tool(context: Context) -> list[Reading]:
    """Read the output of xpu-smi about every device. Raises SourceError, also if the tool is another maker's."""
    found = []
    for device in _devices(context.tool("xpu-smi", "discovery", "-j")):
        report = _identity(device)
        if report.index is not None and context.remaining_s > 0.3:
            _query(context, report, "health", report.index)
        if report.index is not None and context.remaining_s > 0.3:
            _query(context, report, "stats", report.index)
        found.append(report.reading())
    return found


def _devices(text: str) -> list[Mapping[str, Any]]:
    document = tool_output.loads(text, "xpu-smi")
    listed = document.get("device_list") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise SourceError("xpu-smi lists no device")
    own = [item for item in listed if isinstance(item, Mapping) and "intel" in str(item.get("vendor_name", "")).lower()]
    if not own:
        raise NotMineError("this xpu-smi is not Intel's")
    return own


def _identity(device: Mapping[str, Any]) -> Report:
    report = Report("xpu-smi", VENDOR, whole(str(device.get("device_id", ""))))
    report.record("model", device.get("device_name"))
    report.record("serial", device.get("serial_number") or device.get("uuid"))
    report.record("pci_address", pci_address(str(device.get("pci_bdf_address", ""))))
    report.record("versions", {"driver": device.get("driver_version")})
    return report


def _query(context: Context, report: Report, what: str, index: int) -> None:
    understand, field = {"health": (record_health, "health"), "stats": (record_stats, "memory_errors")}[what]
    try:
        understand(report, context.tool("xpu-smi", what, *(("-l",) if what == "health" else ()), "-d", str(index)))
    except SourceError as problem:
        report.unreadable(field, str(problem))


def table(text: str) -> dict[str, list[str]]:
    """Rows of a table with two columns: the lines of the second by what stands in the first."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in text.splitlines():
        if (match := re.match(r"\|\s*(.*?)\s*\|\s*(.*?)\s*\|\s*$", line)) is None:
            continue
        key = match[1].lower() or key
        found.setdefault(key, []).append(match[2])
    return found


def record_health(report: Report, text: str) -> None:
    """Record the worst state of its components; unknown ones are ignored."""
    states: dict[str, str] = {}
    for name, lines in table(text).items():
        if match := re.match(r"status:\s*(\w+)", lines[0], re.IGNORECASE):
            states[re.sub(r"^\d+\.\s*", "", name)] = match[1]
    known = {name: state for name, state in states.items() if state.lower() != "unknown"}
    if not known:
        report.unreadable("health", "xpu-smi names no state of health")
        return
    worst = max(known.values(), key=lambda state: {"ok": 0, "warning": 1}.get(state.lower(), 2))
    report.record("health", "OK" if worst.lower() == "ok" else worst)


def record_stats(report: Report, text: str) -> None:
    """Error counts, power, clock, temperatures, memory in use."""
    rows = {name: lines[0] for name, lines in table(text).items()}
    counts = {name: whole(rows.get(row)) for row, name in _ERRORS.items()}
    if any(count is not None for count in counts.values()):
        report.record("memory_errors", counts)
    else:
        report.unreadable("memory_errors", "xpu-smi gives no count of errors")
    report.record("utilisation_percent", number(rows.get("gpu utilization (%)")))
    report.record("power_w", number(rows.get("gpu power (w)")))
    report.record("clocks_mhz", {"gpu": number(rows.get("gpu frequency (mhz)"))})
    report.record("temperatures_c", {
        "gpu": number(rows.get("gpu core temperature (c)")), "memory": number(rows.get("gpu memory temperature (c)")),
    })  # fmt: skip
    used = number(rows.get("gpu memory used (mib)"))
    report.record("memory_used_bytes", None if used is None else int(used * _MIB))


def files(context: Context) -> list[Reading]:
    """Read the files of the xe and i915 drivers about every data-centre device. Raises SourceError if there are none."""
    addresses = sysfs.pci_devices("8086", "0380", ("xe", "i915"), context.root)
    if not addresses:
        raise NotMineError("the xe and i915 drivers show no device for data centres")
    return [_of_files(context.root / "sys/bus/pci/devices" / address, index) for index, address in enumerate(addresses)]


def _of_files(place: Path, index: int) -> Reading:
    report = Report("sysfs", VENDOR, index)
    report.record("pci_address", place.name)
    report.record("versions", {"kernel_driver": sysfs.module_version("xe", "i915", root=place.parents[4])})
    # The file is there while the device's firmware does not start: Linux, drivers/gpu/drm/xe/xe_survivability_mode.c.
    if sysfs.read_text(place / "survivability_mode") is not None:
        report.record("health", "survivability")
    reasons = [
        file.name.removeprefix("reason_").replace("_", " ")
        for file in sorted(place.glob("tile*/gt*/freq*/throttle/reason_*")) if sysfs.read_text(file) == "1"
    ]  # fmt: skip
    if any(place.glob("tile*/gt*/freq*/throttle/status")):
        report.record("throttle_reasons", list(dict.fromkeys(reasons)))
    for file in sorted(place.glob("hwmon/hwmon*/temp*_input")):
        value = number(sysfs.read_text(file))
        label = sysfs.read_text(file.with_name(file.name.replace("_input", "_label"))) or file.name.removesuffix("_input")
        report.record("temperatures_c", {label: None if value is None else value / 1000})
    return report.reading()
