"""The stack `ascend` with a fake torch_npu: who each device is, its counters and sensors, and its whole reading."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from readiness.accelerators.ascend import Ascend
from readiness.accelerators.base import Accelerator
from readiness.accelerators.readers import gather
from readiness.datamodel import AcceleratorFacts, Status
from tests.process.accelerators.readers.support import actions, fake_dcmi, fake_tool, needs_compiler, use
from tests.process.accelerators.readers.test_ascend import TABLE
from tests.support import run_check, value, values


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ascend:
    namespace = SimpleNamespace(
        device_count=lambda: 2, get_device_name=lambda _: "Ascend910B3",
        get_device_properties=lambda _: SimpleNamespace(total_memory=60 * 2**30),
    )  # fmt: skip
    monkeypatch.setattr(torch, "npu", namespace, raising=False)
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gather, "PATIENT_LIMIT_S", 100.0)  # on a busy host, too
    defaults = gather.gather.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "detail_limit_s", 100.0)
    made = Ascend(tmp_path / "Ascend")
    monkeypatch.setattr(made, "root", tmp_path)
    return made


@needs_compiler
def test_devices_are_distinguished_and_their_counters_are_read(stack: Ascend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dcmi(tmp_path / "lib", 1)
    use(monkeypatch, libraries=tmp_path / "lib", dcmi="double=2 crc=3")
    first, second = stack.discover()
    assert (first.properties["npu_id"], second.properties["npu_id"]) == (4, 5)
    assert first.properties["pci_address"] == "0000:c1:00.0"
    assert first.serial == "00001000-00001001-00001002-00001003-00001004"
    assert first.counters is not None
    assert (first.counters["hbm_uncorrected_volatile"], first.counters["hccs_crc_errors"]) == (2, 3)
    use(monkeypatch, libraries=tmp_path / "lib", dcmi="double=5 crc=3")
    found = run_check("driver.faults", Accelerator(first, stack))
    assert value(found, "new_faults", kind="uncorrected") == 3
    assert value(found, "standing_faults", kind="uncorrected") == 2
    assert stack.sensors(second) == {"temperature_c": 43.0, "power_w": 91.8, "clock_mhz": 1800.0}


@needs_compiler
def test_the_health_of_one_device(stack: Ascend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dcmi(tmp_path / "lib", 1)
    fake_tool(tmp_path / "bin", "npu-smi", {"info": TABLE.format(health="OK")})
    use(monkeypatch, libraries=tmp_path / "lib", tools=tmp_path / "bin", dcmi="health=2 code=80E18005")
    first, second = stack.discover()
    reading = stack.reading(second)
    assert reading is not None
    assert reading.index == 5
    assert actions(reading) == {"reset-device"}
    found = run_check("driver.health", Accelerator(first, stack))
    assert value(found, "fatal_faults") == 2
    assert value(found, "faults", action="reset-device") == 2
    assert any(row.get("field") == "power_w" and row["source"] for row in found.rows)


def test_the_order_that_the_environment_gives(stack: Ascend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = TABLE.format(health="OK").replace("| 2     910B3", "| 6     910B3").replace("C1:00.0", "C2:00.0")
    rows = other.splitlines()[6:]
    fake_tool(tmp_path / "bin", "npu-smi", {"info": TABLE.format(health="OK") + "\n".join(rows) + "\n"})
    use(monkeypatch, tools=tmp_path / "bin")
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1,0")
    assert [facts.properties["npu_id"] for facts in stack.discover()] == [6, 2]
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "some,thing")
    assert ["npu_id" in facts.properties for facts in stack.discover()] == [False, False]


def test_without_library_and_tool_nothing_is_reported(stack: Ascend) -> None:
    first, _ = stack.discover()
    assert first.counters is None
    assert stack.reading(first) is None
    assert stack.sensors(first) == {}
    assert run_check("driver.health", Accelerator(first, stack)).status is Status.SKIPPED


def test_a_tool_that_hangs_leaves_health_open(stack: Ascend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tool(tmp_path / "bin", "npu-smi", {})
    (tmp_path / "bin/npu-smi").write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(gather, "PATIENT_LIMIT_S", 2.0)
    use(monkeypatch, tools=tmp_path / "bin")
    facts = AcceleratorFacts(id="npu:0", kind="npu", index=0, stack="ascend", vendor="Huawei", model="Ascend910B3")
    found = run_check("driver.health", Accelerator(facts, stack))
    assert found.status is Status.SKIPPED
    assert "within" in (found.reason or "")
    assert values(found, "fatal_faults") == []
