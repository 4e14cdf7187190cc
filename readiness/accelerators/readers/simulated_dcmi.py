"""libdcmi of a simulated machine: C functions by ctypes callbacks, which the reader of real Ascends calls as any other's.

What each chip has to say stands in a `ChipState`, with what is wrong with its library. Structures and numbers are those of
`dcmi`; functions go by their names in version 1 of the interface, and version 2 has them too.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_int, c_uint, c_void_p
from dataclasses import asdict, dataclass, field
from typing import Any

from readiness.accelerators.readers import dcmi_bindings

#: Where a function fails and nothing says how: not supported.
_NOT_SUPPORTED, _INVALID_PARAMETER, _INVALID_DEVICE = -8255, -8001, -8007
_MIB = 2**20
_HBM = 2
_LIBRARY_VERSION = "24.1.0"
_CLOCKS_MHZ = {6: 1600, 7: 1800}
#: No process waits longer for a call that hangs: whoever reads the library has been killed by then.
_HANG_S = 600.0


@dataclass(frozen=True, slots=True)
class ChipState:
    """State of one chip as its library reports it.

    `faults` are by function what is wrong with it: `{"answer": -8010}` (it fails), `{"value": 65535}` (it gives this
    figure), `{"hangs": True}`.
    """

    name: str
    serial: str = ""
    health: int = 0
    codes: Sequence[int] = ()
    temperature_c: float = 45.0
    power_w: float = 90.0
    utilisation_percent: float = 0.0
    memory_total_bytes: int = 2**30
    memory_used_bytes: int = 0
    corrected: int = 0
    uncorrected: int = 0
    link_errors: int = 0
    link_retries: int = 0
    network: int = 0
    driver: str | None = None
    faults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> ChipState:
        """The inverse of `to_json`. Raises TypeError for what is none."""
        return ChipState(**document)


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of the library: its arguments in C, and what it does. `on_device` if its first argument is a device's."""

    arguments: tuple[Any, ...]
    act: Callable[..., int | None]
    on_device: bool = True


class SimulatedLibrary:
    """Simulated libdcmi: stands where `ctypes.CDLL` would, with a function of the interface's version 2 by each name."""

    def __init__(self, chips: Sequence[ChipState]) -> None:
        self._chips = list(chips)
        self._functions: dict[str, Any] = {}  # callbacks end with their objects
        for name, function in _FUNCTIONS.items():
            kind = ctypes.CFUNCTYPE(c_int, *function.arguments)
            exported = f"dcmiv2_{dcmi_bindings.SECOND_NAMES.get(name, name)}"
            self._functions[exported] = kind(self._callback(name, function))

    def __getattr__(self, name: str) -> Any:
        try:
            return self._functions[name]
        except KeyError:
            raise AttributeError(name) from None

    def _callback(self, name: str, function: _Function) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if not function.on_device:
                return function.act(self._chips, *arguments) or 0
            if not 0 <= arguments[0] < len(self._chips):
                return _INVALID_DEVICE
            chip = self._chips[arguments[0]]
            fault = chip.faults.get(name, {})
            if fault.get("hangs"):
                time.sleep(_HANG_S)
            if (answer := int(fault.get("answer", 0))) != 0:
                return answer
            status = function.act(chip, *arguments[1:]) or 0
            if "value" in fault and status == 0:  # a figure is the last argument of every function that gives one
                _write(arguments[-1], c_uint, int(fault["value"]) & 0xFFFFFFFF)
            return status

        return call


def _write(address: int, kind: Any, value: float) -> None:
    kind.from_address(address).value = int(value)


def _write_text(address: int, length: int, text: str) -> None:
    raw = text.encode()[: max(length - 1, 0)] + b"\0"
    ctypes.memmove(address, raw, len(raw))


def _list(chips: Sequence[ChipState], numbers: int, count: int, most: int) -> None:
    for place in range(min(len(chips), most)):
        c_int.from_address(numbers + place * ctypes.sizeof(c_int)).value = place
    _write(count, c_int, min(len(chips), most))


def _physical(chips: Sequence[ChipState], device: int, found: int) -> int:
    if device >= len(chips):
        return _INVALID_DEVICE
    _write(found, c_uint, device)
    return 0


def _driver_version(chips: Sequence[ChipState], text: int, length: int) -> int:
    version = chips[0].driver if chips else None
    if version is None:
        return _NOT_SUPPORTED
    _write_text(text, length, version)
    return 0


def _library_version(chips: Sequence[ChipState], text: int, length: int) -> None:  # noqa: ARG001
    _write_text(text, length, _LIBRARY_VERSION)


def _codes(chip: ChipState, count: int, codes: int, most: int) -> None:
    for place, code in enumerate(chip.codes[:most]):
        c_uint.from_address(codes + place * ctypes.sizeof(c_uint)).value = code
    _write(count, c_int, len(chip.codes[:most]))


def _chip_info(chip: ChipState, info: int) -> None:
    found = dcmi_bindings.ChipInfo.from_address(info)
    found.chip_type, found.chip_name, found.chip_ver = b"Ascend", chip.name.encode()[:31], b"V1"


def _pcie_info(chip: ChipState, info: int) -> int:  # noqa: ARG001
    return _NOT_SUPPORTED  # a simulated chip is on no bus


def _label(chip: ChipState, label: int) -> None:
    dcmi_bindings.Label.from_address(label).serial_number = chip.serial.encode()[:255]


def _ecc(chip: ChipState, kind: int, info: int) -> int:
    if kind != _HBM:
        return _NOT_SUPPORTED
    found = dcmi_bindings.EccInfo.from_address(info)
    found.enable_flag = 1
    found.single_bit_error_cnt, found.double_bit_error_cnt = chip.corrected, chip.uncorrected
    return 0


def _hbm(chip: ChipState, info: int) -> None:
    found = dcmi_bindings.HbmInfo.from_address(info)
    found.memory_size, found.memory_usage = chip.memory_total_bytes // _MIB, chip.memory_used_bytes // _MIB
    found.freq, found.temp = _CLOCKS_MHZ[6], int(chip.temperature_c)


def _frequency(chip: ChipState, kind: int, found: int) -> int:  # noqa: ARG001
    if kind not in _CLOCKS_MHZ:
        return _INVALID_PARAMETER
    _write(found, c_uint, _CLOCKS_MHZ[kind])
    return 0


def _hccs(chip: ChipState, main: int, sub: int, buffer: int, size: int) -> int:  # noqa: ARG001
    if c_uint.from_address(size).value < ctypes.sizeof(dcmi_bindings.HccsStatistics):
        return _INVALID_PARAMETER
    found = dcmi_bindings.HccsStatistics.from_address(buffer)
    found.crc_err_cnt[0], found.retry_cnt[0] = chip.link_errors, chip.link_retries
    return 0


def _no_processes(chip: ChipState, processes: int, count: int) -> None:  # noqa: ARG001
    _write(count, c_int, 0)


#: The functions that it has.
_FUNCTIONS: Mapping[str, _Function] = {
    "init": _Function((), lambda _: 0, on_device=False),
    "get_device_list": _Function((c_void_p, c_void_p, c_int), _list, on_device=False),
    "get_chip_phy_id_by_dev_id": _Function((c_uint, c_void_p), _physical, on_device=False),
    "get_driver_version": _Function((c_void_p, c_int), _driver_version, on_device=False),
    "get_dcmi_version": _Function((c_void_p, c_int), _library_version, on_device=False),
    "get_device_health": _Function((c_int, c_void_p), lambda chip, at: _write(at, c_uint, chip.health)),
    "get_device_errorcode_v2": _Function((c_int, c_void_p, c_void_p, c_uint), _codes),
    "get_device_chip_info_v2": _Function((c_int, c_void_p), _chip_info),
    "get_device_pcie_info_v2": _Function((c_int, c_void_p), _pcie_info),
    "get_card_elabel_v2": _Function((c_int, c_void_p), _label),
    "get_device_ecc_info": _Function((c_int, c_int, c_void_p), _ecc),
    "get_device_hbm_info": _Function((c_int, c_void_p), _hbm),
    "get_device_temperature": _Function((c_int, c_void_p), lambda chip, at: _write(at, c_int, chip.temperature_c)),
    "get_device_power_info": _Function((c_int, c_void_p), lambda chip, at: _write(at, c_int, 10 * chip.power_w)),
    "get_device_frequency": _Function((c_int, c_int, c_void_p), _frequency),
    "get_device_utilization_rate":
        _Function((c_int, c_int, c_void_p), lambda chip, _, at: _write(at, c_uint, chip.utilisation_percent)),
    "get_device_network_health": _Function((c_int, c_void_p), lambda chip, at: _write(at, c_int, chip.network)),
    "get_device_info": _Function((c_int, c_int, c_uint, c_void_p, c_void_p), _hccs),
    "get_device_resource_info": _Function((c_int, c_void_p, c_void_p), _no_processes),
}  # fmt: skip
