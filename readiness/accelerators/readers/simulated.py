"""What the management library of a simulated chip says: in the words of Huawei's, with what its file plants."""

from __future__ import annotations

from collections.abc import Mapping

from readiness.accelerators.readers import npu_smi
from readiness.accelerators.readers.contract import Reading, Report
from readiness.simulator.machine_file import Chip

SOURCE, VENDOR = "simulator", "simulated"


def read(
    chip: Chip, number: int, *, counters: Mapping[str, int] | None, software: Mapping[str, str | None],
    temperature_c: float | None,
) -> Reading:  # fmt: skip
    """The reading of one chip. `counters` are its fault counters now, `software` its versions."""
    report = Report(SOURCE, VENDOR, number)
    said: dict[str, object] = {}
    for defect in chip.defects:
        if defect.kind == "health" and defect.on_chip(number):
            said |= defect.set
    codes = str(said.get("codes", "")).split()
    throttle = said.get("throttle")
    report.say("model", chip.model or f"simulated {chip.name}")
    report.say("serial", f"SIM-{chip.name}-{number}")
    report.say("firmware", software.get("firmware"))
    report.say("versions", dict(software))
    report.say("health", str(said.get("health", "OK")))
    report.say("fault_codes", [npu_smi.of_code(code) for code in codes])
    report.say("temperatures_c", {"chip": temperature_c})
    if isinstance(power := said.get("power_w"), int | float):
        report.say("power_w", float(power))
    report.say("memory_total_bytes", chip.memory_bytes)
    report.say("throttle_reasons", [] if throttle is None else [str(throttle)])
    errors = {name: count for name, count in (counters or {}).items() if not name.startswith("link")}
    links = {name: count for name, count in (counters or {}).items() if name.startswith("link")}
    report.say("memory_errors", errors)
    report.say("link_errors", links)
    report.say("processes", [])
    return report.reading()
