"""The version files of an Ascend installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from readiness.accelerators import ascend_install
from readiness.accelerators.ascend import Ascend
from readiness.accelerators.ascend_install import AscendFiles
from tests.support.paths import RESOURCES
from tests.unit.accelerators.samples import needs_recordings, recorded


def test_an_installation_that_fits() -> None:
    files = ascend_install.read(RESOURCES / "ascend/fitting")
    assert files.software() == {"driver": "31.4.rc2", "firmware": "9.4.2.11.300", "cann": "8.5.0"}
    # The driver does not know this CANN, which came later; but this CANN knows the driver.
    assert files.compatibility() == {"driver_and_firmware": True, "driver_and_cann": True}


def test_an_installation_that_does_not_fit() -> None:
    files = ascend_install.read(RESOURCES / "ascend/misfit")
    assert files.software()["cann"] == "8.2.RC1"
    assert files.compatibility() == {"driver_and_firmware": False, "driver_and_cann": False}


def test_the_cann_in_use_is_the_one_that_the_environment_names() -> None:
    fitting, misfit = RESOURCES / "ascend/fitting", RESOURCES / "ascend/misfit"
    assert ascend_install.read(misfit, str(fitting / "cann")).software()["cann"] == "8.5.0"
    assert ascend_install.read(fitting, str(misfit / "ascend-toolkit/latest")).software()["cann"] == "8.2.RC1"
    arch = str(misfit / "ascend-toolkit/latest/x86_64-linux")
    assert ascend_install.read(fitting, arch).software()["cann"] == "8.2.RC1"
    assert ascend_install.read(fitting, "/nowhere").software()["cann"] is None, "another one tells nothing"


def test_the_environment_gives_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Ascend(RESOURCES / "ascend/misfit")
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert stack._files().software()["cann"] == "8.2.RC1"
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(RESOURCES / "ascend/fitting/cann"))
    assert stack._files().software()["cann"] == "8.5.0"
    monkeypatch.setenv("ASCEND_HOME_PATH", "/nowhere")
    assert stack._files().software()["cann"] is None


def test_nothing_installed_gives_no_versions(tmp_path: Path) -> None:
    files = ascend_install.read(tmp_path)
    assert files.software() == {"driver": None, "firmware": None, "cann": None}
    assert files.compatibility() == {"driver_and_firmware": None, "driver_and_cann": None}


@needs_recordings
def test_recorded_files() -> None:
    driver = ascend_install.parse(recorded("ascend-driver-version.info-24.1.rc1.txt"))
    older = ascend_install.parse(recorded("ascend_toolkit_install.info-8.2.RC1.txt"))
    newer = ascend_install.parse(recorded("ascend-toolkit_install.info-8.5.0.txt"))
    assert (driver["version"], older["version"], newer["version"]) == ("24.1.rc1", "8.2.RC1", "8.5.0")
    assert AscendFiles(driver=driver, cann=newer).compatibility()["driver_and_cann"] is True
    assert AscendFiles(driver=driver, firmware={"version": "7.3.0.1"}).compatibility()["driver_and_firmware"] is False
    assert AscendFiles(driver=driver, firmware={"version": "7.2.0.1"}).compatibility()["driver_and_firmware"] is True
