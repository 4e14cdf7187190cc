"""driver.health and driver.under_load: seen well, seen ill, and unable to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from readiness.accelerators import sim
from readiness.accelerators.base import Accelerator
from readiness.accelerators.readers import npu_smi
from readiness.accelerators.readers.contract import Reading, Report
from readiness.datamodel import AcceleratorFacts, Evidence, Status
from readiness.probes.driver import under_load
from readiness.simulator import machine_file
from readiness.simulator.faults import kinds
from tests.support import run_check, value, values
from tests.support.simulator import chip, defect, inside
from tests.unit.checks.driver.fakes import FakeStack, fake

ACTIONS = {"retry", "check-config", "update-software", "contact-vendor", "reset-device", "reboot", "replace", "gather-evidence"}


class ReportingStack(FakeStack):
    """A stack whose management library says this."""

    def __init__(self, reading: Reading | None, counts: Sequence[Mapping[str, int]] = (), reasons: Sequence[str] | None = None) -> None:
        super().__init__()
        self._reading = reading
        self._counts = list(counts)
        self._reasons = reasons

    def reading(self, facts: AcceleratorFacts) -> Reading | None:
        return self._reading

    def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:
        if not self._counts:
            return None
        return self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]

    def throttle_reasons(self, facts: AcceleratorFacts) -> Sequence[str] | None:
        return self._reasons


def report(**fields: Any) -> Reading:
    made = Report("tool", "Huawei", 0)
    for name, what in fields.items():
        made.record(name, what)
    return made.reading()


def evidence(reading: Reading | None) -> Evidence:
    return run_check("driver.health", fake(ReportingStack(reading)))


def test_a_device_that_is_well() -> None:
    found = evidence(report(health="OK", fault_codes=[], memory_errors={"hbm_uncorrected_volatile": 0}))
    assert value(found, "fatal_faults") == 0
    assert value(found, "unknown_codes") == 0
    assert {dict(one.labels)["action"] for one in found.measurements if one.name == "faults"} == ACTIONS
    assert values(found, "faults") == [0] * len(ACTIONS)
    assert value(found, "fields_read") == 3 / 20


@pytest.mark.parametrize(
    ("fields", "fatal", "action"),
    [
        ({"health": "Alarm", "fault_codes": [npu_smi.of_code("80E18005")]}, 2, "reset-device"),
        ({"health": "OK", "fault_codes": [npu_smi.of_code("80E18402")]}, 1, "replace"),
        ({"health": "Warning"}, 0, "check-config"),
        ({"memory_errors": {"hbm_uncorrected_volatile": 2}}, 0, "reset-device"),
        ({"memory_errors": {"remapped_rows_failure": 1}}, 1, "replace"),
        ({"health": "OK", "throttle_reasons": ["hw thermal slowdown"]}, 0, "check-config"),
    ],
)
def test_what_is_wrong_is_counted_by_its_action(fields: Mapping[str, Any], fatal: int, action: str) -> None:
    found = evidence(report(**fields))
    assert value(found, "fatal_faults") == fatal
    assert value(found, "faults", action=action) >= 1
    assert sum(values(found, "faults")) == value(found, "faults", action=action)
    assert any(row.get("action") == action for row in found.rows)


def test_without_a_source_nothing_is_reported() -> None:
    found = evidence(None)
    assert found.status is Status.SKIPPED
    assert not found.measurements


def test_sources_that_all_refuse_are_named() -> None:
    found = evidence(Reading("Huawei", problems={"npu-smi": "did not answer within 2 s"}))
    assert (found.status, found.reason) == (Status.SKIPPED, "npu-smi: did not answer within 2 s")


def test_health_is_unknown_from_a_source_without_health_fields() -> None:
    found = evidence(report(power_w=90.0, model="Ascend 910B3"))
    assert found.status is Status.MEASURED
    assert [one.name for one in found.measurements] == ["fields_read"]


def test_a_fatal_fault_is_reported_without_a_health_word() -> None:
    reading = Reading("NVIDIA", 0, sources=("sysfs",), problems={"NVML": "Driver/library version mismatch"})
    found = evidence(reading)
    assert value(found, "fatal_faults") == 1
    assert values(found, "faults") == []


def test_unknown_health_words_are_counted() -> None:
    found = evidence(report(health="Gut", fault_codes=[npu_smi.of_code("A4025021")]))
    assert value(found, "unknown_codes") == 2
    assert value(found, "faults", action="contact-vendor") == 2


def test_every_field_has_its_row_with_a_reason_or_a_value() -> None:
    rows = [row for row in evidence(report(health="OK")).rows if "field" in row]
    assert len(rows) == 20
    assert all(row["why"] for row in rows if row["state"] != "present")


def simulated(name: str, number: int = 0) -> Accelerator:
    facts = sim.facts(machine_file.find(name, kinds()))
    return Accelerator(facts[number], sim.STACK, seed=7)


def test_simulated_chips_report_their_seeded_faults() -> None:
    assert value(run_check("driver.health", simulated("healthy")), "fatal_faults") == 0
    ill = run_check("driver.health", simulated("health"))
    assert value(ill, "fatal_faults") == 3
    assert value(ill, "faults", action="reset-device") == 3
    assert value(run_check("driver.health", simulated("ascend-as-reported", 3)), "faults", action="check-config") == 3
    assert sum(values(run_check("driver.health", simulated("ascend-as-reported", 0)), "faults")) == 0


def _loaded(name: str) -> Any:
    def run() -> Any:
        found = run_check("driver.under_load", simulated(name), seconds=1.0)
        assert found.status is Status.MEASURED, found.reason
        return {f"{one.name} {sorted(dict(one.labels).items())}": one.value for one in found.measurements}

    return inside(machine_file.find(name, kinds()), run)


CORRECTED = "errors_per_s [('kind', 'corrected'), ('phase', '{}')]"


def test_counters_that_move_under_load_only() -> None:
    ill = _loaded("counter-under-load")
    assert ill[CORRECTED.format("load")] > 100  # some 17,000 on a chip that is at work all the time
    assert ill[CORRECTED.format("idle")] == 0
    well = _loaded("healthy")
    assert well[CORRECTED.format("load")] == 0
    assert well["throttled_share []"] == 0


def test_a_counter_that_moves_under_load_only_is_still_afterwards() -> None:
    tried = chip(defect("counter-under-load", options={"corrected": 5}))
    assert sim.STACK.counters(sim.facts(tried)[0]) == {"uncorrected": 0, "corrected": 0, "link_errors": 0, "link_retries": 0}


def test_throttling_that_is_a_fault() -> None:
    count = {"uncorrected": 0}
    hot = run_check("driver.under_load", fake(ReportingStack(None, [count], ["hw thermal slowdown", "sw power cap"])), seconds=0.6)
    assert value(hot, "throttled_share") == 1
    capped = run_check("driver.under_load", fake(ReportingStack(None, [count], ["sw power cap"])), seconds=0.6)
    assert value(capped, "throttled_share") == 0
    assert any(row.get("throttle_reason") == "sw power cap" for row in capped.rows)


def test_a_process_that_was_kept_from_running_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.1, 90.0, 90.0])
    monkeypatch.setattr(under_load, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    span = under_load.load(fake(ReportingStack(None, reasons=["hw thermal slowdown"])), 1.0)
    assert (span.samples, span.throttled, span.seconds) == (1, {"hw thermal slowdown": 1}, 90.0)


def test_where_neither_can_be_read_nothing_is_reported() -> None:
    found = run_check("driver.under_load", fake(ReportingStack(None)), seconds=0.6)
    assert found.status is Status.SKIPPED


def test_counters_that_are_lost_under_load_are_no_zero() -> None:
    class Losing(ReportingStack):
        def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:
            self.reads = getattr(self, "reads", 0) + 1
            return {"corrected": 0} if self.reads < 5 else None

    found = run_check("driver.under_load", fake(Losing(None)), seconds=0.6)
    assert values(found, "errors_per_s", phase="idle") == [0]
    assert values(found, "errors_per_s", phase="load") == []
