"""throughput.copies: seen on a healthy chip, on one whose copies are slow or wrong, with slots of all kinds, and without."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.accelerators.pcie import Slot
from readiness.datamodel import Evidence, Status
from readiness.documents.assessment import evidence_from_json, evidence_to_json
from tests.support import cpu, run_check, value, values
from tests.support.simulator import chip, defect, inside


def crossed(*defects: Any, slot: Slot | None = None, seed: int = 7, waited: float = 0.0, **settings: Any) -> Evidence:
    """The evidence on a simulated chip, behind a slot if one is given; for `waited` of the time the process waited."""

    def run() -> Any:
        import time

        from readiness import accelerators
        from readiness.probes.throughput import timing

        timing.waited_s = lambda: waited * time.perf_counter()
        from readiness.accelerators.base import Accelerator
        from readiness.accelerators.sim import facts

        stack = accelerators.stack("sim")
        stack.slot = lambda facts: slot  # type: ignore[method-assign]
        accelerator = Accelerator(facts(machine)[0], stack, seed=seed)
        return evidence_to_json(run_check("throughput.copies", accelerator, **{"mib": 8, "budget_s": 0.05, **settings}))

    machine = chip(*defects, memory_gib=1.0)
    evidence = evidence_from_json(inside(machine, run, seed=seed))
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_chip_is_measured_both_ways(seed: int) -> None:
    evidence = crossed(seed=seed)
    for memory in ("pageable", "pinned"):
        for direction in ("to device", "to host"):
            assert value(evidence, "bandwidth_gbps", memory=memory, direction=direction) > 0
            assert value(evidence, "share_of_memory", memory=memory, direction=direction) > 0.01, "what a busy host leaves of it"
    assert value(evidence, "wrong_bytes") == 0
    for name in ("share_of_slot", "slot_lanes_share", "slot_pace_share"):
        assert values(evidence, name) == [], "of a slot that nobody told of something is told"


@pytest.mark.parametrize(("op", "slow", "quick"), [("copy::to_device", "to device", "to host"), ("copy::to_host", "to host", "to device")])
def test_slow_copies_are_slow_in_their_direction(op: str, slow: str, quick: str) -> None:
    evidence = crossed(defect("slow", op, severity=0.02))
    assert max(values(evidence, "share_of_memory", direction=slow)) < 0.1
    assert min(values(evidence, "share_of_memory", direction=quick)) > 2 * max(values(evidence, "share_of_memory", direction=slow))


def test_of_a_process_that_the_host_kept_waiting_nothing_but_the_bytes_is_known() -> None:
    evidence = crossed(waited=0.9)
    assert values(evidence, "bandwidth_gbps") == values(evidence, "share_of_memory") == []
    assert value(evidence, "wrong_bytes") == 0
    said = [row["bandwidth_gbps"] for row in evidence.rows if "direction" in row]
    assert len(said) == 4
    assert all(str(one).startswith("not known: the host kept this process waiting for ") for one in said)
    assert len(values(crossed(waited=0.2), "bandwidth_gbps")) == 4


def test_bytes_that_change_on_the_way_are_counted() -> None:
    assert value(crossed(defect("bit-flip", "copy::to_host", severity=1)), "wrong_bytes") == 2


@pytest.mark.parametrize(
    ("slot", "lanes", "pace"),
    [(Slot(16, 32.0, 16, 32.0), 1, 1), (Slot(4, 16.0, 16, 16.0, 16), 0.25, 1), (Slot(16, 8.0, 16, 32.0), 1, 0.25)],
)
def test_a_slot_is_reported_with_lanes_and_speed(slot: Slot, lanes: float, pace: float) -> None:
    evidence = crossed(slot=slot)
    assert value(evidence, "slot_lanes_share") == lanes
    assert value(evidence, "slot_pace_share") == pace
    assert len(values(evidence, "share_of_slot")) == 2
    for direction in ("to device", "to host"):
        share = value(evidence, "share_of_slot", direction=direction, memory="pinned")
        assert share * slot.gbps >= value(evidence, "bandwidth_gbps", direction=direction, memory="pinned") * 0.999


def test_the_cpu_has_nothing_to_cross() -> None:
    evidence = run_check("throughput.copies", cpu())
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()
