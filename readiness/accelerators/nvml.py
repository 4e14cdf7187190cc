"""NVIDIA's management library, through `pynvml` (distribution nvidia-ml-py, optional), for one device of torch's.

Devices are matched by UUID or PCI address, never by index: CUDA_VISIBLE_DEVICES renumbers torch's devices, not NVML's.
What the library refuses for a device (`Not Supported` is common) is absent here and listed under `refused`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from readiness.accelerators.interconnect import Links

#: As many as a device may have; where it has fewer, NVML refuses the next.
_LINKS = 64
_LINK_ERRORS = {"replays": 0, "recoveries": 1, "crc_flit_errors": 2, "crc_data_errors": 3}


@dataclass(frozen=True, slots=True)
class Reading:
    """NVML's data of one device; every field may be None. `refused` maps a reading to the error in its place."""

    uuid: str | None = None
    name: str | None = None
    serial: str | None = None
    memory_bytes: int | None = None
    driver: str | None = None
    library: str | None = None
    firmware: str | None = None
    mig: bool | None = None
    ecc: bool | None = None
    matched_by: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class Unavailable(Exception):  # noqa: N818 - the reason becomes a property of the device, it is no fault of ours
    """NVML cannot be used, or has no such device; the text says why."""


@contextmanager
def library() -> Iterator[Any]:
    """The library, initialised and shut down again. Raises Unavailable."""
    try:
        nvml = importlib.import_module("pynvml")
    except Exception as problem:  # noqa: BLE001 - an optional library: whatever is wrong with it is told
        raise Unavailable(f"pynvml cannot be imported ({type(problem).__name__}: {problem})") from None
    try:
        nvml.nvmlInit()
    except Exception as problem:  # noqa: BLE001 - NVMLError is a class of the library that just failed
        raise Unavailable(f"NVML does not start: {problem}") from None
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def read(uuid: str | None, address: str | None) -> Reading:
    """Read all NVML data of the device with this UUID or this PCI address. Raises Unavailable."""
    with library() as nvml:
        handle, matched_by = _handle(nvml, uuid, address)
        query = NvmlQuery(nvml, handle)
        return Reading(
            uuid=query("uuid", nvml.nvmlDeviceGetUUID),
            name=query("name", nvml.nvmlDeviceGetName),
            serial=query("serial", nvml.nvmlDeviceGetSerial),
            memory_bytes=query("memory", lambda device: int(nvml.nvmlDeviceGetMemoryInfo(device).total)),
            driver=query("driver", lambda _: nvml.nvmlSystemGetDriverVersion()),
            library=query("library", lambda _: nvml.nvmlSystemGetNVMLVersion()),
            firmware=query("firmware", nvml.nvmlDeviceGetVbiosVersion),
            mig=query("mig", lambda device: bool(nvml.nvmlDeviceGetMigMode(device)[0])),
            ecc=_ecc(nvml, query),
            matched_by=matched_by,
            counters=counters_of(nvml, query),
            refused=query.refused,
        )


def counters(uuid: str | None, address: str | None) -> dict[str, int]:
    """The fault counters alone, as they stand now. Raises Unavailable."""
    with library() as nvml:
        handle, _ = _handle(nvml, uuid, address)
        return counters_of(nvml, NvmlQuery(nvml, handle))


def sensors(uuid: str | None, address: str | None) -> dict[str, float]:
    """Read what changes with load: degrees Celsius, watts, megahertz. Raises Unavailable."""
    with library() as nvml:
        handle, _ = _handle(nvml, uuid, address)
        query = NvmlQuery(nvml, handle)
        milliwatts = query("power", nvml.nvmlDeviceGetPowerUsage)
        found = {
            "temperature_c": query("temperature", nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if milliwatts is None else milliwatts / 1000,
            "clock_mhz": query("clock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        }
        return {name: float(value) for name, value in found.items() if value is not None}


#: Reasons of throttling by their names in the library; newer ones call them event reasons.
_REASONS = {
    "GpuIdle": "idle", "ApplicationsClocksSetting": "applications clocks setting", "SwPowerCap": "sw power cap",
    "HwSlowdown": "hw slowdown", "SyncBoost": "sync boost", "SwThermalSlowdown": "sw thermal slowdown",
    "HwThermalSlowdown": "hw thermal slowdown", "HwPowerBrakeSlowdown": "hw power brake slowdown",
    "DisplayClockSetting": "display clock setting",
}  # fmt: skip


def throttle_reasons(uuid: str | None, address: str | None) -> list[str] | None:
    """Return the reasons for which the device is throttled now; None if NVML does not report them. Raises Unavailable."""
    with library() as nvml:
        handle, _ = _handle(nvml, uuid, address)
        return throttle_reasons_of(nvml, handle)


def throttle_reasons_of(nvml: Any, handle: Any) -> list[str] | None:
    """Return the throttle reasons of a device that has been looked up."""
    for words in ("Event", "Throttle"):
        question = getattr(nvml, f"nvmlDeviceGetCurrentClocks{words}Reasons", None)
        if question is None:
            continue
        bits = NvmlQuery(nvml, handle)("throttle_reasons", question)
        if bits is not None:
            return [text for name, text in _REASONS.items() if bits & _bit(nvml, name)]
    return None


def _bit(nvml: Any, name: str) -> int:
    for prefix in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
        if (found := getattr(nvml, f"{prefix}{name}", None)) is not None:
            return int(found)
    return 0


def links(uuid: str | None, address: str | None) -> Links | None:
    """The device's NVLinks that are up; None where it answers for none. Raises Unavailable."""
    with library() as nvml:
        handle, _ = _handle(nvml, uuid, address)
        states = list(link_states(nvml, handle))
        up = [link for link, state in enumerate(states) if state]
        rates = [_link_gbps(nvml, handle, link) for link in up]
        peers = {_peer(nvml, handle, link) for link in up}
        straight = len(peers) if peers and None not in peers else None
        return Links(len(up), sum(filter(None, rates)) if rates and all(rates) else None, straight) if states else None


def _peer(nvml: Any, device: Any, link: int) -> str | None:
    """Return the PCI address of the device at the other end of a link; None for a switch, or if NVML does not report it."""
    try:
        if nvml.nvmlDeviceGetNvLinkRemoteDeviceType(device, link) != nvml.NVML_NVLINK_DEVICE_TYPE_GPU:
            return None
        address = nvml.nvmlDeviceGetNvLinkRemotePciInfo(device, link).busId
    except Exception:  # noqa: BLE001 - older libraries, and what they refuse
        return None
    return address.decode(errors="replace") if isinstance(address, bytes) else str(address)


def _link_gbps(nvml: Any, device: Any, link: int) -> float | None:
    """Return the bandwidth of one link one way; None if NVML does not report it. It tells in 10^6 bytes a second."""
    for name, scope in (("NVML_FI_DEV_NVLINK_GET_SPEED", link), ("NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON", 0)):
        try:
            (answer,) = nvml.nvmlDeviceGetFieldValues(device, [(getattr(nvml, name), scope)])
        except Exception:  # noqa: BLE001, S112 - the next field may be answered
            continue
        if answer.nvmlReturn == 0 and answer.value.uiVal:
            return float(answer.value.uiVal) / 1000
    return None


class NvmlQuery:
    """Queries of one device: an error costs that value only, and is kept in `refused`."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml = nvml
        self.handle = handle
        self.refused: dict[str, str] = {}

    def __call__(self, name: str, question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            answer = question(self.handle, *arguments)
        except Exception as problem:  # noqa: BLE001 - NVMLError, or a function that this version lacks
            self.refused[name] = str(problem) or type(problem).__name__
            return None
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def _handle(nvml: Any, uuid: str | None, address: str | None) -> tuple[Any, str]:
    # The address first: of a slice of a partitioned device it names the whole, and the whole owns the counters.
    reasons = []
    if address is not None:
        try:
            return nvml.nvmlDeviceGetHandleByPciBusId(address), "PCI address"
        except Exception as problem:  # noqa: BLE001 - the next way may work
            reasons.append(f"{address}: {problem}")
    if uuid is not None:
        for candidate in [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid}", f"MIG-{uuid}"]:
            try:
                return nvml.nvmlDeviceGetHandleByUUID(candidate), "UUID"
            except Exception as problem:  # noqa: BLE001 - likewise
                reasons.append(f"{candidate}: {problem}")
    raise Unavailable(f"NVML has no such device ({'; '.join(reasons) or 'torch reports neither UUID nor PCI address'})")


def _ecc(nvml: Any, query: NvmlQuery) -> bool | None:
    """Return whether ECC is enabled; None if NVML does not report it."""
    watched: bool | None = query("ecc", lambda device: bool(nvml.nvmlDeviceGetEccMode(device)[0]))
    return watched


def counters_of(nvml: Any, query: NvmlQuery) -> dict[str, int]:
    found: dict[str, int | None] = {}
    kinds = {"corrected": nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, "uncorrected": nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED}
    spans = {"volatile": nvml.NVML_VOLATILE_ECC, "aggregate": nvml.NVML_AGGREGATE_ECC}
    for kind, error in kinds.items():
        for span, counter in spans.items():
            name = f"ecc_{kind}_{span}"
            found[name] = query(name, nvml.nvmlDeviceGetTotalEccErrors, error, counter)
    # Where errors are not watched for, NVML answers with zeros all the same (github.com/leptonai/gpud/pull/351).
    rows = query("remapped_rows", nvml.nvmlDeviceGetRemappedRows) if _ecc(nvml, query) else None
    if rows is not None:
        names = ("corrected", "uncorrected", "pending", "failure")
        found |= {f"remapped_rows_{name}": int(count) for name, count in zip(names, rows, strict=True)}
    causes = {
        "single_bit": nvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        "double_bit": nvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    }
    for kind, cause in causes.items():
        pages = query(f"retired_pages_{kind}", nvml.nvmlDeviceGetRetiredPages, cause)
        found[f"retired_pages_{kind}"] = None if pages is None else len(pages)
    found["retired_pages_pending"] = query("retired_pages_pending", nvml.nvmlDeviceGetRetiredPagesPendingStatus)
    found["pcie_replays"] = query("pcie_replays", nvml.nvmlDeviceGetPcieReplayCounter)
    for kind, number in _LINK_ERRORS.items():
        found[f"nvlink_{kind}"] = query(f"nvlink_{kind}", partial(_link_errors, nvml), number)
    return {name: int(count) for name, count in found.items() if count is not None}


def _link_errors(nvml: Any, device: Any, error: int) -> int:
    """One kind of error summed over the links that are up. Raises what NVML raises where no link answers."""
    total, answered, refusal = 0, False, None
    try:
        for link, up in enumerate(link_states(nvml, device, strict=True)):
            if up:
                total += nvml.nvmlDeviceGetNvLinkErrorCounter(device, link, error)
                answered = True
    except Exception as problem:  # noqa: BLE001 - links end where the device has no more
        refusal = problem
    if not answered:
        raise refusal or RuntimeError("no link is up")
    return total


def link_states(nvml: Any, device: Any, *, strict: bool = False) -> Iterator[bool]:
    """Yield whether each link is up, until the device has no more; `strict` raises NVML's error then."""
    for link in range(_LINKS):
        try:
            up = bool(nvml.nvmlDeviceGetNvLinkState(device, link))
        except Exception:
            if strict:
                raise
            return
        yield up
