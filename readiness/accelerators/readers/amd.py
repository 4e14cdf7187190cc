"""AMD: the kernel's files (error counts, metrics, XGMI), and amd-smi or rocm-smi in a process.

amdsmi, the module, is never imported: with the published package beside torch the latter sees no device
(https://github.com/pytorch/pytorch/issues/186516).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readiness.accelerators import interconnect, sysfs
from readiness.accelerators.readers import tool_output
from readiness.accelerators.readers.contract import Reading, Report, number, pci_address, whole
from readiness.accelerators.readers.tool_output import first
from readiness.accelerators.readers.tool_runner import Context, NotMineError, SourceError

VENDOR = "AMD"
_MIB = 2**20
#: Reasons in the throttle status that does not depend on the chip. Source: Linux, kgd_pp_interface.h and amdgpu_smu.h.
_THROTTLERS = (
    (range(8), "sw power cap"), (range(16, 28), "current limit"), (range(32, 46), "thermal"), (range(46, 48), "prochot"),
)  # fmt: skip
_INDEPENDENT_STATUS_AT = 112


def files(context: Context) -> list[Reading]:
    """Read the amdgpu driver's files of every device. Raises SourceError if there are none."""
    folder = context.root / "sys/bus/pci/devices"
    places = [place for place in sorted(folder.glob("*")) if _is_amdgpu(place)]
    if not places:
        raise NotMineError("the amdgpu driver shows no device")
    return [_of_files(place, index, context.root) for index, place in enumerate(places)]


def _is_amdgpu(place: Path) -> bool:
    vendor = (sysfs.read_text(place / "vendor") or "").lower()
    return vendor == "0x1002" and (place / "driver").resolve().name == "amdgpu"


def _of_files(place: Path, index: int, root: Path) -> Reading:
    report = Report("sysfs", VENDOR, index)

    def read(name: str) -> str | None:
        return sysfs.read_text(place / name)

    report.record("pci_address", place.name)
    report.record("model", read("product_name"))
    report.record("serial", read("serial_number") or read("unique_id"))
    report.record("firmware", read("vbios_version"))
    report.record("versions", {
        "driver": sysfs.module_version("amdgpu", root=root), "rocm": sysfs.read_text(root / "opt/rocm/.info/version"),
    })  # fmt: skip
    report.record("utilisation_percent", number(read("gpu_busy_percent")))
    report.record("memory_used_bytes", whole(read("mem_info_vram_used")))
    report.record("memory_total_bytes", whole(read("mem_info_vram_total")))
    if (clock := re.search(r":\s*(\d+)Mhz\s*\*", read("pp_dpm_sclk") or "", re.IGNORECASE)) is not None:
        report.record("clocks_mhz", {"gfx": float(clock[1])})
    for sensors in sorted(place.glob("hwmon/hwmon*")):
        _record_sensors(report, sensors)
    errors = sysfs.ras_counters(place.name, root)
    listed = read("ras/gpu_vram_bad_pages") or ""
    pages = re.findall(r"^\s*0x[0-9a-f]+\s*:\s*0x[0-9a-f]+\s*:\s*([RPF])\s*$", listed, re.MULTILINE)
    if errors is None:
        report.absent("memory_errors", "the driver keeps no error counts for this device")
    else:
        counts = {"bad_pages_pending": pages.count("P"), "bad_pages_failure": pages.count("F")}
        report.record("memory_errors", {**errors, **counts})
    if (links := interconnect.xgmi(place.name, root)) is not None:
        report.record("links", {"xgmi": f"{links.up} up"})
    _record_throttling(report, place / "gpu_metrics")
    return report.reading()


def _record_sensors(report: Report, sensors: Path) -> None:
    for file in sorted(sensors.glob("temp*_input")):
        value = number(sysfs.read_text(file))
        label = sysfs.read_text(file.with_name(file.name.replace("_input", "_label"))) or file.name.removesuffix("_input")
        report.record("temperatures_c", {label: None if value is None else value / 1000})
    for field, names in (("power_w", ("power1_average", "power1_input")), ("power_limit_w", ("power1_cap",))):
        watts = next((value for name in names if (value := number(sysfs.read_text(sensors / name))) is not None), None)
        report.record(field, None if watts is None else watts / 1e6)


def _record_throttling(report: Report, file: Path) -> None:
    """The throttle status in `gpu_metrics`, of the layout whose bits mean the same on every chip (1.3)."""
    try:
        data = file.read_bytes()
    except OSError:
        return
    if len(data) < 4:
        report.unreadable("throttle_reasons", "gpu_metrics is empty")
        return
    layout = data[2], data[3]
    if layout != (1, 3) or len(data) < _INDEPENDENT_STATUS_AT + 8:
        report.absent("throttle_reasons", f"what gpu_metrics {layout[0]}.{layout[1]} says of throttling is not known here")
        return
    (bits,) = struct.unpack_from("<Q", data, _INDEPENDENT_STATUS_AT)
    if bits == 2**64 - 1:
        report.absent("throttle_reasons", "this chip does not report it")
        return
    report.record("throttle_reasons", [text for own, text in _THROTTLERS if any(bits >> bit & 1 for bit in own)])


def tool(context: Context) -> list[Reading]:
    """Read the output of amd-smi about every device: its JSON, or its text if it prints none. Raises SourceError."""
    devices: dict[int, dict[str, str]] = {}
    problems = []
    for question in (("static",), ("metric",), ("process",)):
        try:
            for index, document in _answers(context.tool("amd-smi", *question, "--json")):
                devices.setdefault(index, {}).update(document)
        except SourceError as problem:
            problems.append(str(problem))
            if context.remaining_s < 0.3:
                break
    if not devices:
        raise SourceError("; ".join(dict.fromkeys(problems))[:300])
    return [_of_tool(index, document) for index, document in sorted(devices.items())]


def _answers(text: str) -> list[tuple[int, dict[str, str]]]:
    if re.search(r"^GPU: \d+\s*$", text, re.MULTILINE):
        found = list(tool_output.indented(text, "GPU"))
        if not found:
            raise SourceError("amd-smi printed nothing that is known")
        return found
    value = tool_output.loads(text, "amd-smi")
    value = value.get("gpu_data", [value]) if isinstance(value, Mapping) else value
    return [
        (int(item["gpu"]), tool_output.flatten({key: part for key, part in item.items() if key != "gpu"}))
        for item in value if isinstance(item, Mapping) and str(item.get("gpu", "")).isdecimal()
    ]  # fmt: skip


def _of_tool(index: int, document: dict[str, str]) -> Reading:
    report = Report("amd-smi", VENDOR, index)
    report.record("model", first(document, "asic/market_name", "board/product_name"))
    report.record("serial", first(document, "asic/asic_serial", "board/product_serial"))
    report.record("pci_address", pci_address(first(document, "bus/bdf", "bdf")))
    report.record("firmware", first(document, "vbios/version", "ifwi/version"))
    report.record("versions", {"driver": first(document, "driver/version", "driver/driver_version")})
    report.record("power_w", number(first(document, "power/(socket|current_socket|average_socket)_power")))
    limit = first(document, "limit/socket_power(_limit)?", "limit/(ppt0/)?(max|socket)_power.*")
    report.record("power_limit_w", number(limit))
    report.record("temperatures_c", {
        name: number(first(document, f"temperature/{name}(_temperature)?")) for name in ("edge", "hotspot", "mem", "vram")
    })  # fmt: skip
    report.record("clocks_mhz", {
        name: number(first(document, f"clock/{name}_0/(clk|cur_clk|clock)")) for name in ("gfx", "mem")
    })  # fmt: skip
    report.record("utilisation_percent", number(first(document, "usage/gfx_(activity|usage)")))
    for field, name in (("memory_used_bytes", "used_vram"), ("memory_total_bytes", "total_vram")):
        mib = number(first(document, f"(mem_usage|vram|fb_usage)/{name}"))
        report.record(field, None if mib is None else int(mib * _MIB))
    blocks = _ecc(document)
    report.record("memory_errors", blocks or None)
    replays = whole(first(document, "pcie/replay_count"))
    report.record("link_errors", None if replays is None else {"pcie_replays": replays})
    report.record("throttle_reasons", _throttling(document))
    processes = _processes(document)
    report.record("processes", processes)
    return report.reading()


def _ecc(document: Mapping[str, str]) -> dict[str, int]:
    """Counts by block, or those of the whole device where it gives none by block."""
    found: dict[str, int] = {}
    totals: dict[str, int] = {}
    for path, value in document.items():
        match = re.fullmatch(r"(ecc_blocks?|ecc)/(?:(\w+)/)?(total_)?(un)?(correctable|deferred)_count", path)
        count = whole(value)
        if match is None or count is None:
            continue
        word = "deferred" if match[5] == "deferred" else "uncorrected" if match[4] else "corrected"
        if match[2] and match[2] != "total":
            found[f"{match[2]}_{word}"] = count
        else:
            totals[f"ecc_{word}"] = count
    return found or totals


def _throttling(document: Mapping[str, str]) -> list[str] | None:
    """Violations that are active now, or the word for all of them that older releases have."""
    states = {path: value for path, value in document.items() if re.fullmatch(r"(throttle/)?\w*_violation_status", path)}
    if states:
        return [
            path.rpartition("/")[2].removesuffix("_violation_status").replace("_", " ")
            for path, value in states.items() if value.upper() == "ACTIVE"
        ]  # fmt: skip
    word = first(document, "power/throttle_status")
    if word is None:
        return None
    return [] if word.upper() == "UNTHROTTLED" else [word.lower()]


def _processes(document: Mapping[str, str]) -> list[dict[str, Any]] | None:
    found: dict[str, dict[str, Any]] = {}
    for path, value in document.items():
        if match := re.fullmatch(r"process_list/(\d+)/(?:process_info/)?(name|pid|mem_usage)", path):
            found.setdefault(match[1], {})[match[2]] = value
    if not any(path.startswith("process_list") for path in document):
        return None
    return [
        {"pid": whole(one.get("pid")), "name": one.get("name"), "memory_bytes": whole(one.get("mem_usage"))}
        for one in found.values() if whole(one.get("pid")) is not None
    ]  # fmt: skip


def older_tool(context: Context) -> list[Reading]:
    """Read the output of rocm-smi, for releases without amd-smi. Raises SourceError."""
    arguments = ("--showproductname", "--showbus", "--showtemp", "--showpower", "--showuse", "--showmeminfo", "vram",
                 "--showdriverversion", "--showserial", "--showvbios", "--showreplaycount", "--json")  # fmt: skip
    return of_rocm_smi(context.tool("rocm-smi", *arguments))


def of_rocm_smi(text: str) -> list[Reading]:
    """Its JSON, whose keys change with the release. Raises SourceError."""
    document = tool_output.loads(text, "rocm-smi")
    if not isinstance(document, Mapping):
        raise SourceError("rocm-smi printed JSON that is no object")
    shared = tool_output.flatten(document.get("system", {}))
    found = []
    for name, value in document.items():
        if (match := re.fullmatch(r"card(\d+)", str(name))) is None:
            continue
        values = tool_output.flatten(value)
        report = Report("rocm-smi", VENDOR, int(match[1]))
        report.record("model", first(values, "card_series", "card_model", "device_name"))
        report.record("serial", first(values, "serial_number", "unique_id"))
        report.record("pci_address", pci_address(first(values, "pci_bus")))
        report.record("firmware", first(values, "vbios_version"))
        report.record("versions", {"driver": first(shared, "driver_version")})
        report.record("power_w", number(first(values, "(average|current_socket)_graphics_package_power_w")))
        report.record("power_limit_w", number(first(values, "max_graphics_package_power_w")))
        report.record("temperatures_c", {
            sensor: number(first(values, f"temperature_sensor_{sensor}_c")) for sensor in ("edge", "junction", "memory")
        })  # fmt: skip
        report.record("utilisation_percent", number(first(values, "gpu_use")))
        report.record("memory_used_bytes", whole(first(values, "vram_total_used_memory_b")))
        report.record("memory_total_bytes", whole(first(values, "vram_total_memory_b")))
        replays = whole(first(values, "pcie_replay_count"))
        report.record("link_errors", None if replays is None else {"pcie_replays": replays})
        found.append(report.reading())
    if not found:
        raise SourceError("rocm-smi lists no device")
    return found
