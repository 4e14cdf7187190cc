"""Readers of Huawei's Ascend: libdcmi through ctypes, every layout of npu-smi, hccn_tool, and logs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from readiness.accelerators.readers import npu_smi
from readiness.accelerators.readers.contract import Report, State
from readiness.accelerators.readers.tool_runner import SourceError
from tests.process.accelerators.readers.support import (
    actions,
    fake_dcmi,
    fake_tool,
    faults,
    look,
    needs_compiler,
    present,
    use,
)
from tests.unit.accelerators.samples import needs_recordings, recorded

OK = "Health Status : OK\nError Code : NA\nError Information : NA\n"
#: In the layout of the 910B, with invented values.
TABLE = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.0                   Version: 24.1.0                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 2     910B3               | {health}            | 90.5        41                0    / 0             |
| 0                         | 0000:C1:00.0  | 7           0    / 0          3318 / 65536         |
+===========================+===============+====================================================+
"""


@needs_compiler
@pytest.mark.parametrize(
    ("versions", "dcmi", "source", "model", "indices"),
    [
        ((1, 2), "refuse=1", "libdcmi (interface 2)", "Ascend950PR", [0, 1]),
        ((2,), "", "libdcmi (interface 2)", "Ascend950PR", [0, 1]),
        ((1,), "", "libdcmi (interface 1)", "Ascend 910B3", [4, 5]),
        ((1, 2), "fail=none", "libdcmi (interface 2)", "Ascend950PR", [0, 1]),
    ],
)
def test_the_newer_interface_is_tried_first(
    versions: tuple[int, ...], dcmi: str, source: str, model: str, indices: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_dcmi(tmp_path / "lib", *versions)
    use(monkeypatch, libraries=tmp_path / "lib", dcmi=dcmi)
    found = look(tmp_path, "Huawei").devices
    assert [reading.index for reading in found] == indices
    fields = present(found)[indices[0]]
    assert found[0].sources == (source,)
    assert fields["model"] == model
    assert fields["health"] == "OK"
    assert fields["fault_codes"] == []
    assert fields["pci_address"] == "0000:c1:00.0"
    assert fields["serial"] == "00001000-00001001-00001002-00001003-00001004"
    assert fields["links"] == {"network": "success"}
    assert fields["link_errors"] == {"hccs_crc_errors": 0, "hccs_retries": 7}
    assert fields["processes"] == [{"pid": 4711, "name": None, "memory_bytes": 30780 << 20}]
    assert fields["utilisation_percent"] == 12
    assert fields["power_w"] in (91.8, 195.7)
    assert not faults(found[0])


@needs_compiler
@pytest.mark.parametrize(
    ("dcmi", "action", "text"),
    [
        ("health=2 code=80E18005", "reset-device", "HBMC parity error"),
        ("code=80E18402", "replace", "reaches 64"),
        ("code=80E18400", "reset-device", "Multi-bit ECC errors carrying HostPID"),
        ("code=80C98009", "retry", "AIC bus access error"),
        ("code=81078603", "check-config", "link status change"),
        ("code=A4025021", "contact-vendor", "no public description"),
        ("health=1", "check-config", "'Warning'"),
        ("health=2", "reset-device", "'Alarm'"),
        ("health=3", "replace", "'Critical'"),
        ("double=3", "reset-device", "hbm uncorrected volatile: 3"),
        ("pending=1", "reset-device", "retired pages pending: 1"),
        ("network=5", "check-config", "link network: fault"),
        ("power=65535", "update-software", "6553.5"),
    ],
)
def test_a_fault_ends_as_its_finding_with_its_action(
    dcmi: str, action: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_dcmi(tmp_path / "lib", 2)
    use(monkeypatch, libraries=tmp_path / "lib", dcmi=dcmi)
    reading = look(tmp_path, "Huawei").devices[0]
    found = faults(reading)
    assert actions(reading) == {action}
    assert any(text in finding.text for finding in found), found


@needs_compiler
def test_what_harms_nobody_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dcmi(tmp_path / "lib", 2)
    use(monkeypatch, libraries=tmp_path / "lib", dcmi="code=8C2FA009 single=4 aggregate=2")
    reading = look(tmp_path, "Huawei").devices[0]
    assert not faults(reading)  # a start-up message, corrected errors, and what was repaired long ago
    assert reading.value("memory_errors")["hbm_corrected_volatile"] == 4


@needs_compiler
@pytest.mark.parametrize(
    ("dcmi", "name", "state"),
    [
        ("fail=health", "health", State.UNREADABLE), ("lack=health", "health", State.ABSENT), ("health=7", "health", State.UNREADABLE),
        ("health=4294967295", "health", State.UNREADABLE), ("fail=codes", "fault_codes", State.UNREADABLE),
        ("count=-4", "fault_codes", State.UNREADABLE), ("ecc=0", "memory_errors", State.ABSENT),
        ("fail=ecc", "memory_errors", State.UNREADABLE), ("lack=hccs", "link_errors", State.ABSENT),
        ("temperature=4000", "temperatures_c", State.UNREADABLE), ("utilisation=250", "utilisation_percent", State.UNREADABLE),
    ],
)  # fmt: skip
def test_what_the_library_refuses_has_a_reason(
    dcmi: str, name: str, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_dcmi(tmp_path / "lib", 2)
    use(monkeypatch, libraries=tmp_path / "lib", dcmi=f"lack=hbm {dcmi}")
    field = look(tmp_path, "Huawei").devices[0].field(name)
    assert field.state is state
    assert field.reason
    assert field.value is None


@needs_compiler
@pytest.mark.parametrize("how", ["hang", "crash"])
def test_a_library_that_blocks_or_dies_costs_itself_only(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dcmi(tmp_path / "lib", 2)
    fake_tool(tmp_path / "bin", "npu-smi", {"info": TABLE.format(health="OK")})
    use(monkeypatch, libraries=tmp_path / "lib", tools=tmp_path / "bin", dcmi=f"{how}=health")
    found = look(tmp_path, "Huawei", limit_s=10.0 if how == "hang" else 100.0)  # the tool answers in time on a busy host, too
    assert [reading.index for reading in found.devices] == [2]
    assert found.devices[0].value("health") == "OK"
    assert ("did not finish within" if how == "hang" else "SIGABRT") in found.devices[0].problems["libdcmi"]


@needs_compiler
def test_two_sources_of_one_device_are_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dcmi(tmp_path / "lib", 1)
    fake_tool(tmp_path / "bin", "npu-smi", {"info": TABLE.format(health="OK")})
    use(monkeypatch, libraries=tmp_path / "lib", tools=tmp_path / "bin", dcmi="lack=power")
    first, second = look(tmp_path, "Huawei").devices
    assert first.sources == ("libdcmi (interface 1)", "npu-smi")
    assert second.sources == ("libdcmi (interface 1)",)
    assert first.field("power_w").source == "npu-smi"
    assert first.value("power_w") == 90.5
    assert second.field("power_w").state is State.ABSENT


@needs_recordings
@pytest.mark.parametrize(
    ("name", "count", "index", "model", "address", "used_mib", "total_mib"),
    [
        ("310P3-22.0.0-oldformat", 1, 0, "Ascend 310P3", "0000:86:00.0", 994, 21534),
        ("910-23.0.rc2-processes", 8, 7, "Ascend xxx", "0000:02:00.0", 30710, 32768),
        ("910-24.1.rc1-abridged", 1, 7, "Ascend xxx", "0000:3d:00.0", 0, 32768),
        ("910B2C-25.5.1", 1, 2, "Ascend 910B2C", "0000:52:00.0", 3406, 65536),
        ("910B3-24.1.rc1.b030-8cards", 8, 7, "Ascend 910B3", "0000:42:00.0", 3315, 65536),
        ("910B4-25.5.2-singlecard", 1, 5, "Ascend 910B4", "0000:41:00.0", 2922, 32768),
        ("910C-A3-24.1.rc3.7-twodie", 16, 15, "Ascend910", "0000:83:00.0", 3188, 65536),
        ("950PR-25.7.rc1-3cards-2alarm", 3, 2, "Ascend950PR", "0000:81:00.0", 5413, 131072),
        ("950PR-25.7.rc1.6-single", 1, 0, "Ascend950PR", "0000:61:00.0", 5239, 131072),
    ],
)
def test_every_recorded_table(
    name: str, count: int, index: int, model: str, address: str, used_mib: int, total_mib: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake_tool(tmp_path / "bin", "npu-smi", {"info": recorded(f"npu-smi-info-{name}.txt")})
    use(monkeypatch, tools=tmp_path / "bin")
    found = look(tmp_path, "Huawei").devices
    assert len(found) == count
    last = found[-1]
    assert (last.index, last.value("model"), last.value("pci_address")) == (index, model, address)
    assert (last.value("memory_used_bytes"), last.value("memory_total_bytes")) == (used_mib << 20, total_mib << 20)
    assert last.value("health") == "OK"
    assert set(last.value("versions")) == {"npu-smi", "driver"}
    assert not faults(last)


@needs_recordings
def test_two_dies_of_a_card_and_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tool(tmp_path / "bin", "npu-smi", {"info": recorded("npu-smi-info-910C-A3-24.1.rc3.7-twodie.txt")})
    use(monkeypatch, tools=tmp_path / "bin")
    found = look(tmp_path, "Huawei").devices
    assert found[0].value("power_w") == 178.9
    assert found[1].field("power_w").state is State.ABSENT
    fake_tool(tmp_path / "bin", "npu-smi", {"info": recorded("npu-smi-info-910-23.0.rc2-processes.txt")})
    assert look(tmp_path, "Huawei").devices[3].value("processes") == [{"pid": 139372, "name": "python", "memory_bytes": 30780 << 20}]


@needs_recordings
def test_alarms_of_a_950pr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tool(tmp_path / "bin", "npu-smi", {"info": recorded("npu-smi-info-950PR-25.7.rc1-3cards-2alarm.txt")})
    use(monkeypatch, tools=tmp_path / "bin")
    sick, other, sound = look(tmp_path, "Huawei").devices
    assert actions(sick) == actions(other) == {"reset-device", "contact-vendor"}  # an alarm, and an eighth of its memory is gone
    assert not faults(sound)
    assert sick.field("fault_codes").state is State.UNREADABLE  # its tool has no answer to that
    assert [process["pid"] for process in sick.value("processes")] == [1530715, 1655234]


@needs_recordings
def test_the_faulty_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = recorded("npu-smi-bundle-910A-FAULTY-npu_info_after.txt")
    health = text[text.index("\tHealth Status") : text.index("cat /usr/local")]
    links = text[text.index("[devid 0]current") : text.index("lspci")]
    fake_tool(
        tmp_path / "bin", "npu-smi",
        {"info -t health -i 0 -c 0": health, "info": "Invalid card id.\nError parameter of -i\n"}, codes={"info": 1},
    )  # fmt: skip
    fake_tool(tmp_path / "bin", "hccn_tool", {"-i 0 -link_stat -g": links, "-i 0 -stat -g": text[text.index("packet") : text.index("roce_tx")]})
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/davinci0").touch()
    use(monkeypatch, tools=tmp_path / "bin")
    (reading,) = look(tmp_path, "Huawei", detail=True).devices
    assert reading.value("health") == "Alarm"
    assert [code["code"] for code in reading.value("fault_codes")] == ["A4025021", "8C03A000", "8C084E00"]
    assert reading.value("links") == {"roce": "down"}
    found = {finding.action.value: finding.text for finding in reversed(faults(reading))}
    assert found.keys() == {"reset-device", "contact-vendor", "check-config"}
    assert any("ProcMgr heartbeat error" in finding.text for finding in faults(reading))
    assert all(not finding.known for finding in faults(reading) if "A4025021" in finding.text)


@needs_recordings
def test_the_details_of_a_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = recorded("npu-smi-t-board-memory-common-950PR.txt")
    fake_tool(tmp_path / "bin", "npu-smi", {
        "info": recorded("npu-smi-info-950PR-25.7.rc1.6-single.txt"), "info -t board -i 0": board, "info -t common -i 0": board,
        "info -t memory -i 0": board, "info -t health -i 0": recorded("npu-smi-t-health.txt"), "info -t ecc -i 0": recorded("npu-smi-t-ecc.txt"),
    })  # fmt: skip
    use(monkeypatch, tools=tmp_path / "bin")
    (reading,) = look(tmp_path, "Huawei", detail=True, pci_address="0000:61:00.0").devices
    assert reading.value("firmware") == "9.0.0.105.229"
    assert reading.value("serial") == "00000000000000"
    assert reading.value("clocks_mhz") == {"aicore": 1650.0, "hbm": 3200.0}
    assert reading.value("temperatures_c") == {"chip": 56.0, "hbm": 51.0}
    assert reading.value("fault_codes") == []
    assert reading.value("memory_errors")["hbm_uncorrected_volatile"] == 0
    assert reading.value("mode") == {"compatibility": "OK"}
    assert not faults(reading)


def test_driver_and_firmware_that_do_not_fit() -> None:
    report = Report("npu-smi", "Huawei", 0)
    npu_smi.record_board(report, "Software Version : 25.0\nCompatibility : NOT OK\n")
    assert actions(report.reading()) == {"update-software"}


@pytest.mark.parametrize(
    "text",
    [
        "", "no table", "\x00\x01\xff", "npu-smi: 命令未找到", TABLE[: TABLE.index("| 0     ")], TABLE[: TABLE.index("3318")],
        TABLE[: TABLE.index("| 2  ")],
    ],
)  # fmt: skip
def test_an_invalid_or_truncated_table_reports_nothing(text: str) -> None:
    with pytest.raises(SourceError):
        npu_smi.parse_table(text.format(health="OK"))


@pytest.mark.parametrize("text", ["", "健康状态 : 正常\n", "Health Status : \n", "\ufffd\ufffd", "Health Status : NA\n"])
def test_an_answer_about_health_that_cannot_be_read_is_not_healthy(text: str) -> None:
    report = Report("npu-smi", "Huawei", 0)
    npu_smi.record_health(report, text)
    reading = report.reading()
    assert reading.field("health").state is not State.PRESENT
    assert not reading.health_is_known


def test_a_word_that_nobody_knows_is_neither_healthy_nor_silent() -> None:
    report = Report("npu-smi", "Huawei", 0)
    npu_smi.record_health(report, "Health Status : Gut\nError Code : NA\n")
    assert actions(report.reading()) == {"contact-vendor"}


def test_logs_of_the_last_hour(tmp_path: Path) -> None:
    now = time.strftime("%Y-%m-%d-%H:%M:%S")
    folder = tmp_path / "usr/slog/dev-os-3/run/event"
    folder.mkdir(parents=True)
    (folder / "event_1.log").write_text(
        f"[EVENT] KERNEL(1,sklogd):{now}.058.971 [klogd.c:242][583733.716915] event_id=0x80c78008\n"
        "[EVENT] KERNEL(1,sklogd):2021-10-07-14:39:23.058.971 [klogd.c:242][583733.716915] event_id=0x80fa4e00\n"
    )
    (folder / "old.log").write_text("event_id=0x80e18005\n")
    os.utime(folder / "old.log", (0, 0))
    (reading,) = look(tmp_path, "Huawei").devices
    assert (reading.index, reading.sources) == (3, ("Ascend logs",))
    assert [code["code"] for code in reading.value("fault_codes")] == ["80C78008"]
    assert actions(reading) == {"reset-device"}


def test_the_kernels_log(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text("10000.00 4000.0\n")
    (tmp_path / "dev/kmsg").write_text(
        "3,1,9990000000,-;[ascend] [ERROR] [drv_soft_fault] [heart_beat_judge 318] <kworker> Heartbeat lost! (device=1; old_count=2)\n"
        "3,2,1000000,-;[ascend] [ERROR] dev_id=2, event_id=0x80c78008\n"
    )
    lost, history = look(tmp_path, "Huawei").devices
    assert (lost.index, actions(lost)) == (1, {"reset-device"})
    assert (history.index, actions(history)) == (2, set())  # hours ago: who knows what was done about it
    assert len(history.value("fault_codes")) == 1
