"""Yardsticks on simulated chips: a healthy one, one that is slower by 15 %, one with less memory, and one whose timer is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.datamodel import Evidence, Status
from readiness.documents.assessment import evidence_from_json, evidence_to_json
from tests.support import run_check, value, values
from tests.support.simulator import chip, defect, inside


def seen(check: str, *defects: Any, **settings: Any) -> Evidence:
    """The evidence of a check on a simulated chip."""

    def run() -> Any:
        from readiness import accelerators
        from readiness.accelerators.base import Accelerator
        from readiness.accelerators.sim import facts

        return evidence_to_json(run_check(check, Accelerator(facts(machine)[0], accelerators.stack("sim")), **settings))

    machine = chip(*defects, memory_gib=0.5)
    evidence = evidence_from_json(inside(machine, run, seed=7))
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


PRODUCTS: dict[str, Any] = {"dtypes": ("float32",), "budget_s": 0.05, "largest": 512}


@pytest.mark.parametrize(("defects", "ratio"), [((), 1.0), ((defect("wrong-figure", "event::elapsed_time", severity=0.5),), 0.5)])
def test_a_timer_that_is_wrong_disagrees_with_the_hosts_clock(defects: tuple[Any, ...], ratio: float) -> None:
    assert value(seen("throughput.matmul", *defects, **PRODUCTS), "timer_ratio") == pytest.approx(ratio, rel=0.2)


def test_a_slow_chip_is_slower_than_the_host_or_the_host_is_busy() -> None:
    found = seen("throughput.matmul", defect("slow", "mm", severity=0.5), **PRODUCTS)
    shares = values(found, "share_of_host")
    said = [row for row in found.rows if "share_of_host" in row]
    assert bool(shares) is not bool(said), "either a share or why there is none"
    assert all(share < 0.75 for share in shares)


@pytest.mark.parametrize(("defects", "share"), [((), 1.0), ((defect("less-memory", severity=0.875),), 0.875)])
def test_less_memory_than_the_chip_is_sold_with(defects: tuple[Any, ...], share: float) -> None:
    found = seen("throughput.memory", *defects, device_mib=8, budget_s=0.02)
    assert value(found, "capacity_share") == pytest.approx(share)
