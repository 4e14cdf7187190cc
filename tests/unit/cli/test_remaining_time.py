"""How long the rest of a run takes, by what is known of its checks and by its own pace."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness.cli.remaining_time import Remaining
from readiness.engine.plan import Job
from tests.support import build
from tests.unit.engine.test_plan import make


def job(id: str, seconds: float, chip: int = 0, count: int = 1, *, alone: bool = False) -> Job:
    devices = tuple(build.facts(f"cuda:{number}") for number in range(chip, chip + count))
    return Job(make(id, typical_s=seconds, alone=alone), devices)


def test_one_after_another_on_one_chip() -> None:
    assert Remaining([job("a.a", 5), job("a.b", 7)], cores=8).seconds() == 12
    assert Remaining([], cores=8).seconds() == 0


def test_chips_work_side_by_side_as_far_as_the_host_has_cores() -> None:
    jobs = [job("a.a", 10, chip) for chip in range(8)]
    assert Remaining(jobs, cores=8).seconds() == 10
    assert Remaining(jobs, cores=2).seconds() == 40


def test_what_wants_the_machine_to_itself_waits_for_all() -> None:
    jobs = [job("a.a", 10, 0), job("a.b", 4, 1), job("a.c", 3, 1, alone=True), job("a.d", 2, 0)]
    assert Remaining(jobs, cores=8).seconds() == 10 + 3 + 2


def test_a_group_takes_all_of_its_chips() -> None:
    jobs = [job("a.a", 10, 0), job("a.group", 3, 0, 4), job("a.b", 1, 3)]
    assert Remaining(jobs, cores=8).seconds() == 14


def test_the_pace_so_far_counts_and_does_not_jump() -> None:
    jobs = [job("a.a", 10), job("a.b", 100)]
    remaining = Remaining(jobs, cores=1)
    remaining.finish(jobs[0], 40.0)
    assert remaining.pace == pytest.approx((40 + 10) / (10 + 10))
    assert remaining.seconds() == pytest.approx(250)
    remaining.finish(jobs[0], 1e9)  # told twice: it counts once
    assert remaining.seconds() == pytest.approx(250)


def test_what_runs_has_less_left_and_never_nothing() -> None:
    jobs = [job("a.a", 10)]
    remaining = Remaining(jobs, cores=1)
    assert remaining.seconds([(jobs[0], 4.0)]) == 6
    assert remaining.seconds([(jobs[0], 60.0)]) == pytest.approx(6)


def test_a_soak_takes_its_requested_duration_at_any_pace() -> None:
    soak = Job(replace(make("a.soak", typical_s=5), lasting="seconds"), (build.facts(),), {"seconds": 3600.0})
    quick = job("a.a", 10)
    remaining = Remaining([quick, soak], cores=1)
    remaining.finish(quick, 30.0)
    assert remaining.seconds() == pytest.approx(3600 + 5 * 2)
    remaining.finish(soak, 3600.0)
    assert remaining.pace == pytest.approx(2.0)


@given(st.lists(st.tuples(st.floats(0.001, 1000), st.integers(0, 5), st.booleans()), max_size=20), st.integers(1, 64))
def test_it_is_never_less_than_one_chips_own_work_nor_more_than_all_of_it(
    work: list[tuple[float, int, bool]], cores: int
) -> None:
    jobs = [job(f"a.n{n}", seconds, chip, alone=alone) for n, (seconds, chip, alone) in enumerate(work)]
    left = Remaining(jobs, cores).seconds()
    own = [sum(item.typical_s for item in jobs if item.key[0] == f"cuda:{chip}") for chip in range(6)]
    assert max(own) - 1e-6 <= left <= sum(item.typical_s for item in jobs) + 1e-6
