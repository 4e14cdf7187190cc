"""libdcmi, the management library of Huawei's Ascend: its structures, and how it is loaded and called through ctypes.

Version 2 of its interface first (`dcmiv2_*`, by device), then version 1 (`dcmi_*`, by card and device on it), which refuses
the newest generation (950PR). Structures and numbers are those of its public header.
Source: Ascend/mind-cluster (22bb3d98) component/ascend-common/devmanager/dcmi, dcmi_interface_api.h and _v2.h.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_char, c_int, c_uint, c_ulong, c_ulonglong
from pathlib import Path
from typing import Any

from readiness.accelerators.readers.tool_runner import SourceError

LIBRARY = "libdcmi.so"
_FOLDERS = ("usr/local/Ascend/driver/lib64/driver", "usr/local/Ascend/driver/lib64", "usr/local/dcmi")
_MOST_DEVICES = 64

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
class ChipInfo(ctypes.Structure):
    """Names of a chip."""

    _fields_ = (
        ("chip_type", c_char * 32), ("chip_name", c_char * 32), ("chip_ver", c_char * 32), ("aicore_cnt", c_uint),
        ("npu_name", c_char * 32),
    )  # fmt: skip


class PcieInfo(ctypes.Structure):
    """Position of a chip on the PCI bus."""

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
SECOND_NAMES = {
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
        name = f"dcmiv2_{SECOND_NAMES.get(function, function)}" if self.version == 2 else f"dcmi_{function}"
        found = getattr(self._library, name, None)
        if found is None:
            raise RefusedError(None, name)
        found.restype = c_int
        if (code := int(found(*arguments))) != 0:
            raise RefusedError(code, name)

    def devices(self) -> list[tuple[int, ...]]:
        """Return the leading arguments of every query of a device: its number, or card and device. Raises RefusedError."""
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
    """Return the path of the library; None if it is in no place that this process would search."""
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
    return initialised(library)


def initialised(library: Any) -> Library:
    """A loaded library by the newest version of its interface that finds devices. Raises SourceError."""
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
