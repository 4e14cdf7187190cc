"""Exporters' text: what each metric means, whom it may come from, and addresses that cannot be meant."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from readiness.accelerators.readers import prometheus
from readiness.errors import UsageError
from tests.process.accelerators.readers.support import actions, look

NPU = 'id="3",model_name="Ascend910B3",vdie_id="1-2-3",pcie_bus_info="0000:C1:00.0",namespace="",pod_name="",container_name=""'
TEXTS = {
    "npu": f"""\
# HELP npu_chip_info_temperature the npu temperature
# TYPE npu_chip_info_temperature gauge
npu_chip_info_temperature{{{NPU}}} 43 1732960000000
npu_chip_info_power{{{NPU}}} 101.5
npu_chip_info_hbm_total_memory{{{NPU}}} 65536
npu_chip_info_hbm_used_memory{{{NPU}}} 3314
npu_chip_info_health_status{{{NPU}}} 0
npu_chip_info_error_code{{{NPU}}} 2162262021
npu_chip_info_error_code_1{{{NPU}}} 0
npu_chip_info_network_status{{{NPU}}} 1
npu_chip_info_hbm_ecc_double_bit_error_cnt{{{NPU}}} 0
npu_chip_info_hccs_statistic_info_crc_err_cnt_3{{{NPU}}} 7
machine_npu_nums 8
""",
    "dcgm": """\
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-u0",pci_bus_id="00000000:08:00.0",modelName="NVIDIA L40S",DCGM_FI_DRIVER_VERSION="595.58.03"} 41
DCGM_FI_DEV_ROW_REMAP_FAILURE{gpu="0",UUID="GPU-u0",pci_bus_id="00000000:08:00.0",modelName="NVIDIA L40S"} 1
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-u0"} 13
DCGM_FI_DEV_XID_ERRORS{gpu="1",UUID="GPU-u1"} 79
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-u1"} NaN
""",
    "amd": """\
gpu_health{gpu_id="0",serial_number="SN0",card_model="MI300X"} 1
amd_gpu_junction_temperature{gpu_id="0",serial_number="SN0"} 61
gpu_ecc_uncorrect_total{gpu_id="0",serial_number="SN0"} 0
gpu_total_vram{gpu_id="0",serial_number="SN0"} 196592
""",
    "all-smi": """\
all_smi_gpu_utilization{gpu="NVIDIA H200 141GB HBM3", instance="node-0058", uuid="GPU-12345", index="0"} 25.5
all_smi_gpu_power_consumption_watts{gpu="NVIDIA H200 141GB HBM3", instance="node-0058", uuid="GPU-12345", index="0"} 400.5
""",
}


@pytest.fixture(autouse=True)
def _none_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(prometheus.VARIABLE, raising=False)


def test_fields_of_npu_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "metrics"
    file.write_text(TEXTS["npu"])
    monkeypatch.setenv(prometheus.VARIABLE, "")  # restored afterwards
    prometheus.use([str(file)], remote=False)
    (reading,) = look(tmp_path, "Huawei").devices
    assert (reading.index, reading.value("model"), reading.value("pci_address")) == (3, "Ascend910B3", "0000:c1:00.0")
    assert reading.value("memory_total_bytes") == 65536 << 20
    assert reading.value("temperatures_c") == {"chip": 43.0}
    assert reading.value("links") == {"network": "success"}
    assert reading.value("link_errors") == {"hccs_crc_3": 7}
    assert [code["code"] for code in reading.value("fault_codes")] == ["80E18005"]
    assert actions(reading) == {"reset-device"}


def test_fields_of_the_other_exporters() -> None:
    remapped, fallen = prometheus.readings(prometheus.parse(TEXTS["dcgm"]))
    assert actions(remapped) == {"replace"}  # and of an application's Xid nobody knows when it was
    assert remapped.value("versions") == {"driver": "595.58.03"}
    assert actions(fallen) == {"reboot"}
    assert fallen.field("power_w").reason == "the exporter says nan"
    (amd,) = prometheus.readings(prometheus.parse(TEXTS["amd"]))
    assert (amd.vendor, amd.value("health"), amd.value("serial")) == ("AMD", "OK", "SN0")
    assert amd.value("memory_total_bytes") == 196592 << 20
    assert not actions(amd)
    (other,) = prometheus.readings(prometheus.parse(TEXTS["all-smi"]))
    assert (other.vendor, other.index, other.value("power_w")) == ("NVIDIA", 0, 400.5)
    assert not other.health_is_known


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.1/metrics")
            self.end_headers()
            return
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(TEXTS["npu"].encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_exporter_of_this_host(served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prometheus.VARIABLE, "")
    prometheus.use([f"{served}/metrics"], remote=False)
    assert [reading.index for reading in look(tmp_path, "Huawei").devices] == [3]


@pytest.mark.parametrize(("path", "words"), [("/none", "answers 404"), ("/away", "answers 302")])
def test_an_exporter_that_has_nothing(path: str, words: str, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prometheus.VARIABLE, f"{served}{path}")
    found = look(tmp_path, "Huawei")
    assert not found.devices
    assert words in found.problems["exporter"]


def test_an_exporter_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prometheus.VARIABLE, "http://127.0.0.1:1/metrics")
    assert "does not answer" in look(tmp_path, "Huawei").problems["exporter"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("http://192.0.2.7:9100/metrics", "is another host"), ("ftp://127.0.0.1/metrics", "is no address"), ("http://", "is no address"),
        ("http://[::1/metrics", "is no address"), ("/nowhere/metrics", "there is no file"), ("", "names no exporter"),
        ("http://no-such-host.invalid/metrics", "cannot be resolved"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(place: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prometheus.VARIABLE, "")
    with pytest.raises(UsageError, match=words):
        prometheus.use([place], remote=False)


def test_another_host_only_by_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prometheus.VARIABLE, "")
    prometheus.use(["http://192.0.2.7:9100/metrics"], remote=True)
