"""Prometheus exporters that already run on a host: a parser for their text, and a table of their metrics.

Read are npu-exporter (Huawei), DCGM exporter (NVIDIA), device-metrics-exporter (AMD) and all-smi (several makers).
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import psutil

from readiness.accelerators import vendor_id
from readiness.accelerators.readers import npu_smi
from readiness.accelerators.readers.contract import Reading, Report, pci_address, whole
from readiness.accelerators.readers.fault_codes import Severity, xid
from readiness.accelerators.readers.tool_runner import MOST_OUTPUT_BYTES, Context, SourceError
from readiness.errors import UsageError

SOURCE = "exporter"
#: Addresses and files of exporters, one a line; set by `--exporter` and inherited by every worker.
VARIABLE = "READINESS_EXPORTERS"
_MIB = 2.0**20
_MOST_SAMPLES = 200_000


@dataclass(frozen=True, slots=True)
class Sample:
    """A line of the text: metric, labels, value."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Meaning:
    """Meaning of a metric: a field, a key within it if the field is a mapping, and the factor to the field's unit."""

    field: str
    key: str | None = None
    scale: float = 1.0


def _npu(**names: Meaning) -> dict[str, Meaning]:
    return {f"npu_chip_info_{name}": meaning for name, meaning in names.items()}


def _errors(key: str) -> Meaning:
    return Meaning("memory_errors", key)


#: Metrics by name. Sources: Ascend/mind-cluster (22bb3d98) component/npu-exporter/collector; NVIDIA/dcgm-exporter
#: etc/default-counters.csv; ROCm/device-metrics-exporter; lablup/all-smi. A new metric is one line here.
METRICS: Mapping[str, Meaning] = {
    **_npu(
        temperature=Meaning("temperatures_c", "chip"), hbm_temperature=Meaning("temperatures_c", "hbm"),
        power=Meaning("power_w"), utilization=Meaning("utilisation_percent"),
        hbm_used_memory=Meaning("memory_used_bytes", scale=_MIB), hbm_total_memory=Meaning("memory_total_bytes", scale=_MIB),
        aicore_current_freq=Meaning("clocks_mhz", "aicore"),
        hbm_ecc_single_bit_error_cnt=_errors("hbm_corrected_volatile"),
        hbm_ecc_double_bit_error_cnt=_errors("hbm_uncorrected_volatile"),
        hbm_ecc_total_single_bit_error_cnt=_errors("hbm_corrected_aggregate"),
        hbm_ecc_total_double_bit_error_cnt=_errors("hbm_uncorrected_aggregate"),
        hbm_ecc_single_bit_isolated_pages_cnt=_errors("hbm_retired_pages_single_bit"),
        hbm_ecc_double_bit_isolated_pages_cnt=_errors("hbm_retired_pages_double_bit"),
        sio_crc_tx_err_cnt=Meaning("link_errors", "sio_crc_tx"), sio_crc_rx_err_cnt=Meaning("link_errors", "sio_crc_rx"),
        rx_fcs_num=Meaning("link_errors", "fcs_errors"),
    ),
    "npu_chip_roce_rx_err_pkt_num": Meaning("link_errors", "roce_rx_err"),
    "npu_chip_roce_tx_err_pkt_num": Meaning("link_errors", "roce_tx_err"),
    "DCGM_FI_DEV_GPU_TEMP": Meaning("temperatures_c", "gpu"), "DCGM_FI_DEV_MEMORY_TEMP": Meaning("temperatures_c", "memory"),
    "DCGM_FI_DEV_POWER_USAGE": Meaning("power_w"), "DCGM_FI_DEV_GPU_UTIL": Meaning("utilisation_percent"),
    "DCGM_FI_DEV_SM_CLOCK": Meaning("clocks_mhz", "sm"), "DCGM_FI_DEV_MEM_CLOCK": Meaning("clocks_mhz", "memory"),
    "DCGM_FI_DEV_FB_USED": Meaning("memory_used_bytes", scale=_MIB),
    "DCGM_FI_DEV_FB_TOTAL": Meaning("memory_total_bytes", scale=_MIB),
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": _errors("ecc_corrected_volatile"),
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": _errors("ecc_uncorrected_volatile"),
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": _errors("ecc_corrected_aggregate"),
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": _errors("ecc_uncorrected_aggregate"),
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": _errors("remapped_rows_corrected"),
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": _errors("remapped_rows_uncorrected"),
    "DCGM_FI_DEV_ROW_REMAP_PENDING": _errors("remapped_rows_pending"),
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": _errors("remapped_rows_failure"),
    "DCGM_FI_DEV_RETIRED_PENDING": _errors("retired_pages_pending"),
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": Meaning("link_errors", "pcie_replays"),
    "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": Meaning("link_errors", "nvlink_crc_flit_errors"),
    "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL": Meaning("link_errors", "nvlink_replays"),
    "gpu_edge_temperature": Meaning("temperatures_c", "edge"),
    "gpu_junction_temperature": Meaning("temperatures_c", "junction"),
    "gpu_memory_temperature": Meaning("temperatures_c", "memory"), "gpu_power_usage": Meaning("power_w"),
    "gpu_package_power": Meaning("power_w"), "gpu_gfx_activity": Meaning("utilisation_percent"),
    "gpu_used_vram": Meaning("memory_used_bytes", scale=_MIB), "gpu_total_vram": Meaning("memory_total_bytes", scale=_MIB),
    "gpu_ecc_correct_total": _errors("ecc_corrected"), "gpu_ecc_uncorrect_total": _errors("ecc_uncorrected"),
    "pcie_replay_count": Meaning("link_errors", "pcie_replays"),
    "all_smi_gpu_utilization": Meaning("utilisation_percent"), "all_smi_gpu_memory_used_bytes": Meaning("memory_used_bytes"),
    "all_smi_gpu_memory_total_bytes": Meaning("memory_total_bytes"),
    "all_smi_gpu_temperature_celsius": Meaning("temperatures_c", "gpu"),
    "all_smi_gpu_power_consumption_watts": Meaning("power_w"), "all_smi_gpu_frequency_mhz": Meaning("clocks_mhz", "gpu"),
}  # fmt: skip
#: Metrics of device health: the value that means healthy, and the word for every other.
_HEALTH: Mapping[str, tuple[float, str]] = {
    "npu_chip_info_health_status": (1.0, "unhealthy"), "gpu_health": (1.0, "unhealthy"),
    "DCGM_EXP_GPU_HEALTH_STATUS": (0.0, "unhealthy"),
}  # fmt: skip
#: Metrics whose values need more than a factor.
_OTHERS = (
    "npu_chip_info_error_code", "npu_chip_info_hccs_statistic_info_crc", "npu_chip_info_network_status",
    "npu_chip_info_link_status", "npu_chip_info_name", "DCGM_FI_DEV_XID_ERRORS",
)  # fmt: skip
_INDEX = ("id", "npuID", "gpu", "gpu_id", "index", "gpu_index")
_SERIAL = ("vdie_id", "UUID", "serial_number", "gpu_uuid", "uuid")
_MODEL = ("model_name", "modelName", "card_model", "name")
_ADDRESS = ("pcie_bus_info", "pci_bus_id", "pcie_bus_id")


def parse(text: str) -> Iterator[Sample]:
    """The samples of a text; lines that are none are passed over, for exporters write more than one dialect."""
    count = 0
    for line in text.splitlines():
        match = re.match(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*$", line)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        count += 1
        if count > _MOST_SAMPLES:
            raise SourceError(f"it gives more than {_MOST_SAMPLES} samples")
        labels = dict(re.findall(r'([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"', match[2] or ""))
        yield Sample(match[1].removeprefix("amd_") if match[1].startswith("amd_gpu_") else match[1], labels, value)


def readings(samples: Iterator[Sample]) -> list[Reading]:
    """One reading for each device that samples speak of."""
    reports: dict[tuple[str, str], Report] = {}
    for sample in samples:
        vendor = _vendor(sample)
        identity = _label(sample, _INDEX) or _label(sample, _SERIAL)
        if vendor is None or identity is None or not _is_known(sample.name):
            continue
        report = reports.get((vendor, identity))
        if report is None:
            report = reports[vendor, identity] = Report(SOURCE, vendor, whole(_label(sample, _INDEX)))
            _record_identity(report, sample)
        _record(report, sample)
    return [report.reading() for report in reports.values()]


def _is_known(name: str) -> bool:
    return name in METRICS or name in _HEALTH or name.startswith(_OTHERS)


def _vendor(sample: Sample) -> str | None:
    if sample.name.startswith("npu_"):
        return "Huawei"
    if sample.name.startswith("DCGM_"):
        return "NVIDIA"
    if sample.name.startswith("all_smi_"):
        return vendor_id.of_name(sample.labels.get("gpu"))
    return "AMD" if sample.name.startswith(("gpu_", "pcie_")) and "gpu_id" in sample.labels else None


def _label(sample: Sample, names: tuple[str, ...]) -> str | None:
    # all-smi calls the model `gpu`, and the others the number.
    skipped = ("gpu",) if sample.name.startswith("all_smi_") else ()
    return next((sample.labels[name] for name in names if name not in skipped and sample.labels.get(name)), None)


def _record_identity(report: Report, sample: Sample) -> None:
    model = sample.labels.get("gpu") if sample.name.startswith("all_smi_") else _label(sample, _MODEL)
    report.record("model", model)
    report.record("serial", _label(sample, _SERIAL))
    report.record("pci_address", pci_address(_label(sample, _ADDRESS)))
    report.record("versions", {"driver": sample.labels.get("DCGM_FI_DRIVER_VERSION") or sample.labels.get("driver_version")})


def _record(report: Report, sample: Sample) -> None:
    name, value = sample.name, sample.value
    if not math.isfinite(value):
        if (unread := METRICS.get(name)) is not None:
            report.unreadable(unread.field, f"the exporter says {value}")
        return
    if name in _HEALTH:
        well, word = _HEALTH[name]
        report.record("health", "OK" if value == well else word)
    elif name.startswith("npu_chip_info_error_code"):
        report.record("fault_codes", [npu_smi.of_code(int(value) & 0xFFFFFFFF)] if value else [])
    elif name == "DCGM_FI_DEV_XID_ERRORS":
        _record_xid(report, int(value))
    elif match := re.match(r"npu_chip_info_hccs_statistic_info_crc_err_cnt_(\d+)", name):
        report.record("link_errors", {f"hccs_crc_{match[1]}": int(value)})
    elif name == "npu_chip_info_network_status":
        report.record("links", {"network": "success" if value == 1 else "fault"})
    elif name == "npu_chip_info_link_status":
        report.record("links", {"roce": "up" if value == 1 else "down"})
    elif (meaning := METRICS.get(name)) is not None:
        scaled: Any = value * meaning.scale
        if meaning.field in ("memory_errors", "link_errors", "memory_used_bytes", "memory_total_bytes"):
            scaled = int(scaled)
        report.record(meaning.field, scaled if meaning.key is None else {meaning.key: scaled})


def _record_xid(report: Report, number: int) -> None:
    """Record the last Xid code: as its time is unknown, only one that needs an action to clear still counts."""
    fault = xid(number) if number else None
    if fault is None or fault.severity is not Severity.FATAL:
        return
    report.record("fault_codes", [{
        "code": fault.code, "text": f"{fault.text}, the last one", "severity": fault.severity.value,
        "action": fault.action.value, "known": fault.known, "time": None,
    }])  # fmt: skip


def _named() -> list[str]:
    return [line for line in os.environ.get(VARIABLE, "").splitlines() if line.strip()]


def glance(context: Context) -> list[Reading]:
    """Read all named exporters. Raises SourceError if one gives no answer."""
    found: list[Reading] = []
    for place in _named():
        text = _fetch(place, context.remaining_s) if _is_url(place) else _file(Path(place))
        own = readings(parse(text))
        if not own:
            raise SourceError(f"{place} gives no metric of a device that is known")
        found += own
    return found


def _is_url(place: str) -> bool:
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", place) is not None


def _file(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            data = opened.read(MOST_OUTPUT_BYTES + 1)
    except OSError as problem:
        raise SourceError(f"{path} cannot be read: {problem.strerror}") from None
    if len(data) > MOST_OUTPUT_BYTES:
        raise SourceError(f"{path} has more than {MOST_OUTPUT_BYTES >> 20} MiB")
    return data.decode("utf-8", "replace")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect: only the named address is contacted."""


def _fetch(url: str, limit_s: float) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
    try:
        with opener.open(url, timeout=max(limit_s, 0.1)) as answer:
            data = answer.read(MOST_OUTPUT_BYTES + 1)
    except HTTPError as problem:
        raise SourceError(f"{url} answers {problem.code}") from None
    except (OSError, ValueError) as problem:
        raise SourceError(f"{url} does not answer ({problem})") from None
    if len(data) > MOST_OUTPUT_BYTES:
        raise SourceError(f"{url} gives more than {MOST_OUTPUT_BYTES >> 20} MiB")
    return bytes(data).decode("utf-8", "replace")


def use(places: list[str], *, remote: bool) -> None:
    """Have this process and those that it starts ask these exporters. Raises UsageError for one that cannot be meant.

    Without `remote` an address must be this host's own: what another host says of its devices says nothing of these.
    """
    for place in places:
        if "\n" in place or not place.strip():
            raise UsageError(f"{place!r} names no exporter", place="--exporter", remedy="give a URL or a file")
        if _is_url(place):
            _refuse_other_hosts(place, remote)
        elif not Path(place).is_file():
            raise UsageError(f"there is no file {place!r}", place="--exporter", remedy="give a file of metrics, or a URL")
    if places:
        os.environ[VARIABLE] = "\n".join(str(Path(place).resolve()) if not _is_url(place) else place for place in places)


def _refuse_other_hosts(url: str, remote: bool) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or host is None:
        remedy = "write http://127.0.0.1:PORT/metrics"
        raise UsageError(f"{url!r} is no address of an exporter", place="--exporter", remedy=remedy)
    if remote:
        return
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port or 80, type=socket.SOCK_STREAM)}
    except OSError as problem:
        what = f"{host} cannot be resolved ({problem})"
        raise UsageError(what, place="--exporter", remedy="correct the address") from None
    own = {entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}
    others = [address for address in found if not (ipaddress.ip_address(str(address)).is_loopback or address in own)]
    if others:
        raise UsageError(
            f"{host} ({others[0]}) is another host", place="--exporter",
            remedy="name an exporter of this host, or add --remote-exporter if that one speaks of this host's devices",
        )  # fmt: skip
