"""Readings of Ascend devices from libdcmi: one call for each field."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from ctypes import byref, c_int, c_uint
from pathlib import Path
from typing import Any

from readiness.accelerators.readers import dcmi_bindings, npu_smi
from readiness.accelerators.readers.contract import Reading, Report
from readiness.accelerators.readers.dcmi_bindings import (
    ChipInfo,
    DieId,
    EccInfo,
    HbmInfo,
    HccsStatistics,
    Label,
    Library,
    PcieInfo,
    ProcessMemory,
    RefusedError,
)
from readiness.accelerators.readers.tool_runner import Context, SourceError

SOURCE, VENDOR = "libdcmi", "Huawei"
_MIB = 2**20
_MOST_CODES, _MOST_PROCESSES = 128, 32

#: What npu-smi calls the library's levels of health.
HEALTH_WORDS = {0: "OK", 1: "Warning", 2: "Alarm", 3: "Critical"}
_ABSENT_HEALTH = 0xFFFFFFFF
#: Results of the network check. Source: enum dcmi_rdfx_detect_result.
_NETWORK = {
    0: "success", 1: "socket failed", 2: "receive timed out", 3: "unreachable", 4: "time exceeded", 5: "fault",
    6: "initialising", 7: "thread error", 8: "ip set",
}  # fmt: skip
_DDR, _HBM = 0, 2
_CLOCKS = {"hbm": 6, "aicore": 7}
_AICORE_UTILISATION = 2
_HCCS, _HCCS_STATISTICS_U64 = 16, 5
_VDIE = 1


def find(root: Path) -> str | None:
    """Return the path of the library; None if it is not installed."""
    return dcmi_bindings.find(root)


def glance(context: Context) -> list[Reading]:
    """Read all fields of every device, or of the requested ones. Raises SourceError."""
    path = dcmi_bindings.find(context.root)
    if path is None:
        raise SourceError(f"{dcmi_bindings.LIBRARY} is not installed")
    return read(dcmi_bindings.load(path))


def read(library: Library) -> list[Reading]:
    """Read all fields of every device that a library lists."""
    versions = {"driver": _text(library, "get_driver_version"), "dcmi": _text(library, "get_dcmi_version")}
    return [_read(library, where, versions) for where in library.devices()]


def _text(library: Library, function: str) -> str | None:
    buffer = ctypes.create_string_buffer(256)
    try:
        library.call(function, buffer, c_int(len(buffer)))
    except RefusedError:
        return None
    return buffer.value.decode("utf-8", "replace") or None


def _read(library: Library, where: tuple[int, ...], versions: Mapping[str, str | None]) -> Reading:
    report = Report(f"{SOURCE} (interface {library.version})", VENDOR, library.physical(where))
    report.record("versions", versions)
    device = tuple(map(c_int, where))
    for name, query in _QUESTIONS:
        try:
            query(library, device, report)
        except RefusedError as problem:
            (report.absent if problem.absent else report.unreadable)(name, str(problem))
    return report.reading()


def _model(library: Library, device: tuple[Any, ...], report: Report) -> None:
    info = ChipInfo()
    try:
        library.call("get_device_chip_info_v2", *device, byref(info))
    except RefusedError:
        library.call("get_device_chip_info", *device, byref(info))
    name = info.chip_name.decode("utf-8", "replace")
    report.record("model", name if name.lower().startswith("ascend") else f"Ascend {name}".strip())


def _address(library: Library, device: tuple[Any, ...], report: Report) -> None:
    info = PcieInfo()
    library.call("get_device_pcie_info_v2", *device, byref(info))
    report.record("pci_address", f"{info.domain:04x}:{info.bdf_busid:02x}:{info.bdf_deviceid:02x}.{info.bdf_funcid:x}")


def _serial(library: Library, device: tuple[Any, ...], report: Report) -> None:
    label = Label()
    try:
        library.call("get_card_elabel_v2", device[0], byref(label))
        serial = label.serial_number.decode("utf-8", "replace").strip()
        if serial and serial.upper() not in ("NA", "N/A"):
            report.record("serial", serial)
            return
    except RefusedError:
        pass
    die = DieId()
    library.call("get_device_die_v2", *device, c_int(_VDIE), byref(die))
    report.record("serial", "-".join(f"{part:08X}" for part in die.soc_die))


def _health(library: Library, device: tuple[Any, ...], report: Report) -> None:
    level = c_uint()
    library.call("get_device_health", *device, byref(level))
    if level.value == _ABSENT_HEALTH:
        report.unreadable("health", "the library says that the device is not there, or has not started")
    elif level.value not in HEALTH_WORDS:
        report.unreadable("health", f"the library says {level.value}, which is no level of health")
    else:
        report.record("health", HEALTH_WORDS[level.value])


def _codes(library: Library, device: tuple[Any, ...], report: Report) -> None:
    count, codes = c_int(), (c_uint * _MOST_CODES)()
    library.call("get_device_errorcode_v2", *device, byref(count), codes, c_uint(_MOST_CODES))
    if not 0 <= count.value <= _MOST_CODES:
        report.unreadable("fault_codes", f"the library says that there are {count.value}")
    else:
        report.record("fault_codes", [npu_smi.of_code(code) for code in codes[: count.value]])


def _ecc(library: Library, device: tuple[Any, ...], report: Report) -> None:
    problems: list[RefusedError] = []
    for memory, kind in (("hbm", _HBM), ("ddr", _DDR)):
        info = EccInfo()
        try:
            library.call("get_device_ecc_info", *device, c_int(kind), byref(info))
        except RefusedError as problem:
            problems.append(problem)
            continue
        report.record("mode", {f"{memory}_ecc": "on" if info.enable_flag else "off"})
        if not info.enable_flag:  # counts of what nobody watches are zeros
            continue
        report.record("memory_errors", {
            f"{memory}_corrected_volatile": info.single_bit_error_cnt,
            f"{memory}_uncorrected_volatile": info.double_bit_error_cnt,
            f"{memory}_corrected_aggregate": info.total_single_bit_error_cnt,
            f"{memory}_uncorrected_aggregate": info.total_double_bit_error_cnt,
            f"{memory}_retired_pages_single_bit": info.single_bit_isolated_pages_cnt,
            f"{memory}_retired_pages_double_bit": info.double_bit_isolated_pages_cnt,
            f"{memory}_retired_pages_pending":
                info.single_bit_next_isolated_pages_cnt + info.double_bit_next_isolated_pages_cnt,
        })  # fmt: skip
    if len(problems) == 2:
        raise problems[0]
    report.absent("memory_errors", "the device does not watch its memory for errors")


def _memory(library: Library, device: tuple[Any, ...], report: Report) -> None:
    info = HbmInfo()
    library.call("get_device_hbm_info", *device, byref(info))
    report.record("memory_total_bytes", info.memory_size * _MIB)
    report.record("memory_used_bytes", info.memory_usage * _MIB)
    report.record("temperatures_c", {"hbm": info.temp})


def _temperature(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found = c_int()
    library.call("get_device_temperature", *device, byref(found))
    report.record("temperatures_c", {"chip": found.value})


def _power(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found = c_int()
    library.call("get_device_power_info", *device, byref(found))
    report.record("power_w", found.value / 10)  # it counts tenths


def _clocks(library: Library, device: tuple[Any, ...], report: Report) -> None:
    refusal: RefusedError | None = None
    for name, kind in _CLOCKS.items():
        found = c_uint()
        try:
            library.call("get_device_frequency", *device, c_int(kind), byref(found))
        except RefusedError as problem:
            refusal = problem
        else:
            report.record("clocks_mhz", {name: found.value})
    if refusal is not None:
        raise refusal


def _utilisation(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found = c_uint()
    library.call("get_device_utilization_rate", *device, c_int(_AICORE_UTILISATION), byref(found))
    report.record("utilisation_percent", found.value)


def _network(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found = c_int()
    library.call("get_device_network_health", *device, byref(found))
    report.record("links", {"network": _NETWORK.get(found.value, f"result {found.value}")})


def _hccs(library: Library, device: tuple[Any, ...], report: Report) -> None:
    counts = HccsStatistics()
    size = c_uint(ctypes.sizeof(counts))
    library.call("get_device_info", *device, c_int(_HCCS), c_uint(_HCCS_STATISTICS_U64), byref(counts), byref(size))
    report.record("link_errors", {"hccs_crc_errors": sum(counts.crc_err_cnt), "hccs_retries": sum(counts.retry_cnt)})


def _processes(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found, count = (ProcessMemory * _MOST_PROCESSES)(), c_int(_MOST_PROCESSES)
    library.call("get_device_resource_info", *device, found, byref(count))
    if not 0 <= count.value <= _MOST_PROCESSES:
        report.unreadable("processes", f"the library says that there are {count.value}")
        return
    report.record("processes", [
        {"pid": one.proc_id, "name": None, "memory_bytes": one.proc_mem_usage} for one in list(found)[: count.value]
    ])  # fmt: skip


#: A field and who asks for it. A new question is one line here.
_QUESTIONS: tuple[tuple[str, Callable[[Library, tuple[Any, ...], Report], None]], ...] = (
    ("health", _health), ("fault_codes", _codes), ("model", _model), ("pci_address", _address), ("serial", _serial),
    ("memory_errors", _ecc), ("memory_total_bytes", _memory), ("temperatures_c", _temperature), ("power_w", _power),
    ("clocks_mhz", _clocks), ("utilisation_percent", _utilisation), ("links", _network), ("link_errors", _hccs),
    ("processes", _processes),
)  # fmt: skip
