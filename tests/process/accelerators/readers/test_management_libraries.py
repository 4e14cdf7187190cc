"""MTML and HLML: read through fake packages that stand where the real ones would, in the reader's own process."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from pathlib import Path

import pytest

from readiness.accelerators.readers import management_libraries
from readiness.accelerators.readers.contract import State
from readiness.accelerators.readers.gather import Gathered
from tests.process.accelerators.readers.support import actions, faults, look

#: What the packages have that is used here, with two devices of Moore Threads and one of Gaudi.
MTML = '''
from contextlib import contextmanager
from types import SimpleNamespace as Thing
MTML_MEMORY_ERROR_TYPE_CORRECTED, MTML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
MTML_VOLATILE_ECC, MTML_AGGREGATE_ECC, MTML_MEMORY_LOCATION_DRAM = 0, 1, 1
MTML_MTLINK_STATE_DOWN, MTML_MTLINK_STATE_UP, MTML_MTLINK_STATE_DOWNGRADE = 0, 1, 2
class MTMLError(Exception):
    pass
def refuse(*_):
    raise MTMLError("Not Supported")
def broken(*_):
    raise MTMLError("Unknown Error")
mtmlLibraryInit = mtmlLibraryShutDown = lambda: None
mtmlLibraryCountDevice = lambda: 2
mtmlLibraryInitSystem = lambda: "system"
mtmlSystemGetDriverVersion = lambda system: "3.3.2-server"
mtmlLibraryGetVersion = lambda: "2.4.0"
mtmlLibraryInitDeviceByIndex = lambda index: index
mtmlDeviceGetName = lambda device: b"MTT S5000"
mtmlDeviceGetUUID = lambda device: f"uuid-{device}"
mtmlDeviceGetMtBiosVersion = lambda device: "3.4.3"
mtmlDeviceGetPciInfo = lambda device: Thing(sbdf=f"00000000:{device + 5:02x}:00.0".encode())
mtmlDeviceGetPowerUsage = lambda device: 245500
@contextmanager
def mtmlGpuContext(device):
    yield device
mtmlMemoryContext = mtmlGpuContext
mtmlGpuGetTemperature = lambda gpu: 51
mtmlGpuGetUtilization = lambda gpu: 99
mtmlGpuGetClock = lambda gpu: 1750
mtmlMemoryGetUsed = lambda memory: 3 << 30
mtmlMemoryGetTotal = lambda memory: 80 << 30
mtmlMemoryGetClock = lambda memory: 1600
mtmlMemoryGetEccMode = lambda memory: (1, 1)
mtmlMemoryGetEccErrorCounter = lambda memory, kind, span, place: 2 * memory if kind == 1 and span == 0 else 0
mtmlMemoryGetRetiredPagesCount = lambda memory: Thing(sbeCount=1, dbeCount=0)
mtmlMemoryGetRetiredPagesPendingStatus = lambda memory: memory
mtmlDeviceGetMtLinkSpec = lambda device: Thing(linkNum=3)
mtmlDeviceGetMtLinkState = lambda device, link: 1 if not device else link
'''
HLML = '''
import warnings
warnings.warn("its own parts are deprecated", DeprecationWarning)
from types import SimpleNamespace as Thing
class HLMLError(Exception):
    pass
def refuse(*_):
    raise HLMLError("HLML Error with code 3")
def broken(*_):
    raise HLMLError("HLML Error with code 15")
print("words on standard output")
hlmlInit = hlmlShutdown = lambda: None
hlmlDeviceGetCount = lambda: 1
hlmlGetDriverVersion = lambda: b"1.22.0-740"
hlmlGetNicDriverVersion = lambda: b"1.22.0-740"
hlmlGetHLMLVersion = lambda: b"1.22.0"
hlmlDeviceGetHandleByIndex = lambda index: index
hlmlDeviceGetName = lambda device: b"HL-325L"
hlmlDeviceGetSerial = lambda device: b"AN12345678"
hlmlDeviceGetFirmwareSPIVersion = lambda device: b"hl-gaudi3-1.22.0-fw-61.0.2"
hlmlDeviceGetPCIInfo = lambda device: Thing(bus_id=b"0000:19:00.0")
hlmlDeviceGetPowerUsage = lambda device: 231000
hlmlDeviceGetTemperature = lambda device, sensor: 30 + sensor
hlmlDeviceGetClockInfo = lambda device, kind: 1600
hlmlDeviceGetUtilizationRates = lambda device: Thing(aip=7)
hlmlDeviceGetMemoryInfo = lambda device: Thing(used=1 << 30, total=128 << 30)
hlmlDeviceGetCurrentClocksThrottleReasons = lambda device: 2
hlmlDeviceGetTotalECCErrors = lambda device, kind, span: 0
hlmlDeviceGetReplacedRowsCount = lambda device, cause: 4
hlmlDeviceGetReplacedRowsPendingStatus = lambda device: 1
hlmlDeviceGetOperationStatus = lambda device: b"operational"
hlmlDeviceGetPCIEReplayCounter = lambda device: 3
hlmlDeviceGetMacAddrInfo = lambda device: ((0b101, 0), (0, 0))
hlmlDeviceNicGetLink = lambda device, port: port == 0
'''


def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str, vendor: str, *, limit_s: float = 20.0) -> Gathered:
    """What is read through a package that is this text."""
    (tmp_path / "packages").mkdir(exist_ok=True)
    (tmp_path / f"packages/{module}.py").write_text(text)
    for node in ("mtgpu.0", "hl0"):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / node).touch()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(management_libraries, "_is_installed", lambda _: True)
    return look(tmp_path, vendor, limit_s=limit_s)


def test_moore_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    well, ill = read(tmp_path, monkeypatch, "pymtml", MTML, "Moore Threads").devices
    assert (well.sources, well.index, ill.index) == (("MTML",), 0, 1)
    assert (well.value("model"), well.value("pci_address"), well.value("power_w")) == ("MTT S5000", "0000:05:00.0", 245.5)
    assert (well.value("memory_used_bytes"), well.value("memory_total_bytes")) == (3 << 30, 80 << 30)
    assert well.value("clocks_mhz") == {"gpu": 1750, "memory": 1600}
    assert well.value("versions") == {"driver": "3.3.2-server", "mtml": "2.4.0"}
    assert well.value("links") == {"mtlink0": "up", "mtlink1": "up", "mtlink2": "up"}
    assert well.value("memory_errors")["retired_pages_single_bit"] == 1
    assert well.health_is_known
    assert not faults(well)
    assert ill.value("links") == {"mtlink0": "down", "mtlink1": "up", "mtlink2": "degraded"}
    assert actions(ill) == {"check-config", "reset-device"}  # links, and errors that were not corrected


def test_gaudi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (reading,) = read(tmp_path, monkeypatch, "pyhlml", HLML, "Habana").devices
    assert (reading.value("model"), reading.value("serial"), reading.value("pci_address")) == ("HL-325L", "AN12345678", "0000:19:00.0")
    assert reading.value("temperatures_c") == {"chip": 30, "board": 31, "hbm": 33}
    assert reading.value("memory_errors")["replaced_rows_pending"] == 1
    assert reading.value("throttle_reasons") == ["thermal"]
    assert reading.value("links") == {"nic0": "up", "nic2": "down"}
    assert reading.value("health") == "operational"
    assert actions(reading) == {"check-config", "reset-device"}  # heat and a port that is down; a repair that waits
    assert reading.value("link_errors") == {"pcie_replays": 3}


@pytest.mark.parametrize(
    ("module", "text", "vendor", "function", "field"),
    [
        ("pymtml", MTML, "Moore Threads", "mtmlDeviceGetPowerUsage", "power_w"),
        ("pymtml", MTML, "Moore Threads", "mtmlMemoryGetEccErrorCounter", "memory_errors"),
        ("pyhlml", HLML, "Habana", "hlmlDeviceGetPowerUsage", "power_w"),
        ("pyhlml", HLML, "Habana", "hlmlDeviceGetOperationStatus", "health"),
    ],
)
@pytest.mark.parametrize(("how", "state"), [("refuse", State.ABSENT), ("broken", State.UNREADABLE)])
def test_what_is_refused_costs_one_field(
    module: str, text: str, vendor: str, function: str, field: str, how: str, state: State, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = read(tmp_path, monkeypatch, module, f"{text}{function} = {how}\n", vendor).devices[0]
    assert found.field(field).state is state
    assert found.field(field).reason
    assert found.value("model")


@pytest.mark.parametrize(("module", "vendor", "source"), [("pymtml", "Moore Threads", "MTML"), ("pyhlml", "Habana", "HLML")])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise OSError('libmtml.so.2: cannot open shared object file')", "cannot open shared object file"),
        ("import time; time.sleep(600)", "within"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("print('x' * 104857600); raise RuntimeError(1)", "printed more than 32 MiB"),
        ("", "has no attribute"),
        ("hlmlInit = mtmlLibraryInit = lambda: None\nhlmlDeviceGetCount = mtmlLibraryCountDevice = lambda: -1", ""),
        ("raise RuntimeError('\\u9519\\u8bef Ger\\u00e4t')", "Gerät"),
    ],
    ids=["missing", "hangs", "crashes", "floods", "empty", "nonsense", "mixed-language"],
)
def test_a_library_that_misbehaves_is_unknown_with_the_reason(
    module: str, vendor: str, source: str, body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read(tmp_path, monkeypatch, module, body, vendor, limit_s=6.0 if "sleep" in body else 30.0)
    assert found.devices == ()
    assert words in found.problems.get(source, "" if not words else "nothing was said")


def test_without_the_package_or_without_a_device_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/mtgpu.0").touch()
    assert not management_libraries.has_mtml(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert management_libraries.has_mtml(tmp_path)
    assert not management_libraries.has_hlml(tmp_path)


@pytest.mark.parametrize(("module", "fake"), [("pymtml", MTML), ("pyhlml", HLML)])
def test_the_fakes_have_no_function_that_the_package_lacks(module: str, fake: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip(module)
    used = set(re.findall(r"\blibrary(?:\.|, \")(\w+)", Path(management_libraries.__file__).read_text()))
    own = {name for name in used if name.lower().startswith({"pymtml": "mtml", "pyhlml": "hlml"}[module])}
    assert len(own) > 15
    assert {name for name in own if not hasattr(package, name)} == set()
    assert {name for name in own if name not in fake} == set()
