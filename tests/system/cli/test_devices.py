"""`readiness devices`: health at a glance, all fields, JSON; with tools that are faulty, hang, or are not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from readiness import accelerators
from readiness.engine import discovery
from readiness.errors import Exit
from tests.process.accelerators.readers.support import fake_tool, write_program
from tests.process.accelerators.readers.test_ascend import TABLE
from tests.process.accelerators.readers.test_exporters import TEXTS
from tests.support.command_line import CODE, readiness

#: With time for each source on a busy host, too.
PATIENT = f"from readiness.accelerators.readers import gather; gather.gather.__kwdefaults__['glance_limit_s'] = 60.0; {CODE}"


def path_with(folder: Path) -> str:
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_health_at_a_glance(tmp_path: Path) -> None:
    fake_tool(tmp_path / "bin", "npu-smi", {
        "info": TABLE.format(health="Alarm")[:-1].replace("Alarm            |", "Alarm         |") + "\n",
        "info -t health -i 2 -c 0": "Health Status : Alarm\nError Code : 80E18005\n",
    })  # fmt: skip
    done = readiness("devices", state=tmp_path, code=PATIENT, PATH=path_with(tmp_path / "bin"))
    assert done.returncode == Exit.READY, done.stderr
    assert "Huawei 2  Ascend 910B3  fault" in done.stdout
    assert "HBMC parity error (HBMC, 80E18005) (fatal; reset-device; npu-smi)" in done.stdout
    full = readiness("devices", "-v", state=tmp_path, code=PATIENT, PATH=path_with(tmp_path / "bin")).stdout
    assert "link_errors" in full
    assert "absent: npu-smi does not report it" in full


def test_health_as_json(tmp_path: Path) -> None:
    fake_tool(tmp_path / "bin", "npu-smi", {"info": TABLE.format(health="OK")})
    document = json.loads(readiness("devices", "-f", "json", state=tmp_path, code=PATIENT, PATH=path_with(tmp_path / "bin")).stdout)
    (device,) = document["health"]["devices"]
    assert (device["device"], device["state"], device["faults"]) == ("Huawei 2", "ok", [])
    assert device["fields"]["health"] == {"state": "present", "source": "npu-smi", "value": "OK"}
    assert device["fields"]["serial"]["state"] == "absent"
    assert [item["id"] for item in document["accelerators"]] == ["cpu:0"]


def test_a_tool_that_hangs_is_named_and_waited_for_shortly(tmp_path: Path) -> None:
    write_program(tmp_path / "bin/npu-smi", "#!/bin/sh\nexec sleep 600")
    done = readiness("devices", state=tmp_path, PATH=path_with(tmp_path / "bin"))
    assert done.returncode == Exit.READY, done.stderr
    assert "npu-smi could not be read: " in done.stdout
    assert "cpu:0" in done.stdout  # and it has ended, long before the tool


def test_torch_is_not_imported_where_no_stack_needs_it(tmp_path: Path) -> None:
    code = (
        "import sys; from readiness import accelerators; accelerators.NAMES = ('cpu',); from readiness.__main__ import main\n"
        "try:\n    main()\nfinally:\n    print([name for name in ('torch', 'multiprocessing.forkserver') if name in sys.modules])"
    )
    done = readiness("devices", state=tmp_path, code=code)
    assert "cpu:0" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_known_devices_are_listed_without_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "NAMES", ("cpu",))
    found = discovery.at_hand()
    assert found is not None
    assert [facts.id for facts in found.accelerators] == ["cpu:0"]
    monkeypatch.setattr(accelerators, "NAMES", ("xpu", "cpu"))
    monkeypatch.setattr(accelerators.stack("xpu"), "absence", lambda: None)
    assert discovery.at_hand() is None


def test_an_exporter_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text(TEXTS["npu"])
    done = readiness("devices", "--exporter", str(tmp_path / "metrics"), state=tmp_path, code=PATIENT)
    assert "Huawei 3  Ascend910B3  fault    unhealthy" in done.stdout, done.stdout


@pytest.mark.parametrize(("place", "words"), [("/nowhere", "there is no file"), ("http://192.0.2.7/metrics", "is another host")])
@pytest.mark.parametrize("command", ["devices", "run"])
def test_an_exporter_that_cannot_be_meant(place: str, words: str, command: str, tmp_path: Path) -> None:
    done = readiness(command, "--exporter", place, state=tmp_path)
    assert done.returncode == Exit.USAGE, done.stdout
    assert words in done.stderr
