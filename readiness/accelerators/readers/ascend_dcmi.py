"""libdcmi, the management library of Huawei's Ascend, through ctypes.

Version 2 of its interface first (`dcmiv2_*`, by device), then version 1 (`dcmi_*`, by card and device on it), which refuses
the newest generation (950PR). Structures and numbers are those of its public header.
Source: Ascend/mind-cluster (22bb3d98) component/ascend-common/devmanager/dcmi, dcmi_interface_api.h and _v2.h.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from ctypes import byref, c_char, c_int, c_uint, c_ulong, c_ulonglong
from pathlib import Path
from typing import Any

from readiness.accelerators.readers import npu_smi
from readiness.accelerators.readers.contract import Reading, Report
from readiness.accelerators.readers.tools import Context, SourceError

SOURCE, VENDOR = "libdcmi", "Huawei"
LIBRARY = "libdcmi.so"
_FOLDERS = ("usr/local/Ascend/driver/lib64/driver", "usr/local/Ascend/driver/lib64", "usr/local/dcmi")
_MIB = 2**20
_MOST_DEVICES, _MOST_CODES, _MOST_PROCESSES = 64, 128, 32

_NOT_SUPPORTED, _NOT_IN_CONTAINERS = -8255, -8013
#: The library's answers in words.
_ANSWERS = {
    -8001: "the parameter is incorrect", -8002: "no permission", -8003: "the memory operation failed",
    -8005: "internal error",
    -8006: "it timed out", -8007: "invalid device", -8008: "the device does not exist", -8009: "ioctl failed",
    -8010: "the message could not be sent", -8011: "no message was received", -8012: "not ready yet",
    _NOT_IN_CONTAINERS: "not supported in containers", -8015: "reset failed", -8017: "the firmware is being updated",
    -8020: "the device is occupied", -8023: "there is no such configuration", _NOT_SUPPORTED: "not supported",
}  # fmt: skip
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


class ChipInfo(ctypes.Structure):
    """Names of a chip."""

    _fields_ = (
        ("chip_type", c_char * 32), ("chip_name", c_char * 32), ("chip_ver", c_char * 32), ("aicore_cnt", c_uint),
        ("npu_name", c_char * 32),
    )  # fmt: skip


class PcieInfo(ctypes.Structure):
    """Where a chip is on the bus."""

    _fields_ = (
        ("venderid", c_uint), ("subvenderid", c_uint), ("deviceid", c_uint), ("subdeviceid", c_uint), ("domain", c_int),
        ("bdf_busid", c_uint), ("bdf_deviceid", c_uint), ("bdf_funcid", c_uint), ("reserve", c_char * 32),
    )  # fmt: skip


class EccInfo(ctypes.Structure):
    """Error counts of one memory."""

    _fields_ = (
        ("enable_flag", c_int), ("single_bit_error_cnt", c_uint), ("double_bit_error_cnt", c_uint),
        ("total_single_bit_error_cnt", c_uint), ("total_double_bit_error_cnt", c_uint),
        ("single_bit_isolated_pages_cnt", c_uint), ("double_bit_isolated_pages_cnt", c_uint),
        ("single_bit_next_isolated_pages_cnt", c_uint), ("double_bit_next_isolated_pages_cnt", c_uint),
    )  # fmt: skip


class HbmInfo(ctypes.Structure):
    """High bandwidth memory: MB, MHz, degrees Celsius."""

    _fields_ = (
        ("memory_size", c_ulonglong), ("freq", c_uint), ("memory_usage", c_ulonglong), ("temp", c_int),
        ("bandwith_util_rate", c_uint),
    )  # fmt: skip


class ProcessMemory(ctypes.Structure):
    """A process and what it holds, in bytes."""

    _fields_ = (("proc_id", c_int), ("proc_mem_usage", c_ulong))


class DieId(ctypes.Structure):
    """The number that is burnt into a die."""

    _fields_ = (("soc_die", c_uint * 5),)


class HccsStatistics(ctypes.Structure):
    """Counts of the links between chips."""

    _fields_ = (
        ("tx_cnt", c_ulonglong * 16), ("rx_cnt", c_ulonglong * 16), ("crc_err_cnt", c_ulonglong * 16),
        ("retry_cnt", c_ulonglong * 16), ("reserved", c_ulonglong * 64),
    )  # fmt: skip


class Label(ctypes.Structure):
    """The electronic label of a card."""

    _fields_ = (
        ("product_name", c_char * 256), ("model", c_char * 256), ("manufacturer", c_char * 256),
        ("manufacturer_date", c_char * 256), ("serial_number", c_char * 256),
    )  # fmt: skip


class RefusedError(Exception):
    """The library did not answer a question. `absent`: it has no such thing, rather than that it failed."""

    def __init__(self, code: int | None, function: str) -> None:
        words = "this library lacks it" if code is None else _ANSWERS.get(code, "unknown error")
        super().__init__(f"{function}: {words}" + ("" if code is None else f" ({code})"))
        self.absent = code is None or code in (_NOT_SUPPORTED, _NOT_IN_CONTAINERS)


#: Functions whose names differ between the versions of the interface: here by what version 1 calls them.
_SECOND_NAMES = {
    "get_device_chip_info_v2": "get_device_chip_info", "get_device_pcie_info_v2": "get_device_pcie_info",
    "get_device_errorcode_v2": "get_device_error_code_list", "get_device_die_v2": "get_device_die_id",
    "get_device_resource_info": "get_device_proc_mem_info", "get_card_elabel_v2": "get_device_elabel_info",
}  # fmt: skip


class Library:
    """libdcmi, loaded and initialised, by one version of its interface."""

    def __init__(self, library: Any, version: int) -> None:
        self._library = library
        self.version = version

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function by its name in version 1, without its prefix. Raises RefusedError."""
        name = f"dcmiv2_{_SECOND_NAMES.get(function, function)}" if self.version == 2 else f"dcmi_{function}"
        found = getattr(self._library, name, None)
        if found is None:
            raise RefusedError(None, name)
        found.restype = c_int
        if (code := int(found(*arguments))) != 0:
            raise RefusedError(code, name)

    def devices(self) -> list[tuple[int, ...]]:
        """What every question about a device begins with: its number, or card and device. Raises RefusedError."""
        numbers, count = (c_int * _MOST_DEVICES)(), c_int()
        if self.version == 2:
            self.call("get_device_list", numbers, byref(count), c_int(_MOST_DEVICES))
            return [(number,) for number in numbers[: _bounded(count.value)]]
        self.call("get_card_list", byref(count), numbers, c_int(_MOST_DEVICES))
        found: list[tuple[int, ...]] = []
        for card in numbers[: _bounded(count.value)]:
            on_card = c_int()
            self.call("get_device_num_in_card", c_int(card), byref(on_card))
            found += [(card, device) for device in range(_bounded(on_card.value)) if self._is_npu(card, device)]
        return found

    def _is_npu(self, card: int, device: int) -> bool:
        """A card carries a controller too; one whose kind cannot be read is taken for an accelerator."""
        kind = c_int()
        try:
            self.call("get_device_type", c_int(card), c_int(device), byref(kind))
        except RefusedError:
            return True
        return kind.value == 0

    def physical(self, where: tuple[int, ...]) -> int | None:
        """The number of a device among all of the host, as its node has it (/dev/davinciN)."""
        found = c_uint()
        try:
            if self.version == 2:
                self.call("get_chip_phy_id_by_dev_id", c_uint(where[0]), byref(found))
            else:
                logical = c_int()
                self.call("get_device_logic_id", byref(logical), *map(c_int, where))
                self.call("get_device_phyid_from_logicid", c_uint(logical.value), byref(found))
        except RefusedError:
            return None
        return found.value


def _bounded(count: int) -> int:
    return max(0, min(count, _MOST_DEVICES))


def find(root: Path = Path("/")) -> str | None:
    """Where the library is; None where it is nowhere that this process would look."""
    folders = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    for folder in [*folders, *(root / name for name in _FOLDERS)]:
        if (file := folder / LIBRARY).is_file():
            return str(file)
    return None


def load(path: str) -> Library:
    """The library, initialised, by the newest version of its interface that finds devices. Raises SourceError."""
    try:
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError as problem:
        raise SourceError(f"{path} cannot be loaded: {problem}") from None
    reasons = []
    for version in (2, 1):
        candidate = Library(library, version)
        try:
            candidate.call("init")
            if candidate.devices():
                return candidate
            reasons.append(f"version {version} of its interface lists no device")
        except RefusedError as problem:
            reasons.append(f"version {version} of its interface: {problem}")
    raise SourceError("; ".join(reasons))


def glance(context: Context) -> list[Reading]:
    """All that the library says of every device, or of those that are asked for. Raises SourceError."""
    path = find(context.root)
    if path is None:
        raise SourceError(f"{LIBRARY} is not installed")
    library = load(path)
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
    report.say("versions", versions)
    device = tuple(map(c_int, where))
    for name, ask in _QUESTIONS:
        try:
            ask(library, device, report)
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
    report.say("model", name if name.lower().startswith("ascend") else f"Ascend {name}".strip())


def _address(library: Library, device: tuple[Any, ...], report: Report) -> None:
    info = PcieInfo()
    library.call("get_device_pcie_info_v2", *device, byref(info))
    report.say("pci_address", f"{info.domain:04x}:{info.bdf_busid:02x}:{info.bdf_deviceid:02x}.{info.bdf_funcid:x}")


def _serial(library: Library, device: tuple[Any, ...], report: Report) -> None:
    label = Label()
    try:
        library.call("get_card_elabel_v2", device[0], byref(label))
        serial = label.serial_number.decode("utf-8", "replace").strip()
        if serial and serial.upper() not in ("NA", "N/A"):
            report.say("serial", serial)
            return
    except RefusedError:
        pass
    die = DieId()
    library.call("get_device_die_v2", *device, c_int(_VDIE), byref(die))
    report.say("serial", "-".join(f"{part:08X}" for part in die.soc_die))


def _health(library: Library, device: tuple[Any, ...], report: Report) -> None:
    level = c_uint()
    library.call("get_device_health", *device, byref(level))
    if level.value == _ABSENT_HEALTH:
        report.unreadable("health", "the library says that the device is not there, or has not started")
    elif level.value not in HEALTH_WORDS:
        report.unreadable("health", f"the library says {level.value}, which is no level of health")
    else:
        report.say("health", HEALTH_WORDS[level.value])


def _codes(library: Library, device: tuple[Any, ...], report: Report) -> None:
    count, codes = c_int(), (c_uint * _MOST_CODES)()
    library.call("get_device_errorcode_v2", *device, byref(count), codes, c_uint(_MOST_CODES))
    if not 0 <= count.value <= _MOST_CODES:
        report.unreadable("fault_codes", f"the library says that there are {count.value}")
    else:
        report.say("fault_codes", [npu_smi.of_code(code) for code in codes[: count.value]])


def _ecc(library: Library, device: tuple[Any, ...], report: Report) -> None:
    problems: list[RefusedError] = []
    for memory, kind in (("hbm", _HBM), ("ddr", _DDR)):
        info = EccInfo()
        try:
            library.call("get_device_ecc_info", *device, c_int(kind), byref(info))
        except RefusedError as problem:
            problems.append(problem)
            continue
        report.say("mode", {f"{memory}_ecc": "on" if info.enable_flag else "off"})
        if not info.enable_flag:  # counts of what nobody watches are zeros
            continue
        report.say("memory_errors", {
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
    report.say("memory_total_bytes", info.memory_size * _MIB)
    report.say("memory_used_bytes", info.memory_usage * _MIB)
    report.say("temperatures_c", {"hbm": info.temp})


def _temperature(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found = c_int()
    library.call("get_device_temperature", *device, byref(found))
    report.say("temperatures_c", {"chip": found.value})


def _power(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found = c_int()
    library.call("get_device_power_info", *device, byref(found))
    report.say("power_w", found.value / 10)  # it counts tenths


def _clocks(library: Library, device: tuple[Any, ...], report: Report) -> None:
    refusal: RefusedError | None = None
    for name, kind in _CLOCKS.items():
        found = c_uint()
        try:
            library.call("get_device_frequency", *device, c_int(kind), byref(found))
        except RefusedError as problem:
            refusal = problem
        else:
            report.say("clocks_mhz", {name: found.value})
    if refusal is not None:
        raise refusal


def _utilisation(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found = c_uint()
    library.call("get_device_utilization_rate", *device, c_int(_AICORE_UTILISATION), byref(found))
    report.say("utilisation_percent", found.value)


def _network(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found = c_int()
    library.call("get_device_network_health", *device, byref(found))
    report.say("links", {"network": _NETWORK.get(found.value, f"result {found.value}")})


def _hccs(library: Library, device: tuple[Any, ...], report: Report) -> None:
    counts = HccsStatistics()
    size = c_uint(ctypes.sizeof(counts))
    library.call("get_device_info", *device, c_int(_HCCS), c_uint(_HCCS_STATISTICS_U64), byref(counts), byref(size))
    report.say("link_errors", {"hccs_crc_errors": sum(counts.crc_err_cnt), "hccs_retries": sum(counts.retry_cnt)})


def _processes(library: Library, device: tuple[Any, ...], report: Report) -> None:
    found, count = (ProcessMemory * _MOST_PROCESSES)(), c_int(_MOST_PROCESSES)
    library.call("get_device_resource_info", *device, found, byref(count))
    if not 0 <= count.value <= _MOST_PROCESSES:
        report.unreadable("processes", f"the library says that there are {count.value}")
        return
    report.say("processes", [
        {"pid": one.proc_id, "name": None, "memory_bytes": one.proc_mem_usage} for one in list(found)[: count.value]
    ])  # fmt: skip


#: A field and who asks for it. A new question is one line here.
_QUESTIONS: tuple[tuple[str, Callable[[Library, tuple[Any, ...], Report], None]], ...] = (
    ("health", _health), ("fault_codes", _codes), ("model", _model), ("pci_address", _address), ("serial", _serial),
    ("memory_errors", _ecc), ("memory_total_bytes", _memory), ("temperatures_c", _temperature), ("power_w", _power),
    ("clocks_mhz", _clocks), ("utilisation_percent", _utilisation), ("links", _network), ("link_errors", _hccs),
    ("processes", _processes),
)  # fmt: skip
