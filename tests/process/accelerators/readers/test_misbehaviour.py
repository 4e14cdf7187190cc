"""Tools that hang, crash, flood, print nothing, or print what nobody can read: unknown with the reason, and never healthy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from readiness.accelerators.readers import amd, intel, npu_smi, nvidia, other_makers, prometheus
from readiness.accelerators.readers.contract import Reading
from readiness.accelerators.readers.sources import SOURCES
from readiness.accelerators.readers.tool_runner import SourceError
from tests.process.accelerators.readers.support import look, use, write_program
from tests.unit.accelerators.samples import RECORDED, needs_recordings, recorded

TOOLS = sorted({source.tool for source in SOURCES if source.tool is not None and source.glance is not None})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exec sleep 600", "within"),
        ("sleep 600 & exit 0", "within"),  # one that leaves somebody behind who holds its output
        ("kill -SEGV $$", "SIGSEGV"),
        ("exit 7", "exit code 7"),
        ("true", "printed nothing"),
        ("head -c 104857600 /dev/zero | tr '\\0' 'x'", "printed more than 8 MiB"),
        ("printf 'Fehler: Ger\\303\\244t nicht gefunden\\n\\351\\224\\231\\350\\257\\257\\n'", ""),
        ("printf '\\377\\376\\000\\001\\n{[['", ""),
        ("echo '{\"gpu\": 0, \"device_list\": 3, \"card0\": 1}'", ""),
        ("echo '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[['", ""),
    ],
    ids=["hangs", "leaves-a-child", "crashes", "fails", "silent", "floods", "mixed-language", "binary", "other-json", "deep-json"],
)
def test_every_tool_at_once(body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in TOOLS:
        write_program(tmp_path / "bin" / tool, f"#!/bin/sh\n{body}")
    use(monkeypatch, tools=tmp_path / "bin")
    found = look(tmp_path, "Huawei", "NVIDIA", "AMD", "Intel", "Cambricon", "Hygon", "Iluvatar", "MetaX", "Moore Threads", "Habana", "Kunlunxin", limit_s=3.0 if "sleep" in body else 100.0)
    assert not [reading for reading in found.devices if reading.health_is_known]
    tools = {source.name for source in SOURCES if source.tool in TOOLS and source.glance is not None}
    silent = tools - found.problems.keys()
    assert silent <= {"xpu-smi", "xpu-smi (Kunlunxin)"}, silent  # of these the one knows that the other is meant
    assert all(words in reason for name, reason in found.problems.items() if name in tools), found.problems
    deadline = time.monotonic() + 60  # what was killed may be seen for another moment
    while (left := _left_behind(tmp_path / "bin")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exec sleep 600", "within"), ("kill -SEGV $$", "SIGSEGV"), ("exit 7", "exit code 7"), ("true", "printed nothing"),
        ("head -c 104857600 /dev/zero | tr '\\0' 'x'", "more than 8 MiB"),
        ("printf 'net health status \\343\\200\\202 Ger\\303\\244t'", "names no"),
    ],
    ids=["hangs", "crashes", "fails", "silent", "floods", "mixed-language"],
)  # fmt: skip
def test_a_tool_that_is_asked_about_one_device_only(body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin/hccn_tool", f"#!/bin/sh\n{body}")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/davinci0").touch()
    use(monkeypatch, tools=tmp_path / "bin")
    found = look(tmp_path, "Huawei", detail=True, limit_s=3.0 if "sleep" in body else 100.0)
    assert found.devices == ()
    reason = found.problems["hccn_tool"]
    assert words in reason or "no known field" in reason  # each of its answers is unreadable, for a reason of its own


def _left_behind(folder: Path) -> list[str]:
    """Processes that still run a program of this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if str(folder).encode() in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found


def _reports(function: Callable[[str], object]) -> Callable[[str], list[Reading]]:
    def read(text: str) -> list[Reading]:
        found = function(text)
        assert isinstance(found, list)
        return [one if isinstance(one, Reading) else one.reading() for one in found]

    return read


PARSERS: list[tuple[str, str, Callable[[str], list[Reading]]]] = [
    ("npu-smi-info-*", "npu", _reports(lambda text: npu_smi.of_table(npu_smi.parse_table(text)))),
    ("nvidia-smi-q-x-a10g*", "xml", _reports(lambda text: nvidia.of_documents(nvidia.parse_xml(text)))),
    ("nvidia-smi-h200*-q-load*", "q", _reports(lambda text: nvidia.of_documents(nvidia.parse_text(text)))),
    ("cnmon-*", "cnmon", _reports(other_makers.cambricon)), ("hy-smi-*", "hy", _reports(other_makers.hygon)), ("ixsmi-4*", "ix", _reports(other_makers.iluvatar)),
    ("mx-smi-L*", "mx", _reports(other_makers.metax)), ("mthreads-*", "mt", _reports(other_makers.moore_threads)), ("hl-smi-1.1*", "hl", _reports(other_makers.gaudi)),
    ("rocm-smi-json-rx*", "rocm", _reports(amd.of_rocm_smi)),
    ("amd-smi-*json*", "amd", _reports(lambda text: [amd._of_tool(index, document) for index, document in amd._answers(text)])),
    ("xpu-smi-discovery-j*", "xpu", _reports(lambda text: [intel._identity(device) for device in intel._devices(text)])),
]  # fmt: skip


@needs_recordings
@pytest.mark.parametrize(("pattern", "name", "read"), PARSERS, ids=[name for _, name, _ in PARSERS])
def test_a_truncated_output_reports_no_more_than_the_whole(pattern: str, name: str, read: Callable[[str], list[Reading]]) -> None:
    for file in sorted(RECORDED.glob(pattern)):
        text = recorded(file.name)
        try:
            whole = {reading.index: reading for reading in read(text)}
        except SourceError:
            whole = {}
        for end in range(0, len(text), max(1, len(text) // 150)):
            try:
                found = read(text[:end])
            except SourceError:
                continue
            for reading in found:
                health = reading.field("health")
                assert reading.index in whole, (file.name, end)
                assert health.value in (None, whole[reading.index].value("health")), (file.name, end, health)


@pytest.mark.parametrize("read", [read for _, _, read in PARSERS], ids=[name for _, name, _ in PARSERS])
@pytest.mark.parametrize("text", ["", "\n\n", "{}", "[]", "null", "| 0 |", "GPU: 0", "a" * 100_000, "|" * 5000, "0 1 2 3\n", "\x00\ufffd", "一二三 | 四 |\n"])
def test_nonsense_is_refused_or_reports_no_health(read: Callable[[str], list[Reading]], text: str) -> None:
    try:
        found = read(text)
    except SourceError:
        return
    assert not [reading for reading in found if reading.health_is_known]


def test_exporters_text_may_be_anything() -> None:
    for text in ("", "a b c", "x{y=\"} 1", 'npu_chip_info_health_status{id="0"} what', "# HELP", "\x00", "{" * 1000, "a{" + 'b="c",' * 5000 + "} 1"):
        assert prometheus.readings(prometheus.parse(text)) == []
