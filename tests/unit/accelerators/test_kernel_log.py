"""The kernel's log of a run: which check ran when a fault came, what it provoked itself, and errors of the PCI bus."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from readiness.accelerators.base import Accelerator
from readiness.accelerators.readers import kernel_log, npu_smi
from readiness.accelerators.readers.contract import Report
from readiness.accelerators.readers.health import judge
from readiness.accelerators.readers.tool_runner import SourceError
from readiness.accelerators.run_timeline import CheckSpan, RunTimeline
from readiness.datamodel import AcceleratorFacts, Action, Evidence, Status
from tests.support import run_check, value
from tests.unit.checks.driver.fakes import FakeStack, fake

TIMELINE = RunTimeline(1000.0, [
    CheckSpan("driver.streams", 1001.0, 1010.0), CheckSpan("driver.processes", 1020.0, 1030.0, provokes=True),
    CheckSpan("operators.sweep", 1040.0, 1090.0),
])  # fmt: skip


def xid(number: int, at: float, address: str = "0000:17:00") -> kernel_log.Event:
    (event,) = kernel_log.events([(f"NVRM: Xid (PCI:{address}): {number}, pid=1, name=python", at)])
    return event


class LoggingStack(FakeStack):
    def __init__(self, events: Sequence[kernel_log.Event] | None) -> None:
        super().__init__()
        self._events = events

    def fault_events(self, facts: AcceleratorFacts, since: float) -> Sequence[kernel_log.Event]:
        if self._events is None:
            raise SourceError("/dev/kmsg cannot be read: Operation not permitted")
        return self._events


def evidence(events: Sequence[kernel_log.Event] | None, timeline: RunTimeline | None = TIMELINE) -> Evidence:
    accelerator: Accelerator = fake(LoggingStack(events))
    accelerator.timeline = timeline
    return run_check("driver.kernel_log", accelerator)


def test_a_fault_is_reported_with_the_check_that_ran() -> None:
    found = evidence([xid(79, 1050.0), xid(94, 1005.0), xid(31, 1015.0)])
    assert (value(found, "fatal_events"), value(found, "events")) == (1, 2)
    about = {one.name: one.about or "" for one in found.measurements}
    assert about["fatal_events"].endswith("while operators.sweep ran")
    assert "while driver.streams ran" in about["events"]
    assert "between two checks" in about["events"]
    assert {row["came"] for row in found.rows} == {"while operators.sweep ran", "while driver.streams ran", "between two checks"}


def test_what_a_check_provokes_is_shown_and_not_counted_unless_it_is_fatal() -> None:
    found = evidence([xid(31, 1025.0), xid(13, 1030.5)])
    assert (value(found, "fatal_events"), value(found, "events")) == (0, 0)
    assert [row["provoked"] for row in found.rows] == [True, True]
    assert value(evidence([xid(79, 1025.0)]), "fatal_events") == 1


def test_a_quiet_log_a_log_that_cannot_be_read_and_a_run_that_nobody_timed() -> None:
    quiet = evidence([])
    assert (value(quiet, "fatal_events"), value(quiet, "events")) == (0, 0)
    assert (evidence(None).status, evidence(None).reason) == (Status.SKIPPED, "/dev/kmsg cannot be read: Operation not permitted")
    assert evidence([], None).status is Status.SKIPPED


def test_a_timeline_survives_its_way_to_a_worker() -> None:
    assert RunTimeline.from_json(TIMELINE.to_json()) == TIMELINE


def test_health_does_not_blame_a_device_for_what_the_run_provoked_or_what_ended_before_it() -> None:
    def actions(at: float, number: int = 31) -> set[str]:
        report = Report("kernel log", "NVIDIA", 0)
        report.record("fault_codes", [xid(number, at).to_json()])
        return {finding.action.value for finding in judge(report.reading(), 1100.0, TIMELINE)}

    assert actions(1050.0) == {"retry"}
    assert actions(1025.0) == actions(900.0) == {"none"}
    assert actions(1025.0, 79) == actions(900.0, 79) == {"reboot"}
    standing = Report("npu-smi", "Huawei", 0)
    standing.record("fault_codes", [npu_smi.of_code("80E18005")])  # no time: it stands
    assert {finding.action for finding in judge(standing.reading(), 1100.0, TIMELINE)} == {Action.RESET_DEVICE}


@pytest.mark.parametrize(
    ("line", "code", "action"),
    [
        ("pcieport 0000:16:00.0: AER: Uncorrected (Fatal) error received: 0000:17:00.0", "AER fatal", "reset-device"),
        ("pcieport 0000:16:00.0: AER: Uncorrectable (Non-Fatal) error message received from 0000:17:00.0", "AER non-fatal", "gather-evidence"),
        ("pcieport 0000:16:00.0: AER: Multiple Corrected error received: 0000:17:00.0", "AER corrected", "none"),
        ("nvidia 0000:17:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Receiver ID)", "AER non-fatal", "gather-evidence"),
        ("nvidia 0000:17:00.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible, (Unregistered Agent ID)", "AER fatal", "reset-device"),
        ("nvidia 0000:17:00.0: AER: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Transmitter ID)", "AER corrected", "none"),
        ("pcieport 0000:17:00.0: AER: device recovery failed", "AER recovery", "reboot"),
    ],
)
def test_errors_of_the_pci_bus(line: str, code: str, action: str) -> None:
    (event,) = kernel_log.events([(line, 5.0)])
    assert (event.vendor, event.fault.code, event.fault.action.value, event.pci_address) == ("", code, action, "0000:17:00.0")


def _bus(root: Path) -> None:
    """A port with an NVIDIA device behind it, and a network card elsewhere."""
    devices = root / "sys/bus/pci/devices"
    devices.mkdir(parents=True)
    tree = root / "sys/devices/pci0000:16"
    for path, vendor, kind in (("0000:16:00.0", "0x8086", "0x060400"), ("0000:16:00.0/0000:17:00.0", "0x10de", "0x030200"), ("0000:40:00.0", "0x15b3", "0x020000")):
        (tree / path).mkdir(parents=True)
        (tree / path / "vendor").write_text(vendor)
        (tree / path / "class").write_text(kind)
        (devices / Path(path).name).symlink_to(tree / path)


def test_an_error_of_the_bus_belongs_to_the_accelerator_there_or_behind_the_port(tmp_path: Path) -> None:
    _bus(tmp_path)
    lines = [
        ("nvidia 0000:17:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer", 5.0),
        ("pcieport 0000:16:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer", 6.0),
        ("mlx5_core 0000:40:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer", 7.0),
    ]
    found = list(kernel_log.assigned(kernel_log.events(lines), tmp_path))
    assert [(event.vendor, event.pci_address, event.at) for event in found] == [("NVIDIA", "0000:17:00.0", 5.0), ("NVIDIA", "0000:17:00.0", 6.0)]


def test_events_of_one_device_since_a_moment(tmp_path: Path) -> None:
    _bus(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text("5000.00 1.0\n")
    (tmp_path / "dev/kmsg").write_text(
        "4,1,4000000000,-;NVRM: Xid (PCI:0000:17:00): 79, pid=1\n"  # a thousand seconds ago
        "4,2,4990000000,-;NVRM: Xid (PCI:0000:17:00): 31, pid=1\n"
        "4,3,4990000000,-;NVRM: Xid (PCI:0000:18:00): 79, pid=1\n"  # another device
        "4,4,4991000000,-;pcieport 0000:16:00.0: AER: Uncorrected (Fatal) error received: 0000:17:00.0\n"
        "4,5,4992000000,-;nvidia-nvswitch0: SXid (PCI:0000:90:00.0): 20034, Fatal, Link 32 LTSSM Fault Up\n"
    )
    facts = AcceleratorFacts("cuda:0", "cuda", 0, "cuda", "NVIDIA", "NVIDIA H100", properties={"pci_address": "0000:17:00.0"})
    found = kernel_log.of_device(facts, time.time() - 100, tmp_path)
    assert [event.fault.code for event in found] == ["Xid 31", "AER fatal", "SXid 20034"]


def test_without_a_log_nothing_is_known(tmp_path: Path) -> None:
    facts = AcceleratorFacts("cuda:0", "cuda", 0, "cuda", "NVIDIA", "NVIDIA H100")
    with pytest.raises(SourceError, match="cannot be read"):
        kernel_log.of_device(facts, 0.0, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["a" * 2**22, "habanalabs hl0: " * 2**18, "xe 0000:03:00.0: " * 2**18, "amdgpu 0000:c1:00.0: " * 2**17, "\x00\ufffd\x1b[31m错误 Gerät" * 2**17,
     "event_id=0x dev_id " * 2**17, "AER: Uncorrected (" * 2**17],
    ids=["letters", "habana", "xe", "amdgpu", "mixed-language", "codes", "aer"],
)  # fmt: skip
def test_a_line_without_end_names_no_fault_and_takes_no_time(text: str) -> None:
    """Patterns that look for words to the end of a line would take hours where they begin at each of its words."""
    assert list(kernel_log.events(kernel_log.kernel_lines(text))) == []


def test_a_flood_of_errors_of_the_bus_asks_for_each_address_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _bus(tmp_path)
    calls: list[str | None] = []
    honest = kernel_log._accelerators_at
    monkeypatch.setattr(kernel_log, "_accelerators_at", lambda address, root: calls.append(address) or honest(address, root))  # type: ignore[func-returns-value]
    lines = [("pcieport 0000:16:00.0: AER: Corrected error received: 0000:17:00.0", 5.0)] * 5000
    assert len(list(kernel_log.assigned(kernel_log.events(lines), tmp_path))) == 5000
    assert calls == ["0000:17:00.0"]
