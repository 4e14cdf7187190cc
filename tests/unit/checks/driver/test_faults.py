"""driver.faults: seen quiet, seen moving, and unable to tell."""

from __future__ import annotations

import pytest

from readiness.accelerators.fault_counters import increases, kind_of
from readiness.datamodel import Status
from tests.support import run_check, value, values
from tests.unit.checks.driver.fakes import FakeStack, fake

BEFORE = {"ecc_uncorrected_volatile": 0, "ecc_corrected_volatile": 3, "pcie_replays": 40}


def test_quiet_counters() -> None:
    evidence = run_check("driver.faults", fake(FakeStack(counters=BEFORE), counters=BEFORE))
    assert values(evidence, "new_faults") == [0, 0, 0]
    assert value(evidence, "standing_faults", kind="corrected") == 3
    assert value(evidence, "lost_counters") == 0


def test_a_counter_that_moves_is_reported_by_kind() -> None:
    after = {**BEFORE, "ecc_uncorrected_volatile": 2, "pcie_replays": 41}
    evidence = run_check("driver.faults", fake(FakeStack(counters=after), counters=BEFORE))
    assert value(evidence, "new_faults", kind="uncorrected") == 2
    assert value(evidence, "new_faults", kind="corrected") == 0
    assert value(evidence, "new_faults", kind="other") == 1


def test_a_counter_that_was_lost_leaves_its_kind_unknown() -> None:
    after = {"pcie_replays": 40}
    evidence = run_check("driver.faults", fake(FakeStack(counters=after), counters=BEFORE))
    assert values(evidence, "new_faults", kind="uncorrected") == []
    assert value(evidence, "lost_counters") == 2


OLD = {"ecc_uncorrected_volatile": 0, "ecc_uncorrected_aggregate": 2, "remapped_rows_uncorrected": 2, "remapped_rows_pending": 0}


@pytest.mark.parametrize(
    ("now", "standing"), [({}, 0), ({"remapped_rows_pending": 1}, 1), ({"ecc_uncorrected_volatile": 1}, 1), ({"remapped_rows_failure": 1}, 1)]
)
def test_what_was_put_right_long_ago_does_not_stand_against_a_device(now: dict[str, int], standing: int) -> None:
    before = OLD | now
    evidence = run_check("driver.faults", fake(FakeStack(counters=before), counters=before))
    assert value(evidence, "standing_faults", kind="uncorrected") == standing
    assert value(evidence, "new_faults", kind="uncorrected") == 0


def test_one_event_counts_once_and_none_is_lost() -> None:
    after = OLD | {"ecc_uncorrected_volatile": 1, "ecc_uncorrected_aggregate": 3}
    evidence = run_check("driver.faults", fake(FakeStack(counters=after), counters=OLD))
    assert value(evidence, "new_faults", kind="uncorrected") == 1
    restarted = OLD | {"ecc_uncorrected_aggregate": 3}  # the error took the node down, and the driver began anew
    evidence = run_check("driver.faults", fake(FakeStack(counters=restarted), counters=OLD))
    assert value(evidence, "new_faults", kind="uncorrected") == 1
    alone = {name: count for name, count in OLD.items() if "volatile" not in name and "pending" not in name}
    evidence = run_check("driver.faults", fake(FakeStack(counters=alone | {"remapped_rows_uncorrected": 3}), counters=alone))
    assert value(evidence, "new_faults", kind="uncorrected") == 1
    assert values(evidence, "standing_faults", kind="uncorrected") == []  # nobody says how it stands today


@pytest.mark.parametrize("before", [None, {}])
def test_without_a_reading_at_the_start_nothing_is_reported(before: dict[str, int] | None) -> None:
    evidence = run_check("driver.faults", fake(FakeStack(counters=BEFORE), counters=before))
    assert evidence.status is Status.SKIPPED
    assert "when the run began" in (evidence.reason or "")


def test_counters_that_vanish_are_a_skip_not_a_zero() -> None:
    evidence = run_check("driver.faults", fake(FakeStack(counters=None), counters=BEFORE))
    assert evidence.status is Status.SKIPPED


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ecc_uncorrected_aggregate", "uncorrected"), ("remapped_rows_failure", "uncorrected"),
        ("remapped_rows_pending", "uncorrected"), ("retired_pages_double_bit", "uncorrected"),
        ("mc0_uncorrected", "uncorrected"), ("machine_check_uncorrected", "uncorrected"),
        ("ecc_corrected_volatile", "corrected"), ("retired_pages_single_bit", "corrected"), ("umc_deferred", "uncorrected"),
        ("machine_check_deferred", "uncorrected"), ("umc_de", "uncorrected"),
        ("nvlink_replays", "other"), ("pcie_replays", "other"),
    ],
)  # fmt: skip
def test_a_counters_name_gives_its_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_counter_that_was_reset_counts_what_came_since() -> None:
    assert increases({"a": 9, "b": 1, "c": 4}, {"a": 2, "b": 1}) == {"a": 2, "b": 0}
