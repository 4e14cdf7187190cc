"""Readers of all other vendors: every recorded output through a fake tool on PATH, and what is wrong in it with its action."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from readiness.accelerators.readers import amd, fault_codes, intel, kernel_log, nvidia
from readiness.accelerators.readers.contract import Report, State
from readiness.accelerators.readers.gather import Gathered
from tests.process.accelerators.readers.support import actions, fake_tool, faults, look, use
from tests.unit.accelerators.samples import needs_recordings, recorded


def single_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str, tool: str, answers: dict[str, str], *, detail: bool = False
) -> Gathered:
    fake_tool(tmp_path / "bin", tool, answers)
    use(monkeypatch, tools=tmp_path / "bin")
    return look(tmp_path, vendor, detail=detail)


@needs_recordings
@pytest.mark.parametrize(
    ("name", "arguments", "count", "model", "health", "total_mib", "errors"),
    [
        ("h100-80gb-hbm3-590.48.01-q-load", "-q", 1, "NVIDIA H100 80GB HBM3", "OK", 81559, 11),
        ("h100-mig-590.48.01-q-idle", "-q", 1, "NVIDIA H100 80GB HBM3", "OK", 81559, 7),
        ("h200-590.48.01-q-idle", "-q", 1, "NVIDIA H200", "OK", 143771, 11),
        ("l40s-595.80-q-load", "-q", 1, "NVIDIA L40S", "OK", 46068, 10),
        ("q-x-a100-sxm4-v12.xml", "-q -x", 1, "NVIDIA A100-SXM4-80GB", "OK", 81920, 4),
        ("q-x-a10g.xml", "-q -x", 1, "NVIDIA A10G", None, 23028, 8),
        ("q-x-tesla-t4.xml", "-q -x", 1, "Tesla T4", None, 15360, 7),
        ("q-x-rtx-3080-v13.xml", "-q -x", 1, "NVIDIA GeForce RTX 3080", "OK", 10240, 2),
    ],
)
def test_nvidia_smi(
    name: str, arguments: str, count: int, model: str, health: str | None, total_mib: int, errors: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = single_reading(tmp_path, monkeypatch, "NVIDIA", "nvidia-smi", {arguments: recorded(f"nvidia-smi-{name}.txt")}).devices
    assert len(found) == count
    (reading,) = found
    assert (reading.value("model"), reading.value("health")) == (model, health)
    assert reading.value("memory_total_bytes") == total_mib << 20
    assert len(reading.value("memory_errors")) == errors
    assert reading.health_is_known
    assert not faults(reading)


@needs_recordings
def test_a_remap_that_waits_for_a_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"-q": recorded("nvidia-smi-q-a100-xid63-remap-pending.txt")}
    (reading,) = single_reading(tmp_path, monkeypatch, "NVIDIA", "nvidia-smi", answers).devices
    assert actions(reading) == {"reset-device"}
    assert reading.value("memory_errors")["remapped_rows_pending"] == 1


@needs_recordings
def test_a_library_of_another_release_than_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from readiness.accelerators.readers import health

    fake_tool(
        tmp_path / "bin", "nvidia-smi", {"*": recorded("nvidia-smi-driver-library-mismatch.txt")}, codes={"*": 18}
    )
    use(monkeypatch, tools=tmp_path / "bin")
    found = look(tmp_path, "NVIDIA")
    assert not found.devices
    assert [finding.action.value for finding in health.of_problems(found.problems)] == ["reboot"]


@needs_recordings
def test_links_and_processes_of_nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "-q": recorded("nvidia-smi-h100-80gb-hbm3-590.48.01-q-load.txt"),
        "nvlink -s": recorded("nvidia-smi-h100-80gb-hbm3-590.48.01-nvlink-s.txt"),
    }
    (reading,) = single_reading(tmp_path, monkeypatch, "NVIDIA", "nvidia-smi", answers, detail=True).devices
    assert reading.value("links")["fabric"] == "Completed, Success"
    assert reading.value("links")["nvlink0"] == "26.562 GB/s"
    assert [one["name"] for one in reading.value("processes")] == ["memhog", "memhog", "./gpu_burn"]


@pytest.mark.parametrize(
    ("xml", "action"),
    [
        ("<gpu_recovery_action>Reboot</gpu_recovery_action>", "reboot"),
        ("<gpu_recovery_action>Drain and Reset</gpu_recovery_action>", "reset-device"),
        ("<gpu_reset_status><reset_required>Yes</reset_required></gpu_reset_status>", "reset-device"),
        ("<remapped_rows><remapped_row_failure>Yes</remapped_row_failure></remapped_rows>", "replace"),
        ("<ecc_errors><unrepairable_memory>Yes</unrepairable_memory></ecc_errors>", "replace"),
        ("<ecc_errors><volatile><dram_uncorrectable>2</dram_uncorrectable></volatile></ecc_errors>", "reset-device"),
        ("<clocks_event_reasons><clocks_event_reason_hw_thermal_slowdown>Active</clocks_event_reason_hw_thermal_slowdown></clocks_event_reasons>", "check-config"),
        ("<fabric><state>Not Started</state></fabric>", "check-config"),
    ],
)
def test_what_nvidia_smi_finds_wrong(xml: str, action: str) -> None:
    text = f'<nvidia_smi_log><gpu id="00000000:01:00.0"><product_name>X</product_name>{xml}</gpu></nvidia_smi_log>'
    (reading,) = nvidia.of_documents(nvidia.parse_xml(text))
    assert actions(reading) == {action}


@needs_recordings
def test_xid_lines_of_the_kernels_log(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kmsg").write_text(recorded("dmesg-nvidia-xid-lines.txt"))
    found = {reading.value("pci_address"): reading for reading in look(tmp_path, "NVIDIA").devices}
    assert actions(found["0000:91:00.0"]) == {"reboot"}  # 79: fallen off the bus
    assert actions(found["0000:10:1c.0"]) == {"reset-device"}  # 63: a row waits for a reset
    assert actions(found["0000:9b:00.0"]) == {"reset-device"}  # 119: the firmware does not answer
    assert actions(found["0000:38:00.0"]) == {"retry"}  # 13 and 43: an application's
    assert actions(found["0009:01:00.0"]) == {"reset-device"}  # 154: drain and reset
    assert actions(found["0000:00:00.0"]) == {"reset-device"}  # 149, fatal
    assert actions(found["0000:04:00.0"]) == {"gather-evidence"}  # 145, not fatal


def test_nothing_fatal_is_left_without_an_action() -> None:
    for number in range(1, 200):
        fault = fault_codes.xid(number)
        assert fault.severity is not fault_codes.Severity.FATAL or fault.action.value != "none"
    for code in fault_codes.catalogue("ascend_fault_codes").rows:
        fault = fault_codes.ascend(code)
        assert fault.severity is not fault_codes.Severity.FATAL or fault.action.value != "none"
        assert fault.known
        if "multi-bit" in fault.text.lower():
            assert fault.action.value in ("reset-device", "replace", "retry"), fault
    assert not fault_codes.ascend("A4025021").known
    assert fault_codes.catalogue("nvidia_xid_catalog").date


@needs_recordings
@pytest.mark.parametrize(
    ("vendor", "tool", "arguments", "name", "count", "expected"),
    [
        ("Cambricon", "cnmon", "", "cnmon-v4.20.11-mlu370-x4", 2, {"model": "MLU370-X4", "firmware": "1.1.6", "power_w": 30.0, "versions": {"cnmon": "4.20.11", "driver": "4.20.11"}}),
        ("Cambricon", "cnmon", "", "cnmon-v5.10.13-mlu370-x8", 2, {"model": "MLU370-X8", "pci_address": "0000:39:00.0", "power_limit_w": 250.0}),
        ("Hygon", "hy-smi", "", "hy-smi-dcu-8cards", 8, {"health": "Normal", "power_w": 259.0, "utilisation_percent": 34.2}),
        ("Hygon", "hy-smi", "", "hy-smi-dcu-k100ai-dtk24.04.1", 4, {"health": "Normal", "power_limit_w": 800.0}),
        ("Hygon", "hy-smi", "", "hy-smi-hcu-decenc-8cards", 8, {"health": "Normal", "temperatures_c": {"chip": 51.0}}),
        ("MetaX", "mx-smi", "-L", "mx-smi-L-2.2.9", 2, {"health": "Available", "pci_address": "0000:08:00.0", "serial": "GPU-e702f06b-bbd6-bc06-5196-90a5554a24ba"}),
        ("Moore Threads", "mthreads-gmi", "", "mthreads-gmi-2.3.2-s5000", 2, {"model": "MTT S5000", "temperatures_c": {"chip": 52.0}, "links": {"pcie": "16 of 16 lanes"}}),
        ("Habana", "hl-smi", "", "hl-smi-1.18.0-gaudi3-hl325", 1, {"model": "HL-325", "memory_errors": {"ecc_uncorrected_volatile": 0}, "memory_total_bytes": 131072 << 20}),
    ],
)  # fmt: skip
def test_tools_as_recorded(
    vendor: str, tool: str, arguments: str, name: str, count: int, expected: dict[str, object], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = single_reading(tmp_path, monkeypatch, vendor, tool, {arguments: recorded(f"{name}.txt")}).devices
    assert len(found) == count
    assert {key: found[0].value(key) for key in expected} == expected
    assert not faults(found[0])


@needs_recordings
@pytest.mark.parametrize(
    ("vendor", "tool", "name", "text"),
    [
        ("Habana", "hl-smi", "hl-smi-1.14tool-1.15driver-gaudi2-MISMATCH", "hl-smi 1.14.0 is older than its driver"),
        ("Iluvatar", "ixsmi", "ixsmi-4.0.0-biv150s", "ixsmi 4.0.0 is older than its driver 4.1.0"),
        ("Hygon", "hy-smi", "hy-smi-dcu-loaded-bogus-power", "8 W of 600 W"),
    ],
)
def test_faulty_recordings(vendor: str, tool: str, name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = single_reading(tmp_path, monkeypatch, vendor, tool, {"*": recorded(f"{name}.txt")}).devices[0]
    assert actions(reading) == {"update-software"}
    assert any(text in finding.text for finding in faults(reading))


def test_a_metax_device_that_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "GPU#0    MXC500      0000:08:00.0   Not Available(MetaX Sysfs File Unaccessible) (UUID: GPU-e7)\n"
    (reading,) = single_reading(tmp_path, monkeypatch, "MetaX", "mx-smi", {"-L": f"mx-smi  version: 2.2.9\n{line}"}).devices
    assert actions(reading) == {"reset-device"}


@needs_recordings
def test_amd_smi_by_its_json_and_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "static --json": recorded("amd-smi-static-MI300A.txt"), "metric --json": recorded("amd-smi-metric-p-json.txt"),
        "process --json": recorded("amd-smi-process-json.txt"),
    }  # fmt: skip
    (reading,) = single_reading(tmp_path, monkeypatch, "AMD", "amd-smi", answers).devices
    assert reading.value("model") == "MI300A"
    assert reading.value("pci_address") == "0000:01:00.0"
    assert reading.value("power_w") == 10.0
    assert reading.value("throttle_reasons") == []
    assert [one["pid"] for one in reading.value("processes")] == [420157, 420315]
    answers["metric --json"] = recorded("amd-smi-metric-ecc-block.txt")
    (reading,) = single_reading(tmp_path, monkeypatch, "AMD", "amd-smi", answers).devices
    assert reading.value("memory_errors")["umc_uncorrected"] == 0
    assert len(reading.value("memory_errors")) == 21
    assert not faults(reading)
    answers["metric --json"] = recorded("amd-smi-metric-throttle.txt").replace("SOCKET_THERMAL_VIOLATION_STATUS: NOT ACTIVE", "SOCKET_THERMAL_VIOLATION_STATUS: ACTIVE")
    (reading,) = single_reading(tmp_path, monkeypatch, "AMD", "amd-smi", answers).devices
    assert reading.value("throttle_reasons") == ["socket thermal"]
    assert actions(reading) == {"check-config"}


@needs_recordings
@pytest.mark.parametrize(
    ("name", "count", "address"), [("mi100_rocm571", 6, "0000:1e:00.0"), ("mi100_rocm602", 4, "0000:83:00.0"), ("rx6700xt_rocm612", 1, "0000:07:00.0")]
)
def test_rocm_smi(name: str, count: int, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = single_reading(tmp_path, monkeypatch, "AMD", "rocm-smi", {"*": recorded(f"rocm-smi-json-{name}.txt")}).devices
    assert len(found) == count
    assert found[0].value("pci_address") == address
    assert found[0].value("memory_total_bytes") > found[0].value("memory_used_bytes") > 0


def amd_device(root: Path, *, umc: str = "ue: 0\nce: 2\n", metrics: bytes = b"", pages: str = "") -> None:
    place = root / "sys/bus/pci/devices/0000:c1:00.0"
    (place / "ras").mkdir(parents=True)
    (place / "hwmon/hwmon3").mkdir(parents=True)
    (root / "sys/module/amdgpu").mkdir(parents=True)
    (root / "drivers/amdgpu").mkdir(parents=True)
    (place / "driver").symlink_to(root / "drivers/amdgpu")
    for name, text in {
        "vendor": "0x1002", "product_name": "Instinct MI300X", "unique_id": "79ccd55167a2124a", "gpu_busy_percent": "7",
        "mem_info_vram_used": "1048576", "mem_info_vram_total": "206141652992", "pp_dpm_sclk": "0: 132Mhz\n1: 2100Mhz *\n",
        "ras/umc_err_count": umc, "ras/gpu_vram_bad_pages": pages, "hwmon/hwmon3/temp2_input": "55000",
        "hwmon/hwmon3/temp2_label": "junction", "hwmon/hwmon3/power1_average": "140000000", "hwmon/hwmon3/power1_cap": "750000000",
    }.items():  # fmt: skip
        (place / name).write_text(text)
    (place / "gpu_metrics").write_bytes(metrics)


def metrics(bits: int) -> bytes:
    """`gpu_metrics` in its layout 1.3, with this throttle status."""
    body = bytearray(120)
    struct.pack_into("<HBB", body, 0, 120, 1, 3)
    struct.pack_into("<Q", body, 112, bits)
    return bytes(body)


def test_amds_files(tmp_path: Path) -> None:
    amd_device(tmp_path, metrics=metrics(1 << 36 | 1))
    (reading,) = look(tmp_path, "AMD").devices
    assert reading.value("model") == "Instinct MI300X"
    assert reading.value("temperatures_c") == {"junction": 55.0}
    assert (reading.value("power_w"), reading.value("power_limit_w")) == (140.0, 750.0)
    assert reading.value("clocks_mhz") == {"gfx": 2100.0}
    assert reading.value("memory_errors") == {"umc_corrected": 2, "umc_uncorrected": 0, "bad_pages_pending": 0, "bad_pages_failure": 0}
    assert reading.value("throttle_reasons") == ["sw power cap", "thermal"]
    assert actions(reading) == {"check-config"}


@pytest.mark.parametrize(
    ("umc", "pages", "action"),
    [("ue: 3\nce: 0\n", "", "reset-device"), ("ue: 0\n", "0x00000001 : 0x00001000 : P\n", "reset-device"), ("ue: 0\n", "0x00000002 : 0x00001000 : F\n", "replace")],
)
def test_amds_error_counts(umc: str, pages: str, action: str, tmp_path: Path) -> None:
    amd_device(tmp_path, umc=umc, pages=pages, metrics=metrics(0))
    assert actions(look(tmp_path, "AMD").devices[0]) == {action}


@pytest.mark.parametrize("data", [b"", b"\x78\x00\x01\x04" + bytes(200), metrics(2**64 - 1), b"\x10\x00\x01\x03"])
def test_metrics_of_another_layout_report_no_throttling(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "gpu_metrics"
    file.write_bytes(data)
    report = Report("sysfs", "AMD", 0)
    amd._record_throttling(report, file)
    assert report.reading().field("throttle_reasons").state is not State.PRESENT


@needs_recordings
def test_intels_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "discovery -j": recorded("xpu-smi-discovery-j.json.txt"), "health -l -d 0": recorded("xpu-smi-health-l.txt"),
        "stats -d 0": recorded("xpu-smi-stats.txt"),
    }  # fmt: skip
    (reading,) = single_reading(tmp_path, monkeypatch, "Intel", "xpu-smi", answers).devices
    assert reading.value("health") == "OK"
    assert reading.value("memory_errors")["memory_uncorrected"] == 0
    assert reading.value("power_w") == 15.0
    assert not faults(reading)
    answers["health -l -d 0"] = answers["health -l -d 0"].replace("Status: Ok", "Status: Critical", 1)
    (reading,) = single_reading(tmp_path, monkeypatch, "Intel", "xpu-smi", answers).devices
    assert actions(reading) == {"reset-device"}


def test_the_tool_of_another_maker_with_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = '{"device_list": [{"device_id": 0, "vendor_name": "Kunlunxin"}]}'
    found = single_reading(tmp_path, monkeypatch, "Intel", "xpu-smi", {"*": document})
    assert (found.devices, found.problems) == ((), {})


def test_intels_survivability_mode_and_throttling(tmp_path: Path) -> None:
    place = tmp_path / "sys/bus/pci/devices/0000:03:00.0"
    (place / "tile0/gt0/freq0/throttle").mkdir(parents=True)
    (tmp_path / "drivers/xe").mkdir(parents=True)
    (tmp_path / "sys/module/xe").mkdir(parents=True)
    (place / "driver").symlink_to(tmp_path / "drivers/xe")
    for name, text in {"vendor": "0x8086", "class": "0x038000", "survivability_mode": "Capability Info: 0x138914: 0x0", "tile0/gt0/freq0/throttle/status": "1", "tile0/gt0/freq0/throttle/reason_thermal": "1"}.items():
        (place / name).write_text(text)
    (reading,) = look(tmp_path, "Intel").devices
    assert reading.value("throttle_reasons") == ["thermal"]
    assert actions(reading) == {"update-software", "check-config"}


@pytest.mark.parametrize(
    ("line", "vendor", "action"),
    [
        ("xe 0000:03:00.0: [drm] CRITICAL: Xe has declared device 0000:03:00.0 as wedged.", "Intel", "reboot"),
        ("amdgpu 0000:c1:00.0: amdgpu: 1 uncorrectable hardware errors detected in umc block", "AMD", "reset-device"),
        ("METAX.B10200.ATU.ERROR atu 0x0 pde_base_addr 0x50016c0000", "MetaX", "gather-evidence"),
        ("habanalabs hl0: Device heartbeat failed! PCI link is healthy", "Habana", "reset-device"),
    ],
)
def test_lines_of_other_drivers(line: str, vendor: str, action: str) -> None:
    (event,) = kernel_log.events([(line, None)])
    assert (event.vendor, event.fault.action.value) == (vendor, action)


@needs_recordings
def test_a_quiet_log_names_no_fault() -> None:
    lines = [(line, None) for name in ("habanalabs-dmesg-gaudi2", "kmsg-peermem") for line in recorded(f"{name}.txt").splitlines()]
    assert list(kernel_log.events(lines)) == []


def test_health_of_intel_that_names_no_state_is_unreadable() -> None:
    report = Report("xpu-smi", "Intel", 0)
    intel.record_health(report, "| Device ID | 0 |\n")
    assert report.reading().field("health").state is State.UNREADABLE


def test_nvml_reports_all_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is faked: what it lacks or refuses costs one field each."""
    import sys

    class RefusingError(Exception):
        pass

    def refuse(*_: object) -> None:
        raise RefusingError("Not Supported")

    fake = SimpleNamespace(
        nvmlInit=lambda: None, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: 1, nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda _: "NVIDIA H200", nvmlDeviceGetUUID=lambda _: b"GPU-1", nvmlDeviceGetVbiosVersion=refuse,
        nvmlDeviceGetPowerUsage=lambda _: 77880, nvmlDeviceGetEnforcedPowerLimit=lambda _: 700000,
        nvmlSystemGetDriverVersion=lambda: "590.48.01", nvmlSystemGetNVMLVersion=lambda: "13.590.48.01",
        nvmlDeviceGetTemperature=lambda *_: 28, NVML_TEMPERATURE_GPU=0, nvmlDeviceGetClockInfo=lambda *_: 345, NVML_CLOCK_SM=1,
        nvmlDeviceGetPciInfo=lambda _: SimpleNamespace(busId=b"00000000:83:00.0"),
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=3), nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=1, total=150754820096),
        nvmlDeviceGetCurrentClocksEventReasons=lambda _: 0x40, nvmlClocksEventReasonHwThermalSlowdown=0x40,
        NVML_MEMORY_ERROR_TYPE_CORRECTED=0, NVML_MEMORY_ERROR_TYPE_UNCORRECTED=1, NVML_VOLATILE_ECC=0, NVML_AGGREGATE_ECC=1,
        nvmlDeviceGetTotalEccErrors=lambda _, kind, span: 0, nvmlDeviceGetEccMode=lambda _: (1, 1), nvmlDeviceGetRemappedRows=lambda _: (0, 0, 1, 0),
        NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS=0, NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR=1,
        nvmlDeviceGetRetiredPages=refuse, nvmlDeviceGetRetiredPagesPendingStatus=refuse, nvmlDeviceGetPcieReplayCounter=lambda _: 2,
        nvmlDeviceGetNvLinkState=refuse, nvmlDeviceGetNvLinkErrorCounter=refuse, nvmlDeviceGetMigMode=lambda _: (0, 0),
        nvmlDeviceGetComputeRunningProcesses=lambda _: [SimpleNamespace(pid=7, usedGpuMemory=5)], NVML_FI_DEV_GET_GPU_RECOVERY_ACTION=230,
        nvmlDeviceGetFieldValues=lambda *_: [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=1))],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    from readiness.accelerators.readers.tool_runner import Context

    (reading,) = nvidia.library(Context())
    assert reading.value("pci_address") == "0000:83:00.0"
    assert reading.value("power_w") == pytest.approx(77.88)
    assert reading.value("throttle_reasons") == ["hw thermal slowdown"]
    assert reading.value("link_errors") == {"pcie_replays": 2}
    assert reading.value("mode") == {"mig": "disabled", "ecc": "enabled"}
    assert reading.field("firmware").reason == "Not Supported"
    assert reading.value("health") == "Reset"
    assert actions(reading) == {"reset-device", "check-config"}
