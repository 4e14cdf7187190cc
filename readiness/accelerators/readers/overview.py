"""Readings at a glance: a line for each device, its faults, and all of its fields. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from readiness.accelerators.readers import device_matching, health
from readiness.accelerators.readers.contract import Reading, State
from readiness.accelerators.readers.fault_codes import Severity
from readiness.accelerators.readers.gather import Gathered
from readiness.datamodel import AcceleratorFacts, Action

HEADERS = ("device", "model", "state", "vendor says", "C", "W", "memory GiB", "busy %", "read from")


def state(reading: Reading) -> str:
    """Return `fault`, `degraded`, `ok`, or `unknown` if no source reports health."""
    severities = {finding.severity for finding in health.judge(reading)}
    if Severity.FATAL in severities:
        return "fault"
    if Severity.DEGRADED in severities:
        return "degraded"
    return "ok" if reading.health_is_known else "unknown"


def names(
    readings: Sequence[Reading], accelerators: Sequence[AcceleratorFacts], hiding: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return each device's name: torch's id if torch has it, else the vendor and the vendor's number."""
    ids: dict[int, str] = {}
    for facts in accelerators:
        candidates = [one for one in readings if one.vendor == facts.vendor]
        own = device_matching.of_device(candidates, facts, hiding.get(facts.stack, ()))
        if own is not None:
            ids[readings.index(own)] = facts.id
    return [
        ids.get(number) or f"{reading.vendor} {reading.value('pci_address') if reading.index is None else reading.index}"
        for number, reading in enumerate(readings)
    ]


def row(name: str, reading: Reading) -> tuple[str, ...]:
    """The line of a device, `?` for what cannot be read."""
    used, total = reading.value("memory_used_bytes"), reading.value("memory_total_bytes")
    hottest = max((value for value in (reading.value("temperatures_c") or {}).values()), default=None)
    return (
        name, str(reading.value("model") or "?"), state(reading), str(reading.value("health") or "?"), _number(hottest),
        _number(reading.value("power_w")),
        f"{_gib(used)} of {_gib(total)}", _number(reading.value("utilisation_percent")), ", ".join(reading.sources),
    )  # fmt: skip


def faults(name: str, reading: Reading) -> Iterator[str]:
    """A line for each fault."""
    for finding in health.judge(reading):
        if finding.action is not Action.NONE:
            yield f"{name}: {finding.text} ({finding.severity.value}; {finding.action.value}; {finding.source})"


def host_faults(gathered: Gathered) -> Iterator[str]:
    """A line for each fault that keeps devices from being listed."""
    for finding in health.of_problems(gathered.problems):
        yield f"{finding.text} ({finding.severity.value}; {finding.action.value}; {finding.source})"


def details(reading: Reading) -> Iterator[tuple[str, str, str]]:
    """Return every field: its value, or the reason why there is none, and its source."""
    for name, field in reading.complete().fields.items():
        if field.state is State.PRESENT:
            yield name, _plain(field.value), field.source
        else:
            yield name, f"{field.state.value}: {field.reason}", field.source


def to_json(named: Sequence[tuple[str, Reading]], gathered: Gathered) -> dict[str, Any]:
    """Return the overview as JSON."""
    return {
        "devices": [
            {
                "device": name, "state": state(reading), **reading.complete().to_json(),
                "faults": [
                    {
                        "text": finding.text, "severity": finding.severity.value, "action": finding.action.value,
                        "source": finding.source, "known": finding.known,
                    }
                    for finding in health.judge(reading)
                ],
            }
            for name, reading in named
        ],
        "problems": dict(gathered.problems),
        "faults": [finding.text for finding in health.of_problems(gathered.problems)],
    }  # fmt: skip


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(map(_plain, value)) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: Any) -> str:
    return "?" if value is None else f"{value:.0f}"


def _gib(value: Any) -> str:
    return "?" if value is None else f"{value / 2**30:.1f}"
