"""Lines of the kernel's log, and of logs like it, that name a fault of a device: rules as data, each with its source."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from readiness.accelerators import sysfs
from readiness.accelerators.readers import fault_codes
from readiness.accelerators.readers.contract import Reading, Report, pci_address
from readiness.accelerators.readers.fault_codes import Fault, Severity
from readiness.accelerators.readers.tool_runner import Context, SourceError
from readiness.datamodel import AcceleratorFacts, Action

SOURCE = "kernel log"
_MOST_BYTES = 8 * 2**20
#: A record of the kernel's is no longer than 1024 characters; what is longer was made by somebody else.
_LONGEST_LINE = 2000
_LOG_LIMIT_S = 5.0
#: Display and processing devices, by the first digits of their PCI class.
_CLASSES = ("03", "12")


@dataclass(frozen=True, slots=True)
class Event:
    """A fault in a log: the device (vendor; address or number, if given) and the time (epoch)."""

    vendor: str
    fault: Fault
    text: str
    at: float | None = None
    pci_address: str | None = None
    index: int | None = None

    def to_json(self) -> dict[str, Any]:
        """An entry of `fault_codes`."""
        return {
            "code": self.fault.code, "text": self.fault.text, "severity": self.fault.severity.value,
            "action": self.fault.action.value, "known": self.fault.known, "time": self.at, "line": self.text[:200],
        }  # fmt: skip


def _xid(match: re.Match[str]) -> Fault:
    return fault_codes.xid(int(match["code"]), match.string)


def _sxid(match: re.Match[str]) -> Fault:
    fatal = match["word"].lower() == "fatal"
    severity, action = (Severity.FATAL, Action.RESET_DEVICE) if fatal else (Severity.NOTE, Action.NONE)
    text = f"switch error, {match['word'].lower()} (SXid {match['code']})"
    return Fault(f"SXid {match['code']}", text, severity, action, "https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide")


def _ascend(match: re.Match[str]) -> Fault:
    return fault_codes.ascend(match["code"])


_F, _D = Severity.FATAL, Severity.DEGRADED


def _aer(match: re.Match[str]) -> Fault:
    """A PCI Express error: corrected ones are normal now and then, and counted elsewhere."""
    word = match["word"].lower()
    source = "Linux, drivers/pci/pcie/aer.c"
    if "uncorrect" not in word:
        return Fault("AER corrected", "a PCIe error that was corrected", Severity.NOTE, Action.NONE, source)
    if "non-fatal" in word:
        return Fault("AER non-fatal", "a PCIe error that was not corrected", _D, Action.GATHER_EVIDENCE, source)
    return Fault("AER fatal", "a PCIe error that took the link down", _F, Action.RESET_DEVICE, source)


def _fixed(code: str, text: str, severity: Severity, action: Action, source: str) -> Callable[[re.Match[str]], Fault]:
    return lambda _: Fault(code, text, severity, action, source)


_MIND = "https://github.com/Ascend/mind-cluster (22bb3d98) component/ascend-faultdiag, kg-config.json and its test logs"

_PCI = r"(?P<pci>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])"

#: Vendor, what its line looks like, and what it means. A new rule is one line here.
RULES: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], Fault]], ...] = tuple(
    (vendor, re.compile(pattern, re.IGNORECASE), meaning)
    for vendor, pattern, meaning in (
        ("NVIDIA", r"NVRM: Xid \(PCI:(?P<pci>[0-9a-f:.]+)\): (?P<code>\d+)", _xid),
        ("NVIDIA", r"SXid \(PCI:[0-9a-f:.]+\): (?P<code>\d+), (?P<word>(?:non-)?fatal)", _sxid),
        ("Huawei", r"event[_ ]id\s*[=:]\s*0x(?P<code>[0-9a-f]{8})", _ascend),
        ("Huawei", r"\[ascend\].*Heartbeat lost! \(device=(?P<index>\d+);",
         _fixed("heartbeat", "the driver lost the device's heartbeat", _F, Action.RESET_DEVICE, _MIND)),
        ("Intel", r"Xe has declared device (?P<pci>[0-9a-f:.]+) as wedged",
         _fixed("wedged", "the driver has declared the device wedged", _F, Action.REBOOT,
                "Linux, drivers/gpu/drm/xe/xe_device.c")),
        ("Intel", r"xe (?P<pci>[0-9a-f:.]+): .*survivability mode",
         _fixed("survivability", "the device is in survivability mode: its firmware does not start", _F,
                Action.UPDATE_SOFTWARE, "Linux, drivers/gpu/drm/xe/xe_survivability_mode.c; pytorch#197790")),
        ("AMD", r"amdgpu (?P<pci>[0-9a-f:.]+): .*uncorrectable hardware errors? detected",
         _fixed("ue", "uncorrectable hardware errors detected", _F, Action.RESET_DEVICE,
                "Linux, drivers/gpu/drm/amd/amdgpu/amdgpu_ras.c")),
        # Whose device it is stands in sysfs alone.
        ("", rf"{_PCI}: (?:AER: )?PCIe Bus Error: severity=(?P<word>[\w() -]+)", _aer),
        ("", r"AER: (?:Multiple )?(?P<word>(?:Un)?correct(?:ed|able)[\w() -]*?) error (?:message )?received(?: from|:)+ "
             rf"{_PCI}", _aer),
        ("", rf"{_PCI}: AER: device recovery failed",
         _fixed("AER recovery", "the device did not recover from a PCIe error", _F, Action.REBOOT,
                "Linux, drivers/pci/pcie/err.c")),
        ("MetaX", r"METAX\.B(?P<dbdf>[0-9a-f]{1,8})\.(?P<part>\w+)\.(?:ERROR|CRIT|ALERT|EMERG)",
         _fixed("EID", "the driver reports an error of the device", _D, Action.GATHER_EVIDENCE,
                "https://developer.metax-tech.com (C500 driver, EID messages)")),
        ("Habana", r"habanalabs (?:hl\d+|(?P<pci>[0-9a-f:.]+)): .*device heartbeat failed",
         _fixed("heartbeat", "the driver lost the device's heartbeat", _F, Action.RESET_DEVICE,
                "Linux, drivers/accel/habanalabs/common/device.c")),
    )
)  # fmt: skip

_CLOCK = re.compile(r"(?P<day>\d{4}-\d{2}-\d{2})[-T ](?P<time>\d{2}:\d{2}:\d{2})")


def events(lines: Iterable[tuple[str, float | None]]) -> Iterator[Event]:
    """The faults that lines name, each line with its time (epoch) where one is known."""
    for whole, at in lines:
        line = whole[:_LONGEST_LINE]
        for vendor, pattern, meaning in RULES:
            if match := pattern.search(line):
                named = match.groupdict()
                index = named.get("index")
                if index is None and vendor == "Huawei" and (found := re.search(r"\bdev(?:ice)?_?id\s*[=:]\s*(\d+)", line)):
                    index = found[1]
                yield Event(
                    vendor, meaning(match), line.strip(), _written(line) if at is None else at, _address(named),
                    None if index is None else int(index),
                )  # fmt: skip
                break


def _address(named: Mapping[str, str | None]) -> str | None:
    if (coded := named.get("dbdf")) is not None:
        number = int(coded, 16)
        return f"{number >> 16:04x}:{number >> 8 & 0xff:02x}:{number >> 3 & 0x1f:02x}.{number & 7}"
    text = named.get("pci")
    return None if text is None else pci_address(text if "." in text else f"{text}.0")


def _written(line: str) -> float | None:
    """The time that a line itself gives, in the host's own time zone."""
    match = _CLOCK.search(line)
    try:
        return None if match is None else datetime.fromisoformat(f"{match['day']} {match['time']}").timestamp()
    except ValueError:
        return None


def kernel_lines(text: str, root: Path = Path("/"), now: float | None = None) -> Iterator[tuple[str, float | None]]:
    """Records of /dev/kmsg (`6,3973,227996636,-;text`) or lines of `dmesg` (`[ 1197.584409] text`), each with its time."""
    uptime = (sysfs.read_text(root / "proc/uptime") or "").partition(" ")[0]
    booted = None
    with contextlib.suppress(ValueError):
        booted = (time.time() if now is None else now) - float(uptime)
    for line in text.splitlines():
        since: float | None = None
        if match := re.match(r"\d+,\d+,(\d+),[^;]*;(.*)", line):
            since, line = int(match[1]) / 1e6, match[2]  # noqa: PLW2901
        elif match := re.match(r"\[\s*(\d+\.\d+)\]\s*(.*)", line):
            since, line = float(match[1]), match[2]  # noqa: PLW2901
        yield line, None if since is None or booted is None else booted + since


def glance(context: Context) -> list[Reading]:
    """The faults that the kernel's log names, by device. Raises SourceError where it cannot be read."""
    return readings(assigned(events(kernel_lines(_text(context), context.root)), context.root), SOURCE)


def assigned(found: Iterable[Event], root: Path = Path("/")) -> Iterator[Event]:
    """Give events of the PCI bus to the accelerators at, or below, the address that they name; others are left out."""
    at: dict[str | None, list[tuple[str, str]]] = {}
    for event in found:
        if event.vendor:
            yield event
            continue
        if event.pci_address not in at:
            at[event.pci_address] = _accelerators_at(event.pci_address, root)
        for address, vendor in at[event.pci_address]:
            yield replace(event, vendor=vendor, pci_address=address)


def _accelerators_at(address: str | None, root: Path) -> list[tuple[str, str]]:
    """Return address and vendor of each accelerator that is at this address, or behind a port there."""
    if address is None:
        return []
    found = []
    for place in sorted((root / "sys/bus/pci/devices").glob("*")):
        if place.name != address and address not in place.resolve().parts:
            continue
        vendor, _ = sysfs.pci_vendor(place.name, root)
        kind = (sysfs.read_text(place / "class") or "").lower().removeprefix("0x")
        if vendor is not None and kind.startswith(_CLASSES):
            found.append((place.name, vendor))
    return found


def of_device(facts: AcceleratorFacts, since: float, root: Path = Path("/")) -> list[Event]:
    """Return the faults of a device that the logs of this host name since then (epoch), those of nobody in particular of
    its vendor among them. Raises SourceError where the kernel's log cannot be read.
    """
    from readiness.accelerators.readers import ascend_logs

    lines = kernel_lines(_text(Context(root, _LOG_LIMIT_S)), root)
    found = [*assigned(events(lines), root), *(ascend_logs.events(root) if facts.vendor == "Huawei" else ())]
    address, number = pci_address(str(facts.properties.get("pci_address") or "")), facts.properties.get("npu_id")

    def is_own(event: Event) -> bool:
        if event.pci_address is not None:
            return event.pci_address == address
        return event.index is None or event.index == (facts.index if number is None else number)

    return [
        event for event in found
        if event.vendor == facts.vendor and event.at is not None and event.at >= since and is_own(event)
    ]  # fmt: skip


def with_index(event: Event, index: int | None) -> Event:
    """Return the event with the device number of its file, if the line has none."""
    return event if event.index is not None else replace(event, index=index)


def readings(found: Iterable[Event], source: str) -> list[Reading]:
    """One reading for each device that events speak of; those that name none are of the vendor's number None.

    A code that comes again and again is reported once: the last time, and how often.
    """
    devices: dict[tuple[str, str | None, int | None], dict[str, dict[str, Any]]] = {}
    for event in found:
        codes = devices.setdefault((event.vendor, event.pci_address, event.index), {})
        times = codes.get(event.fault.code, {}).get("times", 0) + 1
        codes[event.fault.code] = event.to_json() | {"times": times}
    readings = []
    for (vendor, address, index), codes in devices.items():
        report = Report(source, vendor, index)
        if address is not None:
            report.record("pci_address", address)
        report.record("fault_codes", list(codes.values()))
        readings.append(report.reading())
    return readings


def _text(context: Context) -> str:
    file = context.root / "dev/kmsg"
    try:
        return read_all(file)
    except OSError as problem:
        if context.root != Path("/"):
            raise SourceError(f"{file} cannot be read: {problem.strerror}") from None
        try:
            return context.tool("dmesg")
        except SourceError as other:
            raise SourceError(f"/dev/kmsg cannot be read ({problem.strerror}); {other}") from None


def read_all(file: Path) -> str:
    """All that stands in the kernel's ring buffer now, which gives one record at a time, or in a file."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    parts: list[bytes] = []
    size = 0
    try:
        while size < _MOST_BYTES:
            try:
                data = os.read(descriptor, 2**16)
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten while it was read: the next one is there
                continue
            if not data:
                break
            parts.append(data)
            size += len(data)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "replace")
