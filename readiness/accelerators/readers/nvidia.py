"""NVIDIA: the management library (NVML, extra `nvidia`), and nvidia-smi's XML or text where the library is not there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from readiness.accelerators import nvml
from readiness.accelerators.readers.contract import Reading, Report, number, pci_address, whole
from readiness.accelerators.readers.tool_runner import Context, SourceError

VENDOR = "NVIDIA"
_MIB = 2**20
#: What NVML answers for NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, in nvidia-smi's words.
_RECOVERY = {0: "None", 1: "Reset", 2: "Reboot", 3: "Drain P2P", 4: "Drain and Reset"}
_FABRIC = {0: None, 1: "not started", 2: "in progress", 3: "completed"}


def library(context: Context) -> list[Reading]:  # noqa: ARG001
    """Read NVML about every device. Raises SourceError if NVML cannot be used."""
    try:
        with nvml.library() as found:
            return [_of_library(found, index) for index in range(int(found.nvmlDeviceGetCount()))]
    except nvml.Unavailable as problem:
        raise SourceError(str(problem)) from None


def _of_library(found: Any, index: int) -> Reading:
    report = Report("NVML", VENDOR, index)
    handle = found.nvmlDeviceGetHandleByIndex(index)
    read = nvml.NvmlQuery(found, handle)

    def record(field: str, name: str, *arguments: Any, scale: float = 1.0) -> None:
        question = getattr(found, name, None)
        answer = None if question is None else read(name, question, *arguments)
        if answer is None:
            report.absent(field, read.refused.get(name, f"this library lacks {name}"))
        else:
            report.record(field, answer if isinstance(answer, str) else answer * scale)

    record("model", "nvmlDeviceGetName")
    record("serial", "nvmlDeviceGetUUID")
    record("firmware", "nvmlDeviceGetVbiosVersion")
    record("power_w", "nvmlDeviceGetPowerUsage", scale=1e-3)
    record("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit", scale=1e-3)
    report.record("versions", {
        "driver": read("driver", lambda _: found.nvmlSystemGetDriverVersion()),
        "nvml": read("library", lambda _: found.nvmlSystemGetNVMLVersion()),
    })  # fmt: skip
    report.record("temperatures_c", {"gpu": read("temperature", found.nvmlDeviceGetTemperature, found.NVML_TEMPERATURE_GPU)})
    report.record("clocks_mhz", {"sm": read("clock", found.nvmlDeviceGetClockInfo, found.NVML_CLOCK_SM)})
    address = read("pci", lambda device: _text(found.nvmlDeviceGetPciInfo(device).busId))
    report.record("pci_address", pci_address(address))
    report.record("utilisation_percent", read("utilisation", lambda device: found.nvmlDeviceGetUtilizationRates(device).gpu))
    memory = read("memory", found.nvmlDeviceGetMemoryInfo)
    report.record("memory_used_bytes", None if memory is None else int(memory.used))
    report.record("memory_total_bytes", None if memory is None else int(memory.total))
    report.record("throttle_reasons", nvml.throttle_reasons_of(found, handle))
    _record_counters(report, nvml.counters_of(found, read))
    if states := list(nvml.link_states(found, handle)):
        report.record("links", {f"nvlink{link}": "up" if up else "down" for link, up in enumerate(states)})
    _record_fabric(report, found, handle)
    _record_recovery(report, _field_value(found, handle, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION"))
    report.record("mode", {
        "mig": _on(read("mig", lambda device: found.nvmlDeviceGetMigMode(device)[0])),
        "ecc": _on(read("ecc", lambda device: found.nvmlDeviceGetEccMode(device)[0])),
    })  # fmt: skip
    processes = read("processes", lambda device: list(found.nvmlDeviceGetComputeRunningProcesses(device)))
    report.record("processes", None if processes is None else [
        {"pid": int(one.pid), "name": None, "memory_bytes": one.usedGpuMemory} for one in processes
    ])  # fmt: skip
    return report.reading()


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _on(value: object) -> str | None:
    return None if value is None else "enabled" if value else "disabled"


def _record_counters(report: Report, counters: Mapping[str, int]) -> None:
    links = {name: count for name, count in counters.items() if name.startswith(("nvlink", "pcie"))}
    report.record("memory_errors", {name: count for name, count in counters.items() if name not in links} or None)
    report.record("link_errors", links or None)


def _record_fabric(report: Report, found: Any, handle: Any) -> None:
    """Record the state of the switches between devices; nothing for a device without them."""
    question, kind = getattr(found, "nvmlDeviceGetGpuFabricInfoV", None), getattr(found, "c_nvmlGpuFabricInfoV_t", None)
    if question is None or kind is None:
        return
    info = kind()
    if hasattr(found, "nvmlGpuFabricInfo_v2"):
        info.version = found.nvmlGpuFabricInfo_v2
    try:
        question(handle, info)
    except Exception:  # noqa: BLE001 - NVMLError: not supported
        return
    if (state := _FABRIC.get(int(info.state))) is not None:
        failed = int(info.state) == 3 and int(info.status) != 0
        report.record("links", {"fabric": f"failed ({info.status})" if failed else state})


def _field_value(found: Any, handle: Any, name: str) -> str | None:
    number_of = getattr(found, name, None)
    if number_of is None:
        return None
    try:
        (answer,) = found.nvmlDeviceGetFieldValues(handle, [number_of])
    except Exception:  # noqa: BLE001 - older drivers do not know the field
        return None
    return _RECOVERY.get(int(answer.value.uiVal)) if answer.nvmlReturn == 0 else None


def _record_recovery(report: Report, word: str | None) -> None:
    """A recovery action that is none means that nothing is wrong."""
    if word is None:
        report.absent("health", "this driver names no recovery action")
    else:
        report.record("health", "OK" if word.strip().lower() == "none" else word)


def tool(context: Context) -> list[Reading]:
    """Read the output of nvidia-smi about every device. Raises SourceError."""
    try:
        return of_documents(parse_xml(context.tool("nvidia-smi", "-q", "-x")))
    except SourceError as problem:
        if "mismatch" in str(problem).lower() or context.remaining_s < 0.3:
            raise
        return of_documents(parse_text(context.tool("nvidia-smi", "-q")))


Document = dict[str, str]


def parse_xml(text: str) -> list[tuple[Document, list[Document]]]:
    """`nvidia-smi -q -x`: for each device its values by path, and its processes. Raises SourceError."""
    try:
        root = ElementTree.fromstring(text.encode())  # noqa: S314 - a tool's own output; expat limits entities
    except ElementTree.ParseError as problem:
        raise SourceError(f"nvidia-smi printed no whole document ({problem})") from None
    shared = {name: root.findtext(name) or "" for name in ("driver_version", "cuda_version")}
    found = []
    for gpu in root.iter("gpu"):
        document = {**shared, "pci/bus_id": gpu.get("id") or ""}
        _flatten(gpu, "", document)
        found.append((document, [{item.tag: item.text or "" for item in process} for process in gpu.iter("process_info")]))
    if not found:
        raise SourceError("nvidia-smi lists no device")
    return found


def _flatten(element: ElementTree.Element, path: str, document: Document) -> None:
    for child in element:
        if child.tag in ("mig_devices", "processes", "supported_clocks", "accounted_processes"):
            continue
        own = f"{path}/{child.tag}".lstrip("/")
        if len(child):
            _flatten(child, own, document)
        else:
            document.setdefault(own, (child.text or "").strip())


#: What XML calls two lines of a process.
_PROCESS_KEYS = {"name": "process_name", "used_gpu_memory": "used_memory"}


def parse_text(text: str) -> list[tuple[Document, list[Document]]]:
    """`nvidia-smi -q`: the same, paths made of its words. Raises SourceError."""
    shared: Document = {}
    found: list[tuple[Document, list[Document]]] = []
    stack: list[tuple[int, str]] = []
    for line in text.splitlines():
        indent, (name, separator, value) = len(line) - len(line.lstrip()), line.strip().partition(" : ")
        if indent == 0:
            if match := re.match(r"GPU ([0-9A-Fa-f:.]+)$", line.strip()):
                found.append(({**shared, "pci/bus_id": match[1]}, []))
                stack = []
            elif separator:
                shared[_key(name)] = value.strip()
            continue
        if not found:
            continue
        while stack and stack[-1][0] >= indent:
            stack.pop()
        path = "/".join([*(part for _, part in stack), _key(name)])
        document, processes = found[-1]
        if path == "processes/process_id":
            processes.append({"pid": value.strip()})
        elif path.startswith("processes/process_id/") and processes:
            processes[-1][_PROCESS_KEYS.get(_key(name), _key(name))] = value.strip()
        elif separator:
            document.setdefault(path, value.strip())
        stack.append((indent, _key(name)))
    if not found:
        raise SourceError("nvidia-smi lists no device")
    return found


def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_")


#: Where a value stands, in XML and in text.
_PATHS: Mapping[str, Sequence[str]] = {
    "model": ("product_name",), "uuid": ("uuid", "gpu_uuid"), "firmware": ("vbios_version",),
    "driver": ("driver_version",), "address": ("pci/pci_bus_id", "pci/bus_id"),
    "recovery": ("gpu_recovery_action",), "reset": ("gpu_reset_status/reset_required",),
    "drain": ("gpu_reset_status/drain_and_reset_recommended",),
    "temperature": ("temperature/gpu_temp", "temperature/gpu_current_temp"),
    "memory_temperature": ("temperature/memory_temp", "temperature/memory_current_temp"),
    "power": (
        "gpu_power_readings/instant_power_draw", "gpu_power_readings/instantaneous_power_draw",
        "gpu_power_readings/average_power_draw", "gpu_power_readings/power_draw", "power_readings/power_draw",
    ),
    "limit": ("gpu_power_readings/current_power_limit", "power_readings/power_limit"),
    "clock": ("clocks/sm_clock", "clocks/sm"), "memory_clock": ("clocks/mem_clock", "clocks/memory"),
    "busy": ("utilization/gpu_util", "utilization/gpu"),
    "used": ("fb_memory_usage/used",), "total": ("fb_memory_usage/total",),
    "mig": ("mig_mode/current_mig", "mig_mode/current"), "ecc": ("ecc_mode/current_ecc", "ecc_mode/current"),
    "fabric": ("fabric/state",), "fabric_status": ("fabric/status",),
}  # fmt: skip
#: Counts and conditions of memory: under which name each goes here, and where it stands.
_COUNTS: Mapping[str, Sequence[str]] = {
    "remapped_rows_corrected": ("remapped_rows/remapped_row_corr", "remapped_rows/correctable_error"),
    "remapped_rows_uncorrected": ("remapped_rows/remapped_row_unc", "remapped_rows/uncorrectable_error"),
    "remapped_rows_pending": ("remapped_rows/remapped_row_pending", "remapped_rows/pending"),
    "remapped_rows_failure": ("remapped_rows/remapped_row_failure", "remapped_rows/remapping_failure_occurred"),
    "retired_pages_single_bit":
        ("retired_pages/multiple_single_bit_retirement/retired_count", "retired_pages/single_bit_ecc"),
    "retired_pages_double_bit": ("retired_pages/double_bit_retirement/retired_count", "retired_pages/double_bit_ecc"),
    "retired_pages_pending": ("retired_pages/pending_retirement", "retired_pages/pending_page_blacklist"),
    "channel_repair_pending": ("ecc_errors/channel_repair_pending",),
    "tpc_repair_pending": ("ecc_errors/tpc_repair_pending",),
    "unrepairable_memory_failure": ("ecc_errors/unrepairable_memory",),
}


def of_documents(documents: Sequence[tuple[Document, list[Document]]]) -> list[Reading]:
    """One reading for each device."""
    return [_of_document(index, document, processes) for index, (document, processes) in enumerate(documents)]


def _of_document(index: int, document: Document, processes: list[Document]) -> Reading:
    def at(name: str) -> str | None:
        return _found(document, _PATHS[name])

    report = Report("nvidia-smi", VENDOR, index)
    report.record("model", at("model"))
    report.record("serial", at("uuid"))
    report.record("firmware", at("firmware"))
    report.record("pci_address", pci_address(at("address")))
    report.record("versions", {"driver": at("driver")})
    report.record("temperatures_c", {"gpu": number(at("temperature")), "memory": number(at("memory_temperature"))})
    report.record("power_w", number(at("power")))
    report.record("power_limit_w", number(at("limit")))
    report.record("clocks_mhz", {"sm": number(at("clock")), "memory": number(at("memory_clock"))})
    report.record("utilisation_percent", number(at("busy")))
    for field, name in (("memory_used_bytes", "used"), ("memory_total_bytes", "total")):
        mib = number(at(name))
        report.record(field, None if mib is None else int(mib * _MIB))
    report.record("mode", {"mig": at("mig"), "ecc": at("ecc")})
    if at("reset") == "Yes" or at("drain") == "Yes":
        report.record("health", "reset" if at("reset") == "Yes" else "drain and reset")
    else:
        _record_recovery(report, at("recovery") or ("None" if at("reset") == "No" else None))
    reasons = {
        path.rpartition("/")[2]: state for path, state in document.items()
        if re.match(r"clocks_(event|throttle)_reasons/", path)
    }  # fmt: skip
    report.record("throttle_reasons", None if not reasons else [
        re.sub(r"clocks_(event|throttle)_reason_(gpu_)?", "", name).replace("_", " ")
        for name, state in reasons.items() if state == "Active"
    ])  # fmt: skip
    report.record("memory_errors", _memory_errors(document) or None)
    if (state := at("fabric")) not in (None, "N/A"):
        status = at("fabric_status")
        report.record("links", {"fabric": f"{state}, {status}" if status not in (None, "N/A") else state})
    report.record("processes", [
        {"pid": whole(one.get("pid")), "name": one.get("process_name"), "memory_bytes": _bytes(one.get("used_memory"))}
        for one in processes
    ])  # fmt: skip
    return report.reading()


def _bytes(text: str | None) -> int | None:
    mib = number(text)
    return None if mib is None else int(mib * _MIB)


def _found(document: Document, paths: Sequence[str]) -> str | None:
    """The first of these places that has a value; the tool's word for none where there is no other."""
    values = [document[path] for path in paths if path in document]
    return next((value for value in values if value != "N/A"), values[0] if values else None)


def _memory_errors(document: Document) -> dict[str, int]:
    found: dict[str, int] = {}
    for span in ("volatile", "aggregate"):
        for kind, word in (("corrected", "correctable"), ("uncorrected", "uncorrectable")):
            counts = [
                whole(value) for path, value in document.items()
                if re.fullmatch(rf"ecc_errors/{span}/(sram|dram)_{word}(_\w+)?", path)
            ]  # fmt: skip
            if any(count is not None for count in counts):
                found[f"ecc_{kind}_{span}"] = sum(count for count in counts if count is not None)
    for name, paths in _COUNTS.items():
        value = _found(document, paths)
        count = {"yes": 1, "no": 0}.get((value or "").lower(), whole(value))
        if count is not None:
            found[name] = count
    return found


def links(context: Context) -> list[Reading]:
    """Read the output of `nvidia-smi nvlink -s` about each device's links; nothing if there are none."""
    found: list[Report] = []
    for line in context.tool("nvidia-smi", "nvlink", "-s", may_fail=True).splitlines():
        if match := re.match(r"GPU (\d+):", line):
            found.append(Report("nvidia-smi nvlink", VENDOR, int(match[1])))
        elif (match := re.match(r"\s*Link (\d+): (.+?)\s*$", line)) and found:
            state = match[2].strip("<>")
            found[-1].record("links", {f"nvlink{match[1]}": None if state.upper().startswith("N/A") else state})
    return [report.reading() for report in found]
