"""What an assessment of several hosts says about them, and which of a fleet's pairs are slow beside the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from readiness.datamodel import (
    AcceleratorAssessment,
    Assessment,
    Evidence,
    Finding,
    HostLoad,
    Level,
    Measurement,
    Outcome,
    Status,
    Use,
)
from readiness.fleet.links import attribution
from readiness.fleet.links.evidence import TrialEvidence, from_assessment, judge_trials
from tests.support import build

HOSTS = ("a", "b")


def matrix(gbps: float | None, chips: tuple[str, ...] = ("cpu:0", "b/cpu:0")) -> dict[str, Any]:
    return {
        "shape": "pairs/1", "what": "a large message there and back", "unit": "GB/s", "chips": list(chips),
        "values": [[None if one == other else gbps for other in chips] for one in chips],
    }  # fmt: skip


def piece(check: str = "multichip.bandwidth", **changes: Any) -> Evidence:
    measured = (
        Measurement("completed", 1),
        Measurement("latency_us", 12.0, {"op": "send_recv", "group": "2", "bytes": "4"}),
        Measurement("latency_us", 99.0, {"op": "all_reduce", "group": "2", "bytes": "8"}),
        Measurement("tail_ratio", 3.0, {"host": "excluded"}), Measurement("tail_ratio", 7.0, {"host": "included"}),
    )  # fmt: skip
    return Evidence(check, Status.MEASURED, measurements=measured, rows=(matrix(1.5),), **changes)


def finding(**changes: Any) -> Finding:
    failed: dict[str, Any] = {
        "requirement": "links-right", "use": Use.TRAINING, "level": Level.MUST, "outcome": Outcome.FAIL, "limit": "at most 0",
        "weight": 1.0, "check": "multichip.links", "measure": "wrong_elements", "reason": "7, at most 0", "title": "Sums are exact",
    }  # fmt: skip
    return Finding(**{**failed, **changes})


def assessment(*pieces: Evidence, findings: tuple[Finding, ...] = ()) -> Assessment:
    return build.assessment(AcceleratorAssessment(build.facts(), evidence=pieces, findings=findings, verdicts={}))


def test_a_sound_pair_has_its_figures_and_no_fault() -> None:
    found = from_assessment(assessment(piece(), piece("driver.copies")), HOSTS)
    assert found == TrialEvidence(HOSTS, gbps=1.5, latency_us=12.0, tail_ratio=3.0)


def test_only_pairs_of_chips_on_two_hosts_count_and_the_slowest_of_them() -> None:
    chips = ("cuda:0", "cuda:1", "b/cuda:0", "b/cuda:1")
    values = [[None, 0.1, 2.0, 3.0], [0.1, None, 1.2, 3.0], [2.0, 1.2, None, 0.2], [3.0, 3.0, 0.2, None]]
    slower = {**matrix(1.0, chips), "values": [[None if v is None else v / 2 for v in row] for row in values]}
    both = replace(piece(), rows=({**matrix(1.0, chips), "values": values}, slower, {"other": 1}))
    assert from_assessment(assessment(both), HOSTS).gbps == 1.2


@pytest.mark.parametrize(
    ("changes", "is_fault"),
    [
        ({}, True),
        ({"level": Level.SHOULD, "measure": "tail_ratio", "check": "multichip.bandwidth"}, True),
        ({"level": Level.SHOULD, "measure": "straggler_share"}, False),
        ({"outcome": Outcome.UNKNOWN}, False),
        ({"outcome": Outcome.PASS}, False),
        ({"check": "parity.matmul"}, False),
        ({"level": Level.INFO}, False),
    ],
)
def test_what_the_profile_calls_broken_is_a_fault(changes: dict[str, Any], is_fault: bool) -> None:
    found = from_assessment(assessment(piece(), findings=(finding(**changes),)), HOSTS)
    assert bool(found.faults) is is_fault
    assert judge_trials([found])[0].outcome is (attribution.Outcome.BAD if is_fault else attribution.Outcome.GOOD)


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ((), "no collective of b was measured"),
        ((piece("parity.matmul"),), "no collective of b was measured"),
        ((replace(piece(), rows=()),), "no collective of b was measured"),
        ((Evidence("multichip.links", Status.TIMEOUT, reason="60 s were not enough"),), "multichip.links: 60 s were not enough"),
        ((piece(), Evidence("multichip.drills", Status.CRASHED)), "multichip.drills: crashed"),
        ((Evidence("multichip.links", Status.SKIPPED, reason="no collective library"),), "no collective of b was measured"),
    ],
)
def test_what_was_not_measured_is_unknown(pieces: tuple[Evidence, ...], says: str) -> None:
    found = from_assessment(assessment(*pieces), HOSTS)
    assert found.problem == says
    assert judge_trials([found])[0].outcome is attribution.Outcome.UNKNOWN


def test_a_pair_without_a_rate_is_unknown_and_a_group_without_one_is_not() -> None:
    found = from_assessment(assessment(replace(piece(), rows=(matrix(None),))), HOSTS)
    assert judge_trials([found])[0].outcome is attribution.Outcome.UNKNOWN
    group = TrialEvidence(("a", "b", "c"))
    assert judge_trials([group])[0].outcome is attribution.Outcome.GOOD


def pairs(*gbps: float, latency_us: float = 10.0) -> list[TrialEvidence]:
    return [TrialEvidence((f"h{number}", f"g{number}"), gbps=one, latency_us=latency_us) for number, one in enumerate(gbps)]


def outcomes(found: list[TrialEvidence]) -> list[str]:
    return [one.outcome.value for one in judge_trials(found)]


def test_a_pair_is_slow_beside_the_others_of_the_fleet() -> None:
    assert outcomes(pairs(10, 10, 9, 8, 7, 2)) == ["good"] * 5 + ["bad"]
    assert outcomes(pairs(10, 10, 2, 2, 2, 2)) == ["good", "good", "bad", "bad", "bad", "bad"], "half may be slow"
    assert outcomes(pairs(2, 2, 2)) == ["good"] * 3
    late = [*pairs(10, 10, 10), TrialEvidence(("x", "y"), gbps=10, latency_us=100)]
    assert outcomes(late) == ["good", "good", "good", "bad"]
    assert judge_trials(late)[-1].reasons == ("late: 100 us, where a tenth of all pairs take at most 10 us",)


def test_slowness_on_a_busy_host_is_unknown_unless_no_load_explains_it() -> None:
    busy = [replace(one, busy=True) for one in pairs(3.0, 0.1)]
    found = judge_trials([*pairs(10, 10, 10), *busy])
    assert [one.outcome.value for one in found] == ["good", "good", "good", "unknown", "bad"]
    assert "while other work kept h0 busy" in found[3].reasons[0]


def test_a_run_says_whether_other_work_kept_its_host_busy() -> None:
    loaded = replace(piece(), host_load=HostLoad(others=0.9, stolen=0.0, waited=0.5), seconds=3.0)
    assert from_assessment(assessment(loaded), HOSTS).busy
    assert not from_assessment(assessment(piece()), HOSTS).busy


def test_wrong_data_is_a_fault_on_a_busy_host_too() -> None:
    found = TrialEvidence(HOSTS, faults=("Sums are exact: 7, at most 0",), busy=True)
    assert judge_trials([found, *pairs(10, 10)])[0].outcome is attribution.Outcome.BAD
