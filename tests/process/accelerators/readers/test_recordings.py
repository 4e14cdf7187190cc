"""Every recorded output is read by the reader of its source, or has a reason here why no reader takes it.

What is right in the recordings in detail stands in the tests of each vendor; here each one is read, judged, and accounted for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from readiness.accelerators import ascend_install, sysfs
from readiness.accelerators.readers import amd, intel, kernel_log, npu_smi, nvidia, other_makers
from readiness.accelerators.readers.contract import Reading, Report
from readiness.accelerators.readers.tool_runner import SourceError
from tests.process.accelerators.readers.support import actions
from tests.unit.accelerators.samples import RECORDED, needs_recordings, recorded

Read = Callable[[str], list[Reading]]


def _each(function: Callable[[str], Any]) -> Read:
    return lambda text: [one if isinstance(one, Reading) else one.reading() for one in function(text)]


def _recorded_by(*functions: Callable[[Report, str], None], vendor: str = "Huawei") -> Read:
    """Answers about one device, each understood by one function."""

    def read(text: str) -> list[Reading]:
        report = Report("tried", vendor, 0)
        for function in functions:
            function(report, text)
        return [report.reading()]

    return read


def _links_of_nvidia(text: str) -> list[Reading]:
    context: Any = SimpleNamespace(tool=lambda *_, **__: text)
    return nvidia.links(context)


def _log(text: str) -> list[Reading]:
    return kernel_log.readings(kernel_log.events((line, None) for line in text.splitlines()), "kernel log")


def _bundle(text: str) -> list[Reading]:
    """What a collector of faults gathered of card 0: its port and its health."""
    report = Report("tried", "Huawei", 0)
    port = text[: text.index("[devid 1]") if "[devid 1]" in text else None]
    npu_smi.record_link(report, port)
    npu_smi.record_network(report, port)
    health = text[text.index("Health Status") :]
    npu_smi.record_health(report, health.partition("\n\n")[0])
    return [report.reading()]


AMD = _each(lambda text: [amd._of_tool(index, document) for index, document in amd._answers(text)])
INTEL = _each(lambda text: [intel._identity(device) for device in intel._devices(text)])
NPU = _each(lambda text: npu_smi.of_table(npu_smi.parse_table(text)))
NVIDIA_TEXT, NVIDIA_XML = (
    _each(lambda text: nvidia.of_documents(nvidia.parse_text(text))), _each(lambda text: nvidia.of_documents(nvidia.parse_xml(text))),
)  # fmt: skip
HYGON, GAUDI, CAMBRICON = _each(other_makers.hygon), _each(other_makers.gaudi), _each(other_makers.cambricon)
ILUVATAR, MOORE_THREADS, METAX = _each(other_makers.iluvatar), _each(other_makers.moore_threads), _each(other_makers.metax)
ROCM = _each(amd.of_rocm_smi)

#: Which recordings are read by what, how many devices are in each, and what is to be done about them together.
READ: tuple[tuple[str, Read, int, str], ...] = (
    ("npu-smi-info-310P3*", NPU, 1, ""), ("npu-smi-info-910-23*", NPU, 8, ""), ("npu-smi-info-910-24*", NPU, 1, ""),
    ("npu-smi-info-910B2C*", NPU, 1, ""), ("npu-smi-info-910B3*", NPU, 8, ""), ("npu-smi-info-910B4*", NPU, 1, ""),
    ("npu-smi-info-910C*", NPU, 16, ""), ("npu-smi-info-950PR*single*", NPU, 1, ""),
    ("npu-smi-info-950PR*3cards*", NPU, 3, "contact-vendor reset-device"),
    ("npu-smi-t-board*", _recorded_by(npu_smi.record_board, npu_smi.record_common), 1, ""),
    ("npu-smi-t-ecc.txt", _recorded_by(npu_smi.record_ecc), 1, ""), ("npu-smi-t-health.txt", _recorded_by(npu_smi.record_health), 1, ""),
    ("npu-smi-bundle-910A-FAULTY*", _bundle, 1, "check-config contact-vendor reset-device"),
    ("npu-smi-bundle-910A-npu_info_before*", _bundle, 1, "check-config"),  # its port reaches nobody: Socket failed
    ("hccn_tool-link_stat-ok*", _recorded_by(npu_smi.record_link), 1, ""),
    ("nvidia-smi-h100-80gb*-q-*", NVIDIA_TEXT, 1, ""), ("nvidia-smi-h100-mig*-q-*", NVIDIA_TEXT, 1, ""),
    ("nvidia-smi-h200*-q-*", NVIDIA_TEXT, 1, ""), ("nvidia-smi-l40s*-q-*", NVIDIA_TEXT, 1, ""),
    ("nvidia-smi-q-a100-xid63*", NVIDIA_TEXT, 1, "reset-device"), ("nvidia-smi-q-x-*", NVIDIA_XML, 1, ""),
    ("nvidia-smi-h100*-nvlink-s*", _links_of_nvidia, 1, ""), ("nvidia-smi-h200*-nvlink-s*", _links_of_nvidia, 1, ""),
    ("nvidia-smi-nvlink-status-a100*", _links_of_nvidia, 8, ""), ("nvidia-smi-nvlink-status-a10-none*", _links_of_nvidia, 0, ""),
    ("dmesg-nvidia-xid-lines*", _log, 8, "gather-evidence reboot reset-device retry"), ("dmesg-xid-119-full*", _log, 1, "reset-device"),
    ("habanalabs-dmesg*", _log, 0, ""), ("kmsg-peermem*", _log, 0, ""),
    ("amd-smi-list*", AMD, 2, ""), ("amd-smi-static-*", AMD, 1, ""), ("amd-smi-metric-*", AMD, 1, ""), ("amd-smi-process-*", AMD, 1, ""),
    ("rocm-smi-json-mi100_rocm571*", ROCM, 6, ""), ("rocm-smi-json-mi100_rocm602*", ROCM, 4, ""),
    ("rocm-smi-json-rx6700xt*", ROCM, 1, ""),
    ("xpu-smi-discovery-j*", INTEL, 1, ""), ("xpu-smi-health-l*", _recorded_by(intel.record_health, vendor="Intel"), 1, ""),
    ("xpu-smi-stats*", _recorded_by(intel.record_stats, vendor="Intel"), 1, ""),
    ("cnmon-*", CAMBRICON, 2, ""), ("hy-smi-dcu-8cards*", HYGON, 8, ""), ("hy-smi-dcu-k100ai*", HYGON, 4, ""),
    ("hy-smi-dcu-loaded*", HYGON, 8, "update-software"), ("hy-smi-hcu*", HYGON, 8, ""),
    ("ixsmi-4*", ILUVATAR, 1, "update-software"), ("mthreads-gmi*", MOORE_THREADS, 2, ""),
    ("mx-smi-L*", METAX, 2, ""), ("mx-smi-temperature*", METAX, 2, ""),
    ("hl-smi-1.14*", GAUDI, 1, "update-software"), ("hl-smi-1.18*", GAUDI, 1, ""),
)  # fmt: skip

#: What lists no device, though its reader takes such outputs: refused with these words, and nothing is known then.
REFUSED: tuple[tuple[str, Read, str], ...] = (
    ("mx-smi-header*", lambda text: _none(other_makers.metax(text)), "no device"),  # an excerpt without its rows
    ("hl-smi-1.20*", GAUDI, "lists no device"),  # likewise
    ("ixsmi-q-*", ILUVATAR, "lists no device"),  # fields that somebody listed by hand
    ("amd-smi-topology-json*", lambda text: _none([one for one in AMD(text) if one.share_present]), "no device"),
    ("nvidia-smi-l40s*-nvlink-s*", lambda text: _none([one for one in _links_of_nvidia(text) if one.share_present]), "no device"),
    ("nvidia-smi-driver-library-mismatch*", NVIDIA_TEXT, "no device"),  # its exit code and words are the finding
)  # fmt: skip


def _none(found: list[Any]) -> list[Any]:
    if not found:
        raise SourceError("no device is in it")
    return found


_SAME = "for people; the same facts are read from nvidia-smi -q -x, whose fields have names"
#: What no reader takes, and why.
UNREAD: dict[str, str] = {
    "nvidia-smi-*-table-*": _SAME, "nvidia-smi-*-query-gpu-csv-*": _SAME, "nvidia-smi-*-query-retired-pages*": _SAME,
    "nvidia-smi-*-L.txt": _SAME, "nvidia-smi-*-version.txt": _SAME,
    "nvidia-smi-*-topo-m.txt": "how devices are connected is read from sysfs; the state of the links from nvidia-smi nvlink -s",
    "npu-smi-t-topo*": "how devices are connected says nothing about their health",
    "npu-smi-info-m-*": "the table of npu-smi info has the same numbers",
    "npu-smi-t-usages*": "the table of npu-smi info has memory and load in one call for all devices",
    "amd-smi-version*": "amd-smi's JSON has no version in it; the driver's is read from sysfs",
    "amd-smi-xgmi*": "amounts of traffic between devices; errors of XGMI are read from sysfs",
    "rocm-info-version*": "the version of ROCm that counts is the one that torch was built for",
    "xpu-smi-discovery-d*": "xpu-smi discovery -j has the same in JSON", "xpu-smi-discovery.txt": "likewise",
    "xpu-smi-dump-csv*": "xpu-smi stats has the same and more", "xpu-smi-topology*": "how devices are connected says nothing about health",
    "xpu-smi-diag*": "a test that takes minutes and stops the device's work, not a reading",
    "dcgmi-diag*": "a test that takes minutes, not a reading; a pending remap and heat are read from NVML",
    "fabricmanager.log*": "the state of the fabric is read from NVML; this log names no fault by a code",
    "sysfs-infiniband*": "network cards are not accelerators",
}  # fmt: skip
#: Files of an installation, which the stack of Ascend or sysfs read; see below.
FILES = ("ascend-*version*", "ascend*toolkit_install*", "cann-platform_config*", "proc-driver-nvidia-version*")


def _names() -> list[str]:
    return sorted(file.name for file in RECORDED.glob("*.txt"))


def _places(name: str) -> Iterator[str]:
    for where, patterns in (("read", [row[0] for row in READ]), ("refused", [row[0] for row in REFUSED]), ("unread", list(UNREAD)), ("files", FILES)):
        yield from (where for pattern in patterns if fnmatchcase(name, pattern))


@needs_recordings
def test_every_recording_is_read_or_has_a_reason() -> None:
    found = {name: list(_places(name)) for name in _names()}
    assert len(found) >= 121
    assert {name: places for name, places in found.items() if len(places) != 1} == {}
    patterns = [*(row[0] for row in READ), *(row[0] for row in REFUSED), *UNREAD, *FILES]
    assert [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in found)] == []
    assert all(UNREAD.values())


@needs_recordings
@pytest.mark.parametrize(("pattern", "read", "count", "expected"), READ, ids=[row[0] for row in READ])
def test_a_recording_is_read_and_judged(pattern: str, read: Read, count: int, expected: str) -> None:
    for name in filter(lambda name: fnmatchcase(name, pattern), _names()):
        found = read(recorded(name))
        assert len(found) == count, name
        assert all(reading.share_present for reading in found), name
        assert " ".join(sorted(set().union(*map(actions, found)))) == expected, name
        assert [Reading.from_json(json.loads(json.dumps(reading.to_json()))) for reading in found] == found, name


@needs_recordings
@pytest.mark.parametrize(("pattern", "read", "words"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_recording_without_a_device_is_refused(pattern: str, read: Read, words: str) -> None:
    (name,) = (name for name in _names() if fnmatchcase(name, pattern))
    with pytest.raises(SourceError, match=words):
        read(recorded(name))


ANY = (AMD, INTEL, NPU, NVIDIA_TEXT, NVIDIA_XML, HYGON, GAUDI, CAMBRICON, ILUVATAR, MOORE_THREADS, METAX, ROCM)


@needs_recordings
def test_the_output_of_another_tool_reports_no_health() -> None:
    """Every recording to every reader: tables of several makers' tools are drawn alike."""
    told = []
    for name in _names():
        text = recorded(name)
        meant = [read for pattern, read, _, _ in READ if fnmatchcase(name, pattern)]
        for number, read in enumerate(ANY):
            try:
                found = [] if read in meant else read(text)
            except SourceError:
                continue
            told += [(name, number) for reading in found if reading.health_is_known]
    assert told == []


@needs_recordings
def test_version_files_that_do_not_fit(tmp_path: Path) -> None:
    text = recorded("ascend-version-files-mismatched-npu_info_before.txt")
    for part in text.split("\ncat /usr/local/Ascend/")[1:]:
        path, _, body = part.partition("\n")
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(body.partition("\n\n")[0] + "\n")
    files = ascend_install.read(tmp_path)
    assert files.software() == {"driver": "23.0.7", "firmware": "7.1.0.11.220", "cann": "7.0.T10"}
    # The driver takes this firmware, which does not take the driver; driver and CANN name each other.
    assert files.compatibility()["driver_and_firmware"] is False
    assert files.compatibility()["driver_and_cann"] is True


@needs_recordings
@pytest.mark.parametrize("name", ["Ascend910A.ini", "Ascend910B2-SoCInfo", "Ascend910B2C.ini", "Ascend910B4-SoCInfo"])
def test_platform_files_give_the_rated_memory(name: str, tmp_path: Path) -> None:
    soc = name.partition("-")[0].partition(".")[0]
    folder = tmp_path / "cann/x86_64-linux/data/platform_config"
    folder.mkdir(parents=True)
    (folder / f"{soc}.ini").write_text(recorded(f"cann-platform_config-{name}.txt"))
    rated = ascend_install.rated(str(tmp_path / "cann"), soc, tmp_path)
    assert rated is not None
    assert rated.tflops.get("float16", 0) > 200 or rated.memory_bytes in (32 << 30, 64 << 30)  # excerpts have one of the two


@needs_recordings
def test_every_version_that_the_kernel_tells_of_is_read() -> None:
    for name in filter(lambda name: name.startswith("proc-driver-nvidia-version"), _names()):
        version, kind = sysfs.parse_nvidia_version(recorded(name))
        assert version
        assert kind
