"""Management library of a simulated chip: in the words of Huawei's, with the seeded faults of its file."""

from __future__ import annotations

from collections.abc import Mapping

from readiness.accelerators.readers import npu_smi
from readiness.accelerators.readers.contract import Reading, Report
from readiness.simulator.machine_file import Chip

SOURCE, VENDOR = "simulator", "simulated"


def read(
    chip: Chip, number: int, *, counters: Mapping[str, int] | None, software: Mapping[str, str | None],
    temperature_c: float | None, memory_used_bytes: int | None = None,
) -> Reading:  # fmt: skip
    """The reading of one chip. `counters` are its fault counters now, `software` its versions,
    `memory_used_bytes` what all processes hold.
    """
    report = Report(SOURCE, VENDOR, number)
    injected: dict[str, object] = {}
    for defect in chip.defects:
        if defect.kind == "health" and defect.on_chip(number):
            injected |= defect.set
    codes = str(injected.get("codes", "")).split()
    throttle = injected.get("throttle")
    report.record("model", chip.model or f"simulated {chip.name}")
    report.record("serial", f"SIM-{chip.name}-{number}")
    report.record("firmware", software.get("firmware"))
    report.record("versions", dict(software))
    report.record("health", str(injected.get("health", "OK")))
    report.record("fault_codes", [npu_smi.of_code(code) for code in codes])
    report.record("temperatures_c", {"chip": temperature_c})
    if isinstance(power := injected.get("power_w"), int | float):
        report.record("power_w", float(power))
    report.record("memory_used_bytes", memory_used_bytes)
    report.record("memory_total_bytes", chip.memory_bytes)
    report.record("throttle_reasons", [] if throttle is None else [str(throttle)])
    errors = {name: count for name, count in (counters or {}).items() if not name.startswith("link")}
    links = {name: count for name, count in (counters or {}).items() if name.startswith("link")}
    report.record("memory_errors", errors)
    report.record("link_errors", links)
    report.record("processes", [])
    return report.reading()
