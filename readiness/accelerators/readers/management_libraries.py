"""Management libraries with a Python package each: MTML of Moore Threads (extra `mthreads`), HLML of Gaudi (extra `gaudi`).

Both packages are ctypes over a library of the driver. Each question is asked by itself: a refusal costs one field.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from readiness.accelerators import sysfs
from readiness.accelerators.readers.contract import Reading, Report, pci_address
from readiness.accelerators.readers.tool_runner import Context, SourceError

#: What such libraries say of a question that is not for this device, in the words of their packages.
_ABSENT = re.compile(r"not supported|not found|no data|code (3|6|21)\b", re.IGNORECASE)


def has_mtml(root: Path = Path("/")) -> bool:
    """True where the package is installed and the driver has made a device."""
    return _is_installed("pymtml") and sysfs.any_node(("mtgpu*",), root)


def has_hlml(root: Path = Path("/")) -> bool:
    """True where the package is installed and the driver has made a device."""
    return _is_installed("pyhlml") and sysfs.any_node(("hl[0-9]*", "accel/accel[0-9]*"), root)


def _is_installed(module: str) -> bool:
    with suppress(ImportError, ValueError):
        return importlib.util.find_spec(module) is not None
    return False


class _Questions:
    """Asks one question after the other and records the answers; a refusal becomes the reason of its field."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def ask(self, field: str, question: Callable[[], Any]) -> Any:
        """Record the answer to a question, and return it; None for a refusal."""
        try:
            answer = question()
        except Exception as problem:  # noqa: BLE001 - MTMLError, HLMLError, and what ctypes raises for a function that is missing
            words = f"{type(problem).__name__}: {problem}"[:200]
            (self._report.absent if _ABSENT.search(words) else self._report.unreadable)(field, words)
            return None
        self._report.record(field, answer)
        return answer


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# ------------------------------------------------------------------------------------------------------- Moore Threads


def moore_threads(context: Context) -> list[Reading]:  # noqa: ARG001
    """Read MTML about every device. Raises SourceError."""
    with _opened("pymtml", "mtmlLibraryInit", "mtmlLibraryShutDown") as library:
        driver = None
        with suppress(Exception):
            driver = _text(library.mtmlSystemGetDriverVersion(library.mtmlLibraryInitSystem()))
        versions = {"driver": driver, "mtml": _quietly(lambda: _text(library.mtmlLibraryGetVersion()))}
        return [_of_mtml(library, index, versions) for index in range(int(library.mtmlLibraryCountDevice()))]


def _of_mtml(library: Any, index: int, versions: dict[str, str | None]) -> Reading:
    report = Report("MTML", "Moore Threads", index)
    ask = _Questions(report).ask
    device = library.mtmlLibraryInitDeviceByIndex(index)
    ask("model", lambda: _text(library.mtmlDeviceGetName(device)))
    ask("serial", lambda: _text(library.mtmlDeviceGetUUID(device)))
    ask("firmware", lambda: _text(library.mtmlDeviceGetMtBiosVersion(device)))
    report.record("versions", versions)
    ask("pci_address", lambda: pci_address(_text(library.mtmlDeviceGetPciInfo(device).sbdf)))
    ask("power_w", lambda: library.mtmlDeviceGetPowerUsage(device) / 1e3)  # it counts milliwatts, as NVML does
    with library.mtmlGpuContext(device) as gpu:
        ask("temperatures_c", lambda: {"gpu": library.mtmlGpuGetTemperature(gpu)})
        ask("utilisation_percent", lambda: library.mtmlGpuGetUtilization(gpu))
        ask("clocks_mhz", lambda: {"gpu": library.mtmlGpuGetClock(gpu)})
    with library.mtmlMemoryContext(device) as memory:
        ask("memory_used_bytes", lambda: library.mtmlMemoryGetUsed(memory))
        ask("memory_total_bytes", lambda: library.mtmlMemoryGetTotal(memory))
        ask("clocks_mhz", lambda: {"memory": library.mtmlMemoryGetClock(memory)})
        enabled = ask("mode", lambda: {"ecc": "on" if library.mtmlMemoryGetEccMode(memory)[0] else "off"})
        if enabled is not None and enabled["ecc"] == "off":
            report.absent("memory_errors", "the device does not watch its memory for errors")
        else:
            ask("memory_errors", lambda: _mtml_errors(library, memory))
    ask("links", lambda: _mtml_links(library, device) or None)
    return report.reading()


def _mtml_errors(library: Any, memory: Any) -> dict[str, int]:
    found = {}
    for kind, error in (("corrected", library.MTML_MEMORY_ERROR_TYPE_CORRECTED),
                        ("uncorrected", library.MTML_MEMORY_ERROR_TYPE_UNCORRECTED)):  # fmt: skip
        for span, counter in (("volatile", library.MTML_VOLATILE_ECC), ("aggregate", library.MTML_AGGREGATE_ECC)):
            found[f"dram_{kind}_{span}"] = int(
                library.mtmlMemoryGetEccErrorCounter(memory, error, counter, library.MTML_MEMORY_LOCATION_DRAM)
            )
    with suppress(Exception):
        retired = library.mtmlMemoryGetRetiredPagesCount(memory)
        found |= {"retired_pages_single_bit": int(retired.sbeCount), "retired_pages_double_bit": int(retired.dbeCount)}
        found["retired_pages_pending"] = int(library.mtmlMemoryGetRetiredPagesPendingStatus(memory))
    return found


def _mtml_links(library: Any, device: Any) -> dict[str, str]:
    words = {
        library.MTML_MTLINK_STATE_DOWN: "down", library.MTML_MTLINK_STATE_UP: "up",
        library.MTML_MTLINK_STATE_DOWNGRADE: "degraded",
    }  # fmt: skip
    count = int(library.mtmlDeviceGetMtLinkSpec(device).linkNum)
    states = [library.mtmlDeviceGetMtLinkState(device, link) for link in range(count)]
    return {f"mtlink{link}": words.get(state, f"state {state}") for link, state in enumerate(states)}


# --------------------------------------------------------------------------------------------------------------- Gaudi


def gaudi(context: Context) -> list[Reading]:  # noqa: ARG001
    """Read HLML about every device. Raises SourceError."""
    with _opened("pyhlml", "hlmlInit", "hlmlShutdown") as library:
        versions = {
            "driver": _quietly(lambda: _text(library.hlmlGetDriverVersion())),
            "nic_driver": _quietly(lambda: _text(library.hlmlGetNicDriverVersion())),
            "hlml": _quietly(lambda: _text(library.hlmlGetHLMLVersion())),
        }
        return [_of_hlml(library, index, versions) for index in range(int(library.hlmlDeviceGetCount()))]


#: Numbers of HLML's header: sensors, clocks, kinds and spans of errors, reasons of throttling, causes of replaced rows.
_AIP, _BOARD, _HBM = 0, 1, 3
_SOC = 0
_CORRECTED, _UNCORRECTED = 0, 1
_VOLATILE, _AGGREGATE = 0, 1
_THROTTLING = {1: "power", 2: "thermal"}
_SINGLE_BIT, _DOUBLE_BIT = 0, 1


def _of_hlml(library: Any, index: int, versions: dict[str, str | None]) -> Reading:
    report = Report("HLML", "Habana", index)
    ask = _Questions(report).ask
    device = library.hlmlDeviceGetHandleByIndex(index)
    ask("model", lambda: _text(library.hlmlDeviceGetName(device)))
    ask("serial", lambda: _text(library.hlmlDeviceGetSerial(device)))
    ask("firmware", lambda: _text(library.hlmlDeviceGetFirmwareSPIVersion(device)))
    report.record("versions", versions)
    ask("pci_address", lambda: pci_address(_text(library.hlmlDeviceGetPCIInfo(device).bus_id)))
    ask("power_w", lambda: library.hlmlDeviceGetPowerUsage(device) / 1e3)
    for name, sensor in (("chip", _AIP), ("board", _BOARD), ("hbm", _HBM)):
        ask("temperatures_c", _named(name, library, "hlmlDeviceGetTemperature", device, sensor))
    ask("clocks_mhz", lambda: {"soc": library.hlmlDeviceGetClockInfo(device, _SOC)})
    ask("utilisation_percent", lambda: library.hlmlDeviceGetUtilizationRates(device).aip)
    ask("memory_used_bytes", lambda: int(library.hlmlDeviceGetMemoryInfo(device).used))
    ask("memory_total_bytes", lambda: int(library.hlmlDeviceGetMemoryInfo(device).total))
    ask("throttle_reasons", lambda: _reasons(int(library.hlmlDeviceGetCurrentClocksThrottleReasons(device))))
    for kind, error in (("corrected", _CORRECTED), ("uncorrected", _UNCORRECTED)):
        for span, counter in (("volatile", _VOLATILE), ("aggregate", _AGGREGATE)):
            name = f"ecc_{kind}_{span}"
            ask("memory_errors", _named(name, library, "hlmlDeviceGetTotalECCErrors", device, error, counter))
    for name, cause in (("single_bit", _SINGLE_BIT), ("double_bit", _DOUBLE_BIT)):
        ask("memory_errors", _named(f"replaced_rows_{name}", library, "hlmlDeviceGetReplacedRowsCount", device, cause))
    ask("memory_errors", lambda: {"replaced_rows_pending": library.hlmlDeviceGetReplacedRowsPendingStatus(device)})
    ask("health", lambda: _text(library.hlmlDeviceGetOperationStatus(device)))
    ask("link_errors", lambda: {"pcie_replays": library.hlmlDeviceGetPCIEReplayCounter(device)})
    ask("links", lambda: _hlml_links(library, device) or None)
    return report.reading()


def _named(name: str, library: Any, function: str, *arguments: Any) -> Callable[[], dict[str, Any]]:
    """Return a question whose answer stands under a name."""
    return lambda: {name: getattr(library, function)(*arguments)}


def _reasons(bits: int) -> list[str]:
    named = [word for bit, word in _THROTTLING.items() if bits & bit]
    return [*named, *([f"reason {bits & ~3:#x}"] if bits & ~3 else [])]


def _hlml_links(library: Any, device: Any) -> dict[str, str]:
    masks, _ = library.hlmlDeviceGetMacAddrInfo(device)
    ports = [64 * word + bit for word, mask in enumerate(masks) for bit in range(64) if mask >> bit & 1]
    return {f"nic{port}": "up" if library.hlmlDeviceNicGetLink(device, port) else "down" for port in ports}


# --------------------------------------------------------------------------------------------------------------- both


@contextmanager
def _opened(module: str, begin: str, end: str) -> Iterator[Any]:
    """A library between its first call and its last. Raises SourceError where it cannot be loaded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one of them warns of its own parts
            library: Any = importlib.import_module(module)
            getattr(library, begin)()
    except Exception as problem:  # noqa: BLE001 - of the package, of ctypes, of the library
        raise SourceError(f"{module} cannot be used: {type(problem).__name__}: {problem}"[:300]) from None
    try:
        yield library
    finally:
        with suppress(Exception):
            getattr(library, end)()


def _quietly(question: Callable[[], str | None]) -> str | None:
    with suppress(Exception):
        return question()
    return None
