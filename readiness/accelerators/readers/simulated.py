"""Management library of a simulated chip, with the seeded faults of its file.

A chip whose file says `management = "libdcmi"` answers at the interface of Huawei's library, and is read as an Ascend is: in
a process of its own, by the same reader. All others report in the words of that library without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from readiness.accelerators.readers import ascend_dcmi, dcmi_bindings, gather, npu_smi, sources
from readiness.accelerators.readers.contract import Reading, Report, with_problems
from readiness.accelerators.readers.simulated_dcmi import ChipState, SimulatedLibrary
from readiness.accelerators.readers.tool_runner import Context
from readiness.simulator.machine_file import Chip

SOURCE, VENDOR = "simulator", "simulated"
_CHIPS = "chips"
#: Watts at rest, and what full load adds.
_IDLE_W, _LOAD_W = 90.0, 210.0


@dataclass(frozen=True, slots=True)
class Now:
    """State of one chip at this moment: its fault counters, the versions of its software, and what it measures of itself.

    `memory_used_bytes` is what all processes hold, `load` the share of full load that it has warmed up to; None outside of
    a process that has the chip.
    """

    counters: Mapping[str, int] | None
    software: Mapping[str, str | None]
    temperature_c: float | None = None
    memory_used_bytes: int | None = None
    load: float | None = None


def read(chip: Chip, number: int, now: Now) -> Reading:
    """Return the reading of one chip."""
    return _through_library(chip, number, now) if chip.management == "libdcmi" else _in_words(chip, number, now)


def _injected(chip: Chip, number: int) -> dict[str, Any]:
    injected: dict[str, Any] = {}
    for defect in chip.defects:
        if defect.kind == "health" and defect.on_chip(number):
            injected |= defect.set
    return injected


def _in_words(chip: Chip, number: int, now: Now) -> Reading:
    report = Report(SOURCE, VENDOR, number)
    injected = _injected(chip, number)
    codes = str(injected.get("codes", "")).split()
    throttle = injected.get("throttle")
    report.record("model", chip.model or f"simulated {chip.name}")
    report.record("serial", f"SIM-{chip.name}-{number}")
    report.record("firmware", now.software.get("firmware"))
    report.record("versions", dict(now.software))
    report.record("health", str(injected.get("health", "OK")))
    report.record("fault_codes", [npu_smi.of_code(code) for code in codes])
    report.record("temperatures_c", {"chip": now.temperature_c})
    if isinstance(power := injected.get("power_w"), int | float):
        report.record("power_w", float(power))
    report.record("memory_used_bytes", now.memory_used_bytes)
    report.record("memory_total_bytes", chip.memory_bytes)
    report.record("throttle_reasons", [] if throttle is None else [str(throttle)])
    errors = {name: count for name, count in (now.counters or {}).items() if not name.startswith("link")}
    links = {name: count for name, count in (now.counters or {}).items() if name.startswith("link")}
    report.record("memory_errors", errors)
    report.record("link_errors", links)
    report.record("processes", [])
    return report.reading()


def _through_library(chip: Chip, number: int, now: Now) -> Reading:
    """Read the chip through the reader of Ascends, in a process that is killed when its time is up."""
    chips = [_state(chip, other, now if other == number else None).to_json() for other in range(chip.chips)]
    gathered = gather.gather(
        sources=(sources.SIMULATED,), settings={_CHIPS: json.dumps(chips)}, glance_limit_s=gather.PATIENT_LIMIT_S,
    )  # fmt: skip
    own = next((reading for reading in gathered.devices if reading.index == number), None)
    return with_problems(own or Reading(sources.SIMULATED.vendor, number), gathered.problems)


def _state(chip: Chip, number: int, now: Now | None) -> ChipState:
    """The state of a chip; of another process's, as it is at rest."""
    injected = _injected(chip, number)
    levels = {word.lower(): level for level, word in ascend_dcmi.HEALTH_WORDS.items()}
    counters = (chip.counters if now is None else now.counters) or {}
    load = 0.0 if now is None else now.load or 0.0
    power = injected.get("power_w")
    faults = {
        str(defect.set["function"]): {name: value for name, value in defect.set.items() if name != "function"}
        for defect in chip.defects if defect.kind == "management-library" and defect.on_chip(number)
    }  # fmt: skip
    return ChipState(
        name=chip.name,
        serial=f"SIM-{chip.name}-{number}",
        health=levels.get(str(injected.get("health", "ok")).lower(), len(levels)),  # another word is none of its levels
        codes=tuple(int(code, 16) for code in str(injected.get("codes", "")).split()),
        temperature_c=45.0 if now is None or now.temperature_c is None else now.temperature_c,
        power_w=float(power) if isinstance(power, int | float) else _IDLE_W + _LOAD_W * load,
        utilisation_percent=100.0 * load,
        memory_total_bytes=chip.memory_of(number),
        memory_used_bytes=0 if now is None else now.memory_used_bytes or 0,
        corrected=counters.get("corrected", 0),
        uncorrected=counters.get("uncorrected", 0),
        link_errors=counters.get("link_errors", 0),
        link_retries=counters.get("link_retries", 0),
        driver=(chip.software if now is None else now.software).get("driver"),
        faults=faults,
    )


def glance(context: Context) -> list[Reading]:
    """Read the library of the machine that the settings describe. Raises SourceError."""
    chips = [ChipState.from_json(state) for state in json.loads(context.settings[_CHIPS])]
    return ascend_dcmi.read(dcmi_bindings.initialised(SimulatedLibrary(chips)))
