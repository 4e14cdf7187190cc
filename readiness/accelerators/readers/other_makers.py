"""Tools of further makers, as recorded: cnmon, hy-smi, ixsmi, mx-smi, mthreads-gmi, hl-smi and Kunlunxin's xpu-smi.

Each function takes what the tool printed and gives a report for each device; what a tool does not say is absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from readiness.accelerators.readers.contract import Reading, Report, number, pci_address, whole
from readiness.accelerators.readers.tool_runner import Context, NotMineError, SourceError

_MIB = 2**20


def _pairs(text: str) -> list[tuple[list[str], list[str]]]:
    """The cells of each device's two lines, in tables drawn as nvidia-smi draws them. Raises SourceError for one cut off."""
    found: list[tuple[list[str], list[str]]] = []
    begun: list[str] | None = None
    in_body = False
    for line in (line.strip() for line in text.splitlines()):
        if re.match(r"[|+][=+]{5}", line):
            in_body = True
        elif in_body and line.startswith("|") and not line.startswith("|--"):
            if not line.endswith("|"):
                raise SourceError("its table is cut off")
            cells = [cell.strip() for cell in line[1:-1].split("|")]
            if begun is None:
                if re.match(r"\d+\b", cells[0]) is None or len(cells) < 3:
                    in_body = False  # the table of processes, or a line of text
                else:
                    begun = cells
            else:
                if len(cells) != len(begun):
                    raise SourceError("its table is cut off")
                found.append((begun, cells))
                begun = None
    if begun is not None:
        raise SourceError("its table is cut off")
    if not found:
        raise SourceError("it lists no device")
    return found


def _devices(
    text: str, tool: str, maker: str, names: str
) -> Iterator[tuple[Report, re.Match[str], list[str], list[str]]]:
    """Each device of such a table: its report, the match of `names` (the index first) in its first cell, its two rows."""
    for one, other in _pairs(text):
        if (name := re.match(names, one[0])) is not None:
            yield Report(tool, maker, int(name[1])), name, one, other


def _refuse_other(text: str, tool: str, names: str) -> None:
    """Raise SourceError for a text that is not this tool's: the tables of several makers' tools are drawn alike."""
    if re.search(names, text, re.IGNORECASE) is None:
        raise SourceError(f"{tool} printed nothing that names {tool}")


def _refuse_cut(text: str) -> None:
    """Raise SourceError for a text that ends within a line: half a word of health is none."""
    if text and not text.endswith("\n"):
        raise SourceError("its last line is cut off")


def _memory(report: Report, text: str) -> None:
    match = re.search(r"(?<![\d.,])(\d+(?:\.\d+)?)\s*MiB\s*[/(]\s*(\d+(?:\.\d+)?)\s*MiB", text)
    if match is not None:
        report.record("memory_used_bytes", int(float(match[1]) * _MIB))
        report.record("memory_total_bytes", int(float(match[2]) * _MIB))


def _power(report: Report, text: str) -> None:
    match = re.search(r"(?<![\d.,])(\d+(?:\.\d+)?)\s*W\s*/\s*(\d+(?:\.\d+)?)\s*W", text)
    if match is not None:
        report.record("power_w", float(match[1]))
        report.record("power_limit_w", float(match[2]))


def _temperature(report: Report, text: str) -> None:
    match = re.search(r"(?<![\w.,])(\d+(?:\.\d+)?)C\b", text)
    report.record("temperatures_c", {"chip": None if match is None else float(match[1])})


def _percent(report: Report, text: str) -> None:
    match = re.match(r"\s*(\d+(?:\.\d+)?)%", text)
    report.record("utilisation_percent", None if match is None else float(match[1]))


def _second_row(report: Report, cells: Sequence[str]) -> None:
    """The second of the two rows of a device in a table like nvidia-smi's: temperature and power, memory, utilisation."""
    _temperature(report, cells[0])
    _power(report, cells[0])
    _memory(report, cells[1])
    _percent(report, cells[2] if len(cells) > 2 else "")


def cambricon(text: str) -> list[Report]:
    """cnmon: until 4 the driver stands in each row, from 5 on in the header, and the row has the address."""
    _refuse_other(text, "cnmon", r"\bCNMON\b")
    tool = re.search(r"CNMON v?([\w.]+)", text)
    driver = re.search(r"\bDriver v([\w.]+)", text)
    found = []
    for report, name, one, other in _devices(text, "cnmon", "Cambricon", r"(\d+)\s+\S+\s+(\S+)\s+v?(\S+)"):
        report.record("model", name[2])
        report.record("firmware", name[3])
        own = re.search(r"\bv([\d.]+)", one[1])
        version = driver[1] if driver else own[1] if own else None
        report.record("versions", {"cnmon": tool[1] if tool else None, "driver": version})
        report.record("pci_address", pci_address(one[1]))
        _percent(report, one[2])
        errors = whole(re.sub(r"^\S+\s+", "", one[2]))
        if errors is None:
            report.absent("memory_errors", "cnmon says 'N/A'")
        else:
            report.record("memory_errors", {"ecc_uncorrected": errors})
        _temperature(report, other[0])
        _power(report, other[0])
        _memory(report, other[1])
        found.append(report)
    return found


def hygon(text: str) -> list[Report]:
    """hy-smi: columns named in the header, DCU or HCU; with or without columns for coders."""
    _refuse_cut(text)
    header: list[str] = []
    found = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in ("DCU", "HCU") and "Temp" in words:
            header = words
        elif header and words and words[0].isdecimal():
            if len(words) != len(header):
                raise SourceError("a line of its table is cut off")
            cells = dict(zip(header, words, strict=True))
            report = Report("hy-smi", "Hygon", int(words[0]))
            report.record("temperatures_c", {"chip": number(cells.get("Temp"))})
            report.record("power_limit_w", number(cells.get("PwrCap")))
            report.record("utilisation_percent", number(cells.get(f"{header[0]}%")))
            report.record("power_w", number(cells.get("AvgPwr")))
            report.record("health", cells.get("Mode"))
            report.record("mode", {"performance": cells.get("Perf"), "memory_used": cells.get("VRAM%")})
            found.append(report)
    return found


def iluvatar(text: str) -> list[Report]:
    """ixsmi: a table like nvidia-smi's."""
    _refuse_other(text, "ixsmi", r"\bIX-?ML\b|\bIX-?SMI\b")
    versions = {
        "ixsmi": _search(r"IX-ML:\s*([\w.]+)", text), "driver": _search(r"Driver Version:\s*([\w.]+)", text),
    }  # fmt: skip
    found = []
    for report, name, one, other in _devices(text, "ixsmi", "Iluvatar", r"(\d+)\s+(.+)"):
        report.record("model", name[2].strip())
        report.record("versions", versions)
        report.record("pci_address", pci_address(one[1].split()[0] if one[1] else None))
        clocks = re.findall(r"(?<![\d.,])(\d+)MHz", one[2]) if len(one) > 2 else []
        report.record("clocks_mhz", dict(zip(("sm", "memory"), map(float, clocks), strict=False)))
        _second_row(report, other)
        found.append(report)
    return found


def gaudi(text: str) -> list[Report]:
    """hl-smi: a table like nvidia-smi's, with uncorrected errors since the driver was loaded."""
    _refuse_other(text, "hl-smi", r"\bHL-SMI\b")
    versions = {
        "hl-smi": _search(r"HL-SMI Version:\s*hl-([\d.]+)", text),
        "driver": _search(r"(?<!Nic )Driver Version:\s*([\w.-]+)", text),
        "nic_driver": _search(r"Nic Driver Version:\s*([\w.-]+)", text),
        "firmware": _search(r"HL-SMI Version:\s*\S*-fw-([\d.]+)", text),
    }  # fmt: skip
    found = []
    for report, name, one, other in _devices(text, "hl-smi", "Habana", r"(\d+)\s+(\S+)"):
        report.record("model", name[2])
        report.record("versions", versions)
        report.record("firmware", versions["firmware"])
        report.record("pci_address", pci_address(one[1].split()[0] if one[1] else None))
        errors = whole(one[2].split()[0]) if len(one) > 2 and one[2] else None
        report.record("memory_errors", None if errors is None else {"ecc_uncorrected_volatile": errors})
        _second_row(report, other)
        found.append(report)
    return found


def metax(text: str) -> list[Report]:
    """`mx-smi -L`: one line a device, with its state; and the header of its tables, which has the versions."""
    _refuse_other(text, "mx-smi", r"\bmx-smi\b")
    versions = {
        "mx-smi": _search(r"mx-smi\s+version:\s*([\w.]+)", text),
        "driver": _search(r"Kernel Mode Driver Version:\s*([\w.]+)", text),
        "maca": _search(r"MACA Version:\s*([\w.]+)", text), "bios": _search(r"BIOS Version:\s*([\w.]+)", text),
    }  # fmt: skip
    _refuse_cut(text)
    found: dict[int, Report] = {}
    current: Report | None = None
    for line in text.splitlines():
        if match := re.match(r"\s*GPU#(\d+)\s+(\S+)\s+([0-9a-fA-F:]+\.[0-7])(?:\s+(.*))?$", line):
            current = found.setdefault(int(match[1]), Report("mx-smi", "MetaX", int(match[1])))
            current.record("model", match[2])
            current.record("pci_address", pci_address(match[3]))
            current.record("versions", versions)
            rest = match[4] or ""
            uuid = re.search(r"\(UUID:\s*(\S+?)\)", rest)
            current.record("serial", uuid[1] if uuid else None)
            state = re.sub(r"\s*\(UUID:.*", "", rest).strip()
            if state:
                current.record("health", state)
        elif current is not None and (match := re.match(r"\s*([\w-]+(?:\(sensor\d+\))?)\s*:\s*([\d.]+) C\s*$", line)):
            current.record("temperatures_c", {match[1]: float(match[2])})
    return list(found.values())


def moore_threads(text: str) -> list[Report]:
    """mthreads-gmi: three lines a device, in columns that `|` divides."""
    _refuse_other(text, "mthreads-gmi", r"\bmthreads-gmi\b")
    versions = {
        "mthreads-gmi": _search(r"mthreads-gmi:\s*([\w.]+)", text),
        "driver": _search(r"Driver Version:\s*([\w.-]+)", text),
    }  # fmt: skip
    found: list[Report] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) >= 3 and (match := re.match(r"(\d+)\s+(.+)", cells[0])):
            report = Report("mthreads-gmi", "Moore Threads", int(match[1]))
            report.record("model", match[2].strip())
            report.record("versions", versions)
            report.record("pci_address", pci_address(cells[1]))
            usage = re.match(r"(\d+)%\s+(.*)", " ".join(cells[2:]))
            if usage is not None:
                report.record("utilisation_percent", float(usage[1]))
                _memory(report, usage[2])
            found.append(report)
        elif found and len(cells) >= 3:
            if (match := re.match(r"(\d+)x\((\d+)x\)", cells[1])) is not None:
                state = f"{match[1]} of {match[2]} lanes" + ("" if match[1] == match[2] else ", degraded")
                found[-1].record("links", {"pcie": state})
            if (match := re.match(r"(\d+)C\b", cells[2])) is not None:
                found[-1].record("temperatures_c", {"chip": float(match[1])})
            elif cells[2] and not cells[0] and not cells[1]:
                found[-1].record("mode", {"ecc": cells[2]})
    return found


def kunlunxin(text: str) -> list[Report]:
    """Kunlunxin's xpu-smi: identity alone. Raises SourceError where the tool is Intel's."""
    named = re.search(r"kunlun|\bXPU-?ML\b|\bXPU-SMI\b|\bP800\b|\bR[23]\d\d\b", text)
    if named is None or re.search(r"intel", text, re.IGNORECASE):
        raise NotMineError("this xpu-smi is not Kunlunxin's")
    versions = {"driver": _search(r"Driver Version:\s*([\w.-]+)", text)}
    found = []
    for match in re.finditer(r"^\|\s*(\d+)\s+(\S[^|]*?)\s*\|\s*([0-9A-Fa-f:.]+)", text, re.MULTILINE):
        report = Report("xpu-smi (Kunlunxin)", "Kunlunxin", int(match[1]))
        report.record("model", match[2])
        report.record("pci_address", pci_address(match[3]))
        report.record("versions", versions)
        found.append(report)
    return found


def _search(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None


#: By the name of a source: its command, and who understands it.
TOOLS: Mapping[str, tuple[tuple[str, ...], Callable[[str], list[Report]]]] = {
    "cnmon": (("cnmon",), cambricon),
    "hy-smi": (("hy-smi",), hygon),
    "ixsmi": (("ixsmi",), iluvatar),
    "mx-smi": (("mx-smi", "-L"), metax),
    "mthreads-gmi": (("mthreads-gmi",), moore_threads),
    "hl-smi": (("hl-smi",), gaudi),
    "xpu-smi (Kunlunxin)": (("xpu-smi",), kunlunxin),
}


def glance(context: Context) -> list[Reading]:
    """Read the table of this source's tool about every device. Raises SourceError."""
    command, understand = TOOLS[context.source]
    try:
        reports = understand(context.tool(*command))
    except NotMineError:
        raise
    except SourceError as problem:
        text = str(problem)
        raise SourceError(text if command[0] in text else f"{command[0]}: {text}") from None
    if not reports:
        raise SourceError(f"{command[0]} printed nothing that is known")
    return [report.reading() for report in reports]


def metax_detail(context: Context) -> list[Reading]:
    """Temperatures of MetaX's devices."""
    return [report.reading() for report in metax(context.tool("mx-smi", "--show-temperature"))]

