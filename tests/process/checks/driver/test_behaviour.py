"""driver.processes, driver.errors, driver.memory_statistics, driver.profiler and driver.dlpack: seen right, wrong, unable to tell."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readiness.accelerators import sim
from readiness.accelerators.base import Accelerator
from readiness.datamodel import Evidence, Measurement, Status
from readiness.documents.assessment import evidence_from_json, evidence_to_json
from readiness.host.temp_dirs import PURGED_VARIABLE
from readiness.probes.driver import dlpack, errors, lifecycle, sharing, timing
from readiness.simulator import machine_file
from readiness.simulator.faults import kinds
from readiness.simulator.machine_file import Chip, Condition
from tests.support import cpu, run_check, value, values
from tests.support.simulator import chip, defect, inside

QUICK: dict[str, Any] = {"seconds": 0.1, "hold_mib": 8, "within_s": 0.3}


def on(which: Chip | str, check: str, **settings: Any) -> Evidence:
    """The evidence of a check on a simulated chip, in a process of its own, as in a worker."""
    tried = machine_file.find(which, kinds()) if isinstance(which, str) else which

    def run() -> str:
        with tempfile.TemporaryDirectory() as folder:
            os.environ[PURGED_VARIABLE] = f"{folder}/swept-"
            return json.dumps(evidence_to_json(run_check(check, Accelerator(sim.facts(tried)[0], sim.STACK, seed=7), **settings)))

    return evidence_from_json(json.loads(inside(tried, run)))


def about(evidence: Evidence, name: str) -> str:
    (found,) = [one for one in evidence.measurements if one.name == name]
    return found.about or ""


# ------------------------------------------------------------------------------------------------------------ processes


def test_a_healthy_chip_is_shared_and_given_back() -> None:
    found = on("healthy", "driver.processes", **QUICK | {"within_s": 10.0})
    assert (value(found, "sharing_supported"), value(found, "sharing_failures")) == (1, 0)
    assert (value(found, "usable_after_kill"), value(found, "unreturned_bytes")) == (1, 0)
    assert value(found, "recovery_s") >= 0


def test_the_host_is_shared_and_its_memory_is_no_evidence() -> None:
    found = run_check("driver.processes", cpu(), **QUICK | {"within_s": 10.0})
    assert (value(found, "sharing_supported"), value(found, "sharing_failures"), value(found, "usable_after_kill")) == (1, 0, 1)
    assert values(found, "unreturned_bytes") == []


def test_memory_that_a_killed_process_keeps() -> None:
    found = on("memory-kept", "driver.processes", **QUICK)
    assert value(found, "usable_after_kill") == 1
    assert value(found, "unreturned_bytes") >= 8 * 2**20
    assert value(found, "sharing_failures") == 0


def test_a_chip_that_a_kill_makes_useless_and_one_that_needs_a_moment() -> None:
    found = on("wedged-after-kill", "driver.processes", **QUICK)
    assert value(found, "usable_after_kill") == 0
    assert "still waits for a process that has ended" in about(found, "usable_after_kill")
    assert values(found, "recovery_s") == []
    slow = on(chip(defect("wedged-after-kill", severity=1.5)), "driver.processes", **QUICK | {"within_s": 30.0})
    assert value(slow, "usable_after_kill") == 1
    assert value(slow, "recovery_s") > 0.5


def test_results_that_another_process_spoils() -> None:
    found = on("shared-device", "driver.processes", **QUICK | {"seconds": 0.5})
    assert value(found, "sharing_supported") == 1
    assert value(found, "sharing_failures") >= 1
    assert "results were wrong" in about(found, "sharing_failures")


def test_a_device_for_one_process_at_a_time_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = sharing.together

    def exclusive(*given: Any) -> list[sharing.WorkResult]:
        first, *others = honest(*given)
        return [first, *(sharing.WorkResult(False, "RuntimeError: the device is in use") for _ in others)]

    monkeypatch.setattr(sharing, "together", exclusive)
    found = run_check("driver.processes", cpu(), **QUICK | {"within_s": 10.0})
    assert (value(found, "sharing_supported"), value(found, "sharing_failures")) == (0, 0)
    assert "in use" in about(found, "sharing_supported")


def test_a_device_that_does_not_open_at_all_proves_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "open_once", lambda *_: lifecycle.Opening("no device", 0.1))
    found = run_check("driver.processes", cpu())
    assert (found.status, found.reason) == (Status.SKIPPED, "a process that is alone cannot use the device: no device")


# --------------------------------------------------------------------------------------------------------------- errors


def test_errors_are_raised_on_a_healthy_chip() -> None:
    found = on("healthy", "driver.errors")
    assert (value(found, "silent_errors"), value(found, "uncatchable_errors"), value(found, "unwritten")) == (0, 0, 0)
    assert {row["how"] for row in found.rows} == {"raised"}


def test_failures_that_nobody_is_told_of() -> None:
    found = on("silent-failure", "driver.errors")
    assert value(found, "silent_errors") >= 4
    assert "gather" in about(found, "silent_errors")
    assert value(found, "unwritten") == 0


def test_results_that_are_not_written() -> None:
    found = on(chip(defect("unwritten", "cumsum*")), "driver.errors")
    assert about(found, "unwritten") == "cumsum of 65537 rows"
    assert value(found, "unwritten") > 2**17


def _with_cases(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    monkeypatch.setattr(errors, "CASES", {"first": act})


def test_a_process_that_dies_or_hangs_in_place_of_raising(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_cases(monkeypatch, lambda *_: os.kill(os.getpid(), signal.SIGABRT))
    found = run_check("driver.errors", cpu())
    assert (value(found, "silent_errors"), value(found, "uncatchable_errors")) == (0, 1)
    assert "SIGABRT" in str(found.rows[0]["words"])
    _with_cases(monkeypatch, lambda *_: signal.pause())
    hung = run_check("driver.errors", cpu(), limit_s=1.0)
    assert value(hung, "uncatchable_errors") == 1
    assert "hung" in str(hung.rows[0]["words"])


def test_what_is_refused_before_it_can_fail_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError("gather is not implemented for this device")

    _with_cases(monkeypatch, refuse)
    found = run_check("driver.errors", cpu())
    assert values(found, "silent_errors") == values(found, "uncatchable_errors") == []
    assert value(found, "unwritten") == 0


# ---------------------------------------------------------------------------------------------- memory figures and times


def test_reported_memory_of_a_healthy_chip_and_of_one_that_reports_half() -> None:
    found = on("healthy", "driver.memory_statistics", mib=32)
    assert values(found, "error") == [0, 0, 0]
    half = on("wrong-figure", "driver.memory_statistics", mib=32, tries=2)
    assert [value(half, "error", source=source) for source in ("torch", "driver", "vendor")] == [0, 0.5, 0]


def test_a_source_without_a_figure_is_no_wrong_figure() -> None:
    class Silent(sim.Sim):
        def reading(self, facts: Any) -> Any:
            return None

    tried = chip()

    def run() -> list[Any]:
        found = run_check("driver.memory_statistics", Accelerator(sim.facts(tried)[0], Silent(), seed=7), mib=32)
        return [value(found, "supported", source="vendor"), values(found, "error", source="vendor"), value(found, "supported", source="driver")]

    assert inside(tried, run) == [0, [], 1]


def test_memory_of_the_host_is_everybodys() -> None:
    assert run_check("driver.memory_statistics", cpu()).status is Status.SKIPPED


def test_times_of_the_host_and_of_a_healthy_chip() -> None:
    found = run_check("driver.profiler", cpu(), size=256)
    assert (value(found, "supported", source="profiler"), value(found, "missing_calls")) == (1, 0)
    assert 0.5 < value(found, "time_ratio") < 1.25
    simulated = on("healthy", "driver.profiler", size=256)
    assert value(simulated, "supported", source="profiler") == 0  # it has none: a no, and nothing wrong
    assert 0.5 < value(simulated, "time_ratio", source="events") < 1.25


def test_events_that_report_a_fifth_of_the_time() -> None:
    found = on(chip(defect("wrong-figure", "event::elapsed_time", severity=0.2)), "driver.profiler", size=256)
    assert value(found, "time_ratio", source="events") < 0.25


def test_a_profile_that_leaves_calls_out(monkeypatch: pytest.MonkeyPatch) -> None:
    row = SimpleNamespace(key="aten::mm", count=1, cpu_time_total=10.0, device_time_total=0.0)
    monkeypatch.setattr(torch.profiler.profile, "key_averages", lambda _: [row])
    found = timing.by_profiler(cpu(), timing.Work(cpu(), 64, 0.01))
    assert found.calls == 1
    assert found.made >= 5


# --------------------------------------------------------------------------------------------------------------- DLPack


def test_tensors_are_exchanged_unchanged() -> None:
    for found in (run_check("driver.dlpack", cpu()), on("healthy", "driver.dlpack")):
        assert (value(found, "coverage"), value(found, "wrong")) == (1, 0)


def test_an_exchange_that_ignores_where_a_view_begins() -> None:
    found = on("dlpack-offset", "driver.dlpack")
    assert value(found, "wrong") >= 6
    assert "from the middle" in about(found, "wrong")
    assert "contiguous" not in about(found, "wrong")


def test_an_exchange_that_copies_and_one_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.dlpack, "from_dlpack", lambda tensor: tensor.clone())
    assert value(run_check("driver.dlpack", cpu()), "wrong") == 7 * len(dlpack.LAYOUTS)

    def refuse(tensor: torch.Tensor) -> None:
        raise ValueError("Unknown device type npu for Dlpack")

    monkeypatch.setattr(torch.utils.dlpack, "from_dlpack", refuse)
    found = run_check("driver.dlpack", cpu())
    assert value(found, "coverage") == 0
    assert values(found, "wrong") == []
    assert isinstance(found.measurements[0], Measurement)


# --------------------------------------------------------------------------------------------------------------- copies


def test_copies_that_convert_on_a_healthy_chip_on_one_that_spoils_them_and_on_one_that_refuses_them() -> None:
    pair = {"dtypes": ("float32", "bfloat16"), "rows": 17, "columns": 18, "large": 18}
    widening = Condition(of=("source",), dtype=("bfloat16",))
    refusing = chip(replace(defect("raise", "copy::to_host", dtype=("float32",)), when=widening))
    well, ill, unable = (on(which, "driver.copies", **pair) for which in ("healthy", "converting-copy", refusing))
    for memory in ("pageable", "pinned"):
        assert (value(well, "wrong_bytes", memory=memory), value(well, "coverage", memory=memory)) == (0, 1)
        assert value(ill, "wrong_bytes", memory=memory) > 0
        assert value(unable, "wrong_bytes", memory=memory) == 0
        assert 0.8 < value(unable, "coverage", memory=memory) < 1
    spoilt, refused = ({(row.get("dtype"), row.get("direction", "").partition(",")[0]) for row in one.rows} for one in (ill, unable))
    assert spoilt == refused == {("bfloat16 to float32", "to host")}
    assert {row["layout"] for row in ill.rows} == {"transposed", "strided", "offset"}
