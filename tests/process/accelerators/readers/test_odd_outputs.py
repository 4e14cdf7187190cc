"""Outputs that nobody built a reader for: other locales, colours, encodings, names, warnings; two cards of different kinds.

Unknown with a reason, never healthy, never a number that the tool did not print, never a crash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from readiness.accelerators.readers import amd, npu_smi, nvidia, other_makers, overview, tool_output, tool_runner
from readiness.accelerators.readers.contract import Reading, State, number
from readiness.accelerators.readers.sources import SOURCES
from readiness.accelerators.readers.tool_runner import SourceError
from tests.process.accelerators.readers.support import actions, fake_tool, look, use, write_program
from tests.process.accelerators.readers.test_ascend import TABLE
from tests.process.accelerators.readers.test_recordings import READ
from tests.unit.accelerators.samples import RECORDED, needs_recordings, recorded

TOOLS = sorted({source.tool for source in SOURCES if source.tool is not None})
VENDORS = ("Huawei", "NVIDIA", "AMD", "Intel", "Cambricon", "Hygon", "Iluvatar", "MetaX", "Moore Threads", "Habana", "Kunlunxin")

#: In the layout of hy-smi, with invented values.
HYGON = """\
============================ System Management Interface =============================
DCU     Temp     AvgPwr     Perf     PwrCap     VRAM%      DCU%      Mode
0       41.5C    77.0W      auto     300.0W     1%         0.5%      Normal
1       42.0C    78.0W      auto     300.0W     2%         1.0%      Normal
"""

CHANGES: Mapping[str, Callable[[str], str]] = {
    "decimal-comma": lambda text: re.sub(r"(?<=\d)\.(?=\d)", ",", text),
    "thousands": lambda text: re.sub(r"\b(\d+)(\d{3})(?= ?MiB)", r"\1,\2", text),
    "no-units": lambda text: re.sub(r"(?<=\d) ?(W|MiB|MHz|%|Mhz|MB)\b", "", text),
    "not-a-number": lambda text: re.sub(r"(?<=: )\d+(?:\.\d+)?(?=[,\n}])", "NaN", text),
    "not-available": lambda text: re.sub(r"(?<=[:=|>\" ])-?\d+(?:\.\d+)?(?= ?[%/<\",|\n ])", "N/A", text),
    "renamed": lambda text: re.sub(r"(?i)(health|temp|power|ecc|memory|uncorrect|version|mode)", lambda found: found[0][::-1], text),
    "warning-first": lambda text: f"WARNING: the driver is newer than this tool\n[0] Warnung: Gerät {{unbekannt}}\n{text}",
    "carriage-returns": lambda text: text.replace("\n", "\r\n"),
    "other-colons": lambda text: text.replace(": ", "： "),
    "tabs": lambda text: text.replace("  ", "\t"),
}
NUMBERS = (
    "temperatures_c", "power_w", "power_limit_w", "clocks_mhz", "utilisation_percent", "memory_used_bytes", "memory_total_bytes",
    "memory_errors", "link_errors",
)  # fmt: skip


def _numbers(reading: Reading, names: Sequence[str]) -> dict[str, Any]:
    """Every number of these fields, by field and key."""
    found: dict[str, Any] = {}
    for name in names:
        value = reading.value(name)
        found |= {f"{name}/{key}": item for key, item in value.items()} if isinstance(value, Mapping) else {name: value}
    return {name: value for name, value in found.items() if value is not None}


@needs_recordings
@pytest.mark.parametrize("change", CHANGES)
def test_no_number_and_no_health_is_invented(change: str) -> None:
    """Every recording in the other form: what is still read is what the recording has."""
    for pattern, read, _, _ in READ:
        for file in sorted(RECORDED.glob("*.txt")):
            if not fnmatchcase(file.name, pattern) or pattern.startswith(("npu-smi-bundle", "dmesg")):
                continue
            text = recorded(file.name)
            own = {reading.index: reading for reading in read(text)}
            try:
                found = read(CHANGES[change](text))
            except SourceError:
                continue
            for reading in found:
                if reading.index is None:  # it lost its number, and is nobody's
                    continue
                assert reading.index in own, file.name
                as_it_was = own[reading.index]
                word = str(reading.value("health")).partition(" (")[0]  # behind it may be a reason
                if word not in ("None", as_it_was.value("health")):
                    assert overview.state(reading) != "ok", file.name
                was = _numbers(as_it_was, NUMBERS)
                now = _numbers(reading, [name for name in NUMBERS if as_it_was.field(name).state is not State.UNREADABLE])
                assert {name: value for name, value in now.items() if was.get(name) != value} == {}, file.name


def test_a_number_with_a_comma_is_none() -> None:
    assert [number(text) for text in ("24,5 %", "1,024 MiB", "24.5.1", "24,", "24.5", "0x10", "-3")] == [None, None, None, 24, 24.5, 16, -3]


def _hygon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: bytes, *, before: str = "") -> tuple[Reading, ...]:
    (tmp_path / "output").write_bytes(output)
    write_program(tmp_path / "bin/hy-smi", f"#!/bin/sh\n{before}\nexec cat '{tmp_path / 'output'}'")
    use(monkeypatch, tools=tmp_path / "bin")
    return look(tmp_path, "Hygon").devices


@pytest.mark.parametrize(
    "output",
    [
        HYGON.encode(), HYGON.encode("utf-16"), HYGON.encode("utf-16-le").join([b"\xff\xfe", b""]), HYGON.encode("utf-8-sig"),
        re.sub(r"(Normal|\d+\.\d+C)", "\x1b[1;32m\\1\x1b[0m", HYGON).encode(), b"\x1b[2J\x1b[H\x1b]0;hy-smi\x07" + HYGON.encode(),
        b"WARNING: this tool is deprecated [use rocm-smi]\n" + HYGON.encode(),
    ],
    ids=["plain", "utf-16", "utf-16-le", "mark", "colours", "cleared-screen", "warning"],
)  # fmt: skip
def test_other_encodings_and_colours_are_read(output: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _hygon(tmp_path, monkeypatch, output)
    assert (first.value("health"), first.value("power_w"), first.value("temperatures_c")) == ("Normal", 77.0, {"chip": 41.5})
    assert (second.index, second.value("utilisation_percent")) == (1, 1.0)


def test_control_sequences_are_no_text() -> None:
    assert tool_runner.decoded(b"\x1b[32mOK\x1b[0m \x1b]8;;http://a\x1b\\x\x1b]8;;\x1b\\\x1b[?25h") == "OK x"
    assert tool_runner.decoded(b"\xff\xfeO\x00K\x00") == "OK"
    assert tool_runner.decoded(b"\xffOK") == "\ufffdOK"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("test -t 1 || { echo 'this program needs a terminal' >&2; exit 1; }", "needs a terminal"),
        ("read answer && echo yes", ""),  # one that asks: nobody answers
        ("printf '\\377\\376'; echo '{\"gpu\": NaN, \"health\": NaN}' | iconv -f utf-8 -t utf-16le", ""),
        ("echo 'Warning: [ignored] {option}'; echo '[{\"state_of_being\": \"fine\", \"gpu_nr\": 0}]'", ""),
        ("echo '| N/A | N/A | N/A |'", ""),
        ("echo '\x1b[32mOK\x1b[0m'", ""),
    ],
    ids=["terminal", "asks", "nan-in-utf-16", "renamed-keys", "not-available", "ok-alone"],
)  # fmt: skip
def test_every_tool_at_once(body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in TOOLS:
        write_program(tmp_path / "bin" / tool, f"#!/bin/sh\n{body}")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/davinci0").touch()  # for hccn_tool, which is asked about the devices that have a node
    use(monkeypatch, tools=tmp_path / "bin")
    found = look(tmp_path, *VENDORS, detail=True)
    assert [overview.state(reading) for reading in found.devices if reading.health_is_known] == []
    tried = {source.name for source in SOURCES if source.tool is not None and source.glance is not None}
    assert tried - found.problems.keys() <= {"xpu-smi", "xpu-smi (Kunlunxin)", "npu-smi"}, found.problems
    assert all(words in reason for name, reason in found.problems.items() if name in tried), found.problems


def test_a_tool_that_is_a_directory_or_may_not_be_run_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in TOOLS[::2]:
        (tmp_path / "bin" / tool).mkdir(parents=True)
    for tool in TOOLS[1::2]:
        (tmp_path / "bin" / tool).write_text("#!/bin/sh\necho OK\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = look(tmp_path, *VENDORS, detail=True)
    assert (found.devices, found.problems) == ((), {})


def test_a_tool_of_another_architecture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/hy-smi").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(60))
    (tmp_path / "bin/hy-smi").chmod(0o755)
    use(monkeypatch, tools=tmp_path / "bin")
    found = look(tmp_path, "Hygon")
    assert found.devices == ()
    assert "cannot be run" in found.problems["hy-smi"]


def test_two_cards_of_different_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLE.format(health="OK").splitlines()
    other = [line.replace("910B3", "310P3").replace("2     ", "5     ").replace("C1:00.0", "C5:00.0") for line in table[6:9]]
    sick = [line.replace("OK            |", "Critical      |") for line in other]
    fake_tool(tmp_path / "bin", "npu-smi", {"info": "\n".join([*table, *sick]) + "\n"})
    xml = '<gpu id="0000:01:00.0"><product_name>A</product_name><ecc_errors><volatile><dram_uncorrectable>0</dram_uncorrectable></volatile></ecc_errors></gpu>'
    old = '<gpu id="0000:02:00.0"><product_name>B</product_name><ecc_errors><volatile><single_bit><total>N/A</total></single_bit></volatile></ecc_errors></gpu>'
    fake_tool(tmp_path / "bin", "nvidia-smi", {"-q -x": f"<nvidia_smi_log>{xml}{old}</nvidia_smi_log>"})
    use(monkeypatch, tools=tmp_path / "bin")
    found = look(tmp_path, "Huawei", "NVIDIA")
    states = {str(reading.value("model")): overview.state(reading) for reading in found.devices}
    assert states == {"Ascend 910B3": "ok", "Ascend 310P3": "fault", "A": "ok", "B": "unknown"}
    assert {name for reading in found.devices if reading.vendor == "Huawei" for name in actions(reading)} == {"replace"}


def test_json_behind_warnings_and_with_what_is_no_json() -> None:
    behind = "[0] unknown option {x}\nWARNING [amdgpu] {\n[\n {\"gpu\": 0, \"power\": {\"value\": NaN, \"unit\": \"W\"}}\n]\n"
    assert tool_output.loads(behind, "tool")[0]["gpu"] == 0
    reading = amd._of_tool(0, tool_output.flatten(tool_output.loads(behind, "tool")[0]))
    assert reading.field("power_w").state is not State.PRESENT
    for text in ("[0] nothing else", "[1, 2, 3]", '"{', "{]", "WARNING {not json}\n"):
        with pytest.raises(SourceError):
            tool_output.loads(text, "tool")
    assert tool_output.loads("a [0] b\n{}", "tool") == {}


@pytest.mark.parametrize("read", [other_makers.cambricon, other_makers.iluvatar, other_makers.gaudi, other_makers.metax, other_makers.moore_threads])
def test_a_table_that_does_not_name_its_tool_is_refused(read: Callable[[str], list[Any]]) -> None:
    table = "+===========+=====+=====+\n| 0  Card   | 0 | 0 |\n| 30C 20W / 100W | 1MiB / 2MiB | 0% |\n+----+\n"
    with pytest.raises(SourceError, match="printed nothing that names"):
        read(table)


def test_fields_that_are_all_not_available_are_absent() -> None:
    xml = re.sub(r">[^<]+<", ">N/A<", '<nvidia_smi_log><gpu id="x"><product_name>A</product_name><ecc_errors><volatile><dram_uncorrectable>1</dram_uncorrectable></volatile></ecc_errors><gpu_recovery_action>None</gpu_recovery_action></gpu></nvidia_smi_log>')
    (reading,) = nvidia.of_documents(nvidia.parse_xml(xml))
    assert not reading.health_is_known
    table = re.sub(r"\b(OK|90\.5|41|7|3318|65536|0)\b", "NA", TABLE.format(health="OK"))
    try:
        found = [report.reading() for report in npu_smi.of_table(npu_smi.parse_table(table))]
    except SourceError:
        return
    assert [one for one in found if one.health_is_known] == []
