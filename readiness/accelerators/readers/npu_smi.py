"""npu-smi, the tool for Huawei's Ascend: its tables in every layout that was seen, and the lines of its `-t` options.

Layouts: 310P (no HBM column), 910 and 910B, two dies to a card (910C: a column Phy-ID, `-` for the second die's power) and
950PR (the number in a column of its own, no chip, `NPU Util`). Its numbers are the cards', not torch's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from readiness.accelerators.readers import fault_codes
from readiness.accelerators.readers.contract import Reading, Report, number, pci_address, whole
from readiness.accelerators.readers.tool_runner import Context, SourceError

SOURCE, VENDOR = "npu-smi", "Huawei"
_MIB = 2**20
_WORDS = ("ok", "warning", "alarm", "critical", "unknown", "na")
_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)


@dataclass(slots=True)
class Chip:
    """One chip of the table: card, chip on it, and the cells of its two lines. `physical` is its number among all chips."""

    card: int
    chip: int | None
    physical: int | None
    name: str
    health: str
    power: str
    temperature: str
    address: str = ""
    utilisation: str = ""
    memory: tuple[str, str] = ("", "")
    hbm: tuple[str, str] = ("", "")
    processes: list[dict[str, object]] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """The table of `npu-smi info`. `lists_processes` is False where it has no table of processes."""

    tool: str | None
    driver: str | None
    chips: list[Chip]
    lists_processes: bool


def parse_table(text: str) -> Table:
    """The table of `npu-smi info`. Raises SourceError for what is none, or is cut off."""
    head = re.search(r"\|\s*npu-smi\s+(\S+)\s+Version:\s*(\S+)", text)
    if head is None:
        raise SourceError("npu-smi printed no table that is known")
    rows = _rows(text)
    has_physical = any("Phy-ID" in row[0] for row in rows)
    chips: list[Chip] = []
    open_line: Chip | None = None
    in_processes = lists_processes = False
    for row in rows:
        if any(cell.startswith("Process id") for cell in row):
            in_processes = lists_processes = True
        elif len(row) == 1 and row[0].startswith("No running process"):
            lists_processes = True
        elif in_processes:
            _process(row, chips)
        elif (begun := _first_line(row)) is not None:
            if open_line is not None:
                raise SourceError("the table of npu-smi lacks the second line of a chip")
            open_line = begun
        elif open_line is not None and _second_line(row, open_line, has_physical):
            chips.append(open_line)
            open_line = None
    if open_line is not None:
        raise SourceError("the table of npu-smi is cut off")
    if not chips:
        raise SourceError("npu-smi lists no chip")
    return Table(head[1], head[2], chips, lists_processes)


def _rows(text: str) -> list[list[str]]:
    """The cells of each line between rulers. Raises SourceError for a line that is cut off."""
    rows = []
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("|"):
            if not line.endswith("|") or len(line) < 2:
                raise SourceError("the table of npu-smi is cut off")
            rows.append([cell.strip() for cell in line[1:-1].split("|")])
    return rows


def _first_line(row: list[str]) -> Chip | None:
    """The line with the name, where this row is one."""
    if len(row) < 3 or row[-2].lower() not in _WORDS:
        return None
    found = re.fullmatch(r"(\d+)\s+(\S.*)", " ".join(row[:-2]))
    figures = re.match(r"(\S+)\s+(\S+)\s+\S+\s*/", row[-1])
    if found is None or figures is None:
        return None
    return Chip(int(found[1]), None, None, found[2], row[-2], figures[1], figures[2])


def _second_line(row: list[str], chip: Chip, has_physical: bool) -> bool:
    """Take in the line with the address; False where this row is none."""
    if len(row) < 3 or not (_ADDRESS.fullmatch(row[-2]) or row[-2] in ("NA", "-")):
        return False
    figures = re.match(r"(\S+)\s+(\S+)\s*/\s*(\S+)(?:\s+(\S+?)\s*/\s*(\S+))?$", row[-1])
    if figures is None:
        return False
    numbers = [int(word) for word in " ".join(row[:-2]).split() if word.isdecimal()]
    chip.chip = numbers[0] if numbers else None
    chip.physical = numbers[1] if has_physical and len(numbers) > 1 else chip.card if not chip.chip else None
    chip.address, chip.utilisation = row[-2], figures[1]
    chip.memory = figures[2], figures[3]
    chip.hbm = figures[4] or "", figures[5] or ""
    return True


def _process(row: list[str], chips: list[Chip]) -> None:
    if len(row) < 4 or not row[1].isdecimal():
        return
    numbers = [int(word) for word in row[0].split() if word.isdecimal()]
    for chip in chips:
        if numbers and chip.card == numbers[0] and (len(numbers) < 2 or chip.chip in (None, numbers[1])):
            memory = whole(row[3])
            used = None if memory is None else memory * _MIB
            chip.processes.append({"pid": int(row[1]), "name": row[2], "memory_bytes": used})


def of_table(table: Table) -> list[Report]:
    """One report for each chip of the table."""
    reports = []
    for chip in table.chips:
        report = Report(SOURCE, VENDOR, chip.physical)
        report.record("model", chip.name if chip.name.lower().startswith("ascend") else f"Ascend {chip.name}")
        report.record("health", chip.health)
        report.record("power_w", _figure(chip.power))
        report.record("temperatures_c", {"chip": _figure(chip.temperature)})
        report.record("pci_address", pci_address(chip.address))
        report.record("utilisation_percent", _figure(chip.utilisation))
        report.record("versions", {"npu-smi": table.tool, "driver": table.driver})
        # Devices with HBM show their DDR beside it, which newer ones do not have ("0 / 0").
        used, total = (whole(text) for text in (chip.hbm if whole(chip.hbm[1]) else chip.memory))
        report.record("memory_used_bytes", None if used is None else used * _MIB)
        report.record("memory_total_bytes", None if not total else total * _MIB)
        if table.lists_processes:
            report.record("processes", chip.processes)
        reports.append(report)
    return reports


def _figure(text: str) -> float | None:
    return None if text in ("-", "NA", "N/A", "") else number(text)


def key_values(text: str) -> dict[str, str]:
    """Lines like `Health Status : OK`; the first of a key counts, keys without what stands in brackets."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r"\s*([^:：]+?)\s*[:：]\s*(.*?)\s*$", line):
            key = re.sub(r"\s*\([^)]*\)$", "", match[1]).lower()
            found.setdefault(key, match[2])
    return found


def record_health(report: Report, text: str) -> None:
    """Record the output of `-t health`: the word, and the active codes."""
    values = key_values(text)
    word, codes = values.get("health status") or values.get("health"), values.get("error code")
    if word is None:
        report.unreadable("health", f"its answer about health has none ({' '.join(text.split())[:80] or 'nothing'})")
        return
    report.record("health", word)
    if codes is None:
        report.unreadable("fault_codes", "its answer about health names no codes")
    elif codes.upper() in ("NA", "N/A", "", "NULL"):
        report.record("fault_codes", [])
    else:
        report.record("fault_codes", [of_code(code) for code in re.findall(r"\b(?:0x)?([0-9a-fA-F]{8})\b", codes)])


def of_code(code: str | int) -> dict[str, object]:
    """An entry of `fault_codes`."""
    fault = fault_codes.ascend(f"{code:08X}" if isinstance(code, int) else code)
    return {
        "code": fault.code, "text": fault.text, "severity": fault.severity.value, "action": fault.action.value,
        "known": fault.known, "time": None,
    }  # fmt: skip


def record_board(report: Report, text: str) -> None:
    """Record the output of `-t board`: identity, firmware, and whether driver and firmware fit."""
    values = key_values(text)
    report.record("serial", values.get("serial number"))
    report.record("firmware", values.get("firmware version"))
    report.record("versions", {"driver": values.get("software version"), "firmware": values.get("firmware version")})
    report.record("pci_address", pci_address(values.get("pcie bus info")))
    if (word := values.get("compatibility")) is not None:
        report.record("mode", {"compatibility": word})


def record_ecc(report: Report, text: str) -> None:
    """Record the output of `-t ecc`, under the names that other vendors' counters have."""
    values = key_values(text)
    counts: dict[str, int | None] = {}
    for memory in ("hbm", "ddr"):
        for bits, kind in (("single", "corrected"), ("double", "uncorrected")):
            counts[f"{memory}_{kind}_volatile"] = whole(values.get(f"{memory} {bits} bit error count"))
            counts[f"{memory}_{kind}_aggregate"] = whole(values.get(f"{memory} {bits} bit aggregate total err cnt"))
            counts[f"{memory}_retired_pages_{bits}_bit"] = whole(values.get(f"{memory} {bits} bit isolated pages count"))
    if any(count is not None for count in counts.values()):
        report.record("memory_errors", counts)
    else:
        report.unreadable("memory_errors", f"its answer about ECC has no count ({' '.join(text.split())[:80] or 'nothing'})")


def record_common(report: Report, text: str) -> None:
    """Record the output of `-t common`: clocks, temperatures and power."""
    values = key_values(text)
    report.record("clocks_mhz", {
        "aicore": number(values.get("aicore curfreq") or values.get("aicore freq")),
        "hbm": number(values.get("hbm clock speed")),
    })  # fmt: skip
    report.record("temperatures_c", {"hbm": number(values.get("hbm temperature"))})


#: Options that are queried of each chip beyond the table, with the parser of each answer.
_DETAILS = {
    "board": record_board, "health": record_health, "ecc": record_ecc, "common": record_common, "memory": record_common,
}  # fmt: skip


def glance(context: Context) -> list[Reading]:
    """The table, and the codes of every chip that is not OK."""
    return [report.reading() for report in _glance(context)]


def _glance(context: Context) -> list[Report]:
    try:
        reports = of_table(table := parse_table(context.tool("npu-smi", "info")))
    except SourceError as problem:
        if context.remaining_s < 0.3:
            raise
        return _without_table(context, str(problem))
    for report, chip in zip(reports, table.chips, strict=True):
        if chip.health.lower() != "ok":
            _query(context, report, "health", chip.card, chip.chip)
    return reports


def _without_table(context: Context, problem: str) -> list[Report]:
    """Read the health of each card that has a device node, for releases without a table."""
    cards = _nodes(context)
    if not cards:
        raise SourceError(problem)
    reports = []
    for card in cards:
        report = Report(SOURCE, VENDOR, card)
        report.unreadable("model", problem)
        _query(context, report, "health", card, 0)
        reports.append(report)
    return reports


def _nodes(context: Context) -> list[int]:
    """The numbers of the chips that the driver has made nodes for."""
    names = (file.name.removeprefix("davinci") for file in (context.root / "dev").glob("davinci[0-9]*"))
    return sorted(int(name) for name in names if name.isdecimal())


def detail(context: Context) -> list[Reading]:
    """Read the `-t` options of the requested chips."""
    table = parse_table(context.tool("npu-smi", "info"))
    wanted = context.settings.get("pci_address")
    readings = []
    for report, chip in zip(of_table(table), table.chips, strict=True):
        if wanted is None or pci_address(chip.address) == wanted:
            for kind in _DETAILS:
                _query(context, report, kind, chip.card, chip.chip)
            readings.append(report.reading())
    return readings


def _query(context: Context, report: Report, kind: str, card: int, chip: int | None) -> None:
    """Ask one question about a chip. The newest generation knows no chips on a card."""
    where = ("-i", str(card)) if chip is None else ("-i", str(card), "-c", str(chip))
    fields: Mapping[str, Iterable[str]] = {"health": ("fault_codes", "health"), "ecc": ("memory_errors",)}
    try:
        answer = context.tool("npu-smi", "info", "-t", kind, *where)
    except SourceError as problem:
        for name in fields.get(kind, ()):
            report.unreadable(name, str(problem))
        return
    _DETAILS[kind](report, answer)


def links(context: Context) -> list[Reading]:
    """Read hccn_tool about each chip's network port: its last change, whether it reaches its peer, its errors."""
    return [report.reading() for report in _ports(context)]


def _ports(context: Context) -> Iterator[Report]:
    tool = "hccn_tool"
    for index in [int(context.settings["index"])] if "index" in context.settings else _nodes(context):
        report = Report(tool, VENDOR, index)
        options = (("-link_stat", record_link), ("-net_health", record_network), ("-stat", record_port_errors))
        for option, understand in options:
            try:
                understand(report, context.tool(tool, "-i", str(index), option, "-g"))
            except SourceError as problem:
                report.unreadable("link_errors" if option == "-stat" else "links", str(problem))
        yield report


def record_link(report: Report, text: str) -> None:
    """The newest of the changes of the port's state stands first."""
    changes = re.findall(r"LINK (UP|DOWN)\s*$", text, re.MULTILINE)
    if changes:
        report.record("links", {"roce": changes[0].lower()})
    else:
        report.unreadable("links", "hccn_tool names no state of the link")


def record_network(report: Report, text: str) -> None:
    """Record whether the port reaches its configured peer."""
    if match := re.search(r"net health status\s*:\s*(.+?)\s*$", text, re.MULTILINE):
        report.record("links", {"network": match[1].lower()})


def record_port_errors(report: Report, text: str) -> None:
    """Counts of packets that went wrong."""
    found = {name.removesuffix("_num"): int(count) for name, count in re.findall(r"(\w*err\w*)\s*:\s*(\d+)", text)}
    if found:
        report.record("link_errors", found)
    else:
        report.unreadable("link_errors", "hccn_tool names no count")
