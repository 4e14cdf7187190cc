"""The arithmetic of a soak against published figures and against itself."""

from __future__ import annotations

import math

import pytest

from readiness.datamodel import Measurement, Row
from readiness.probes.soak import measurements
from readiness.probes.soak.mtbf import FaultBounds, Job, needed_chip_hours, training_time_share
from readiness.probes.soak.poisson_bound import probability_of_at_most, upper_bound
from readiness.probes.soak.soak_log import SoakTotals

JOB = Job(chips=16384, days=54, checkpoint_s=30, recovery_s=600)


@pytest.mark.parametrize(("faults", "mean"), [(0, 2.996), (1, 4.744), (2, 6.296), (3, 7.754), (4, 9.154)])
def test_bounds_are_those_of_the_tables(faults: int, mean: float) -> None:
    assert upper_bound(faults) == pytest.approx(mean, abs=6e-4)
    assert probability_of_at_most(faults, upper_bound(faults)) == pytest.approx(0.05, rel=1e-9)


def test_the_bound_of_none_is_a_logarithm_and_many_come_near_their_number() -> None:
    assert upper_bound(0) == pytest.approx(-math.log(0.05), rel=1e-12)
    assert upper_bound(0, confidence=0.5) == pytest.approx(math.log(2), rel=1e-12)
    for count in (10, 419, 5000):
        assert count < upper_bound(count) < count + 2 * math.sqrt(count) + 3


@pytest.mark.parametrize(
    ("chips", "hours", "chip_h", "job_h"),
    [(8, 24, 64, 0.004), (64, 24, 513, 0.03), (512, 24, 4102, 0.25), (1024, 72, 24611, 1.5)],
)
def test_a_soak_without_a_fault_proves_so_much_and_no_more(chips: int, hours: float, chip_h: float, job_h: float) -> None:
    bounds = FaultBounds(chips * hours, 0, JOB)
    assert bounds.chip_mtbf_h == pytest.approx(chip_h, abs=0.6)
    assert bounds.job_mtbf_h == pytest.approx(job_h, rel=0.05)


def test_an_hour_on_eight_chips_proves_less_than_three_hours_for_each() -> None:
    assert FaultBounds(8, 0, JOB).chip_mtbf_h == pytest.approx(2.7, abs=0.05)


def test_llama_3_as_published() -> None:
    """419 unexpected interruptions of 16,384 chips in 54 days."""
    bounds = FaultBounds(16384 * 54 * 24, 419, JOB)
    assert pytest.approx(50_677, abs=5) == 16384 * 54 * 24 / 419
    assert 2.81 < bounds.job_mtbf_h < 16384 * 54 * 24 / 419 / 16384 < 3.1
    assert upper_bound(0) * 50_677 == pytest.approx(151_815, abs=20)
    assert needed_chip_hours(0, 1024, 7 * 24) == pytest.approx(743_510, abs=5)


@pytest.mark.parametrize(("chips", "recovery_s", "share"), [(16384, 60, 0.92), (16384, 600, 0.87), (16384, 1800, 0.77), (1024, 60, 0.98)])
def test_the_share_of_time_that_training_keeps(chips: int, recovery_s: float, share: float) -> None:
    assert training_time_share(50_677 / chips, 30, recovery_s) == pytest.approx(share, abs=0.006)


def test_the_share_falls_with_every_loss_and_ends_at_nothing() -> None:
    assert training_time_share(10, 30, 60) > training_time_share(10, 30, 600) > training_time_share(1, 30, 600)
    assert training_time_share(10, 30, 60) > training_time_share(10, 120, 60)
    assert training_time_share(0.001, 30, 600) == training_time_share(0.0, 30, 60) == 0
    assert training_time_share(math.inf, 30, 60) == 0  # of no fault and no bound nothing follows


def test_of_no_exposure_nothing_follows() -> None:
    bounds = FaultBounds(0, 0, JOB)
    assert (bounds.chip_mtbf_h, bounds.job_mtbf_h, bounds.uninterrupted(24), bounds.training_time_share) == (0, 0, 0, 0)


def account(chips: int, hours: float, **begun: object) -> SoakTotals:
    """A soak of so many chips as its file would tell it."""
    told = SoakTotals()
    told.add({
        "kind": "begun", "chips": [f"npu:{number}" for number in range(chips)], "ranks": chips, "scope": "tried",
        "labels": {"ranks": str(chips), "chips": "several", "world": "all"}, "job_chips": 1024, "job_days": 7.0,
        "checkpoint_s": 30.0, "recovery_s": 0.0, **begun,
    })  # fmt: skip
    told.add({"kind": "session", "spent_s": 0.0})
    told.add({"kind": "rounds", "rounds": 1000, "exposure_s": 3600 * hours, "spent_s": 3600 * hours})
    told.add({"kind": "ended", "why": "", "spent_s": 3600 * hours})
    return told


def measured(told: SoakTotals) -> dict[str, Measurement]:
    found = [item for item in measurements.measurements(told) if isinstance(item, Measurement) and item.labels.get("cause", "all") == "all"]
    assert len({item.name for item in found}) == len(found)
    return {item.name: item for item in found}


def test_the_text_of_a_day_on_eight_chips_lists_proofs_and_gaps() -> None:
    told = account(8, 24)
    found = measured(told)
    assert found["faults"].value == 0
    assert found["exposure_chip_hours"].value == 192
    assert found["chip_mtbf_h"].value == pytest.approx(64.09, abs=0.01)
    assert found["exposure_share"].value == pytest.approx(192 / 743_510, rel=1e-3)
    assert found["uninterrupted_day"].value < 1e-6
    assert "training_time_share" not in found  # nothing failed, so nobody knows how long it takes to come back
    (row,) = [item.cells for item in measurements.measurements(told) if isinstance(item, Row) and "proves" in item.cells]
    assert row["proves"] == (
        "8 chips worked for 24 hours (192 chip-hours) without a fault: with 95% confidence one of these chips works for at least"
        " 64.1 hours between faults, and 1024 of them together for at least 3.76 minutes"
    )
    assert row["does_not_prove"].startswith(
        "that 1024 chips run for 7 days without an interruption, at even odds: that needs 743,510 chip-hours with no"
        " fault, 3,872 times as many"
    )


def test_faults_are_reported_by_cause_with_their_most_frequent_chip() -> None:
    told = account(8, 24)
    for cause, chips, at_s in (("died", ["npu:3"], 100), ("behind", ["npu:3", "npu:5"], 130), ("wrong sum", ["npu:3", "npu:1"], 9000)):
        told.add({"kind": "fault", "cause": cause, "what": f"{cause} it did", "chips": chips, "round": 1, "spent_s": at_s})
    told.add({"kind": "recovered", "seconds": 42.0, "spent_s": 140.0})
    found = measured(told)
    assert found["faults"].value == 3
    assert "npu:3 took part in 3 of 3" in (found["faults"].about or "")
    assert found["fault_events"].value == 2  # the first two came together
    assert found["host_mtbf_h"].value == pytest.approx(24 / 6.296, rel=1e-3)
    assert found["chip_mtbf_h"].value == pytest.approx(192 / 7.754, rel=1e-3)
    assert found["recovery_s"].value == 42
    assert "42 s to come back (measured)" in (found["training_time_share"].about or "")
    by_cause = {item.labels["cause"]: item.value for item in measurements.measurements(told) if isinstance(item, Measurement) and item.name == "faults"}
    assert by_cause == {"all": 3, "died": 1, "behind": 1, "wrong sum": 1}


@pytest.mark.parametrize(
    ("late", "kept"),
    [
        ({}, 1.0),
        ({"round_s": 1.4}, 0.5),  # 0.5 s of the round are the operations'
        ({"operations": 5}, 0.5),  # as long as ever, and half of them done
    ],
)
def test_the_pace_that_is_kept_is_of_work_and_not_of_rounds(late: dict[str, float], kept: float) -> None:
    told = account(8, 24)
    for number in range(100):
        first_of_its_world = number % 7 == 3
        sample: dict[str, float] = {"round_s": 0.95, "operations": 10, "operations_s": 0.5}
        if number >= 60:
            sample |= late
        if first_of_its_world:
            sample |= {"round_s": 0.2, "operations": 0, "operations_s": 0.0}
        told.add({"kind": "sample", "spent_s": float(number), "step": number, "loss": 1.0, **sample})
    assert measured(told)["pace_kept"].value == pytest.approx(kept)


def test_a_recovery_time_that_was_set_goes_before_the_measured_one() -> None:
    told = account(1024, 720, recovery_s=600.0)
    share = measured(told)["training_time_share"]
    assert "600 s to come back (set)" in (share.about or "")
    assert share.value == pytest.approx(training_time_share(1024 * 720 / upper_bound(0) / 1024, 30, 600))
    assert "more than that" not in measurements.not_proven(told, FaultBounds(1024 * 720, 0, Job(1024, 7, 30, 600)))
    assert measurements.not_proven(told, FaultBounds(1024 * 7200, 0, Job(1024, 7, 30, 600))).startswith("more than that 1024 chips")


def test_an_interrupted_soak_is_incomplete_and_an_empty_one_measures_nothing() -> None:
    told = account(8, 24)
    told.ended = None
    assert "completed" not in measured(told)
    assert list(measurements.measurements(SoakTotals())) == []
