"""The version files of an Ascend installation."""

from __future__ import annotations

from pathlib import Path

from readiness.accelerators import ascend_files
from readiness.accelerators.ascend_files import AscendFiles
from tests.accelerators.samples import FIXTURES, needs_recordings, recorded


def test_an_installation_that_fits() -> None:
    files = ascend_files.read(FIXTURES / "ascend/fitting")
    assert files.software() == {"driver": "31.4.rc2", "firmware": "9.4.2.11.300", "cann": "8.5.0"}
    # The driver does not know this CANN, which came later; but this CANN knows the driver.
    assert files.compatibility() == {"driver_and_firmware": True, "driver_and_cann": True}


def test_an_installation_that_does_not_fit() -> None:
    files = ascend_files.read(FIXTURES / "ascend/misfit")
    assert files.software()["cann"] == "8.2.RC1"
    assert files.compatibility() == {"driver_and_firmware": False, "driver_and_cann": False}


def test_nothing_installed_tells_nothing(tmp_path: Path) -> None:
    files = ascend_files.read(tmp_path)
    assert files.software() == {"driver": None, "firmware": None, "cann": None}
    assert files.compatibility() == {"driver_and_firmware": None, "driver_and_cann": None}


@needs_recordings
def test_recorded_files() -> None:
    driver = ascend_files.parse(recorded("ascend-driver-version.info-24.1.rc1.txt"))
    older = ascend_files.parse(recorded("ascend_toolkit_install.info-8.2.RC1.txt"))
    newer = ascend_files.parse(recorded("ascend-toolkit_install.info-8.5.0.txt"))
    assert (driver["version"], older["version"], newer["version"]) == ("24.1.rc1", "8.2.RC1", "8.5.0")
    assert AscendFiles(driver=driver, cann=newer).compatibility()["driver_and_cann"] is True
    assert AscendFiles(driver=driver, firmware={"version": "7.3.0.1"}).compatibility()["driver_and_firmware"] is False
    assert AscendFiles(driver=driver, firmware={"version": "7.2.0.1"}).compatibility()["driver_and_firmware"] is True
