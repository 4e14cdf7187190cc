"""What a run does, in what order, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from readiness.check_registry import Check, Phase, Scope, check
from readiness.datamodel import AcceleratorFacts, Level, Limit, Measurement, Operator, Profile, Requirement, Use
from readiness.engine.plan import parse_expression, plan
from readiness.errors import UsageError
from readiness.missing_evidence import SkipCause


def make(id: str, **keys: object) -> Check:
    @check(id, title=id, measures={"m": "1"}, **keys)  # type: ignore[arg-type]
    def function(accelerator: object, *, size: int = 1) -> Iterator[Measurement]:
        """Is it a check?"""
        yield Measurement("m", 1)

    return function


def facts(id: str, stack: str | None = None, **properties: str) -> AcceleratorFacts:
    kind, _, index = id.partition(":")
    return AcceleratorFacts(id, kind, int(index), stack or kind, None, None, properties=properties)


CHECKLIST = {
    item.id: item
    for item in (
        make("a.cheap", typical_s=1),
        make("a.dear", typical_s=30),
        make("b.alone", typical_s=2, alone=True),
        make("b.group", typical_s=3, scope=Scope.GROUP),
        make("c.last", typical_s=0.1, phase=Phase.LAST),
        make("d.unasked"),
    )
}


def requirement(check: str, level: Level = Level.MUST, use: tuple[Use, ...] = tuple(Use), **keys: object) -> Requirement:
    return Requirement(f"{check}-{level}", use, check, "m", Limit(Operator.AT_LEAST, 0), level=level, **keys)  # type: ignore[arg-type]


PROFILE = Profile(
    "p",
    "P",
    tuple(Use),
    tuple(requirement(id) for id in CHECKLIST if id != "d.unasked"),
    settings={"a.cheap": {"size": 5}},
)
TWO = [facts("cuda:0"), facts("cuda:1")]


def test_only_required_checks_run_in_the_right_order() -> None:
    jobs = plan(PROFILE, tuple(Use), [facts("cpu:0")], CHECKLIST)
    assert [job.check.id for job in jobs] == ["a.cheap", "b.group", "a.dear", "b.alone", "c.last"]
    assert jobs[0].settings == {"size": 5}


def test_a_group_check_runs_once_for_a_stack() -> None:
    jobs = plan(PROFILE, tuple(Use), [*TWO, facts("npu:0")], CHECKLIST)
    groups = [tuple(item.id for item in job.accelerators) for job in jobs if job.check.id == "b.group"]
    assert groups == [("cuda:0", "cuda:1"), ("npu:0",)]
    assert sum(job.check.id == "a.cheap" for job in jobs) == 3


def test_a_check_that_applies_nowhere_does_not_run() -> None:
    profile = Profile("p", "P", tuple(Use), (requirement("a.cheap", not_on=("cuda",)), requirement("a.dear", use=(Use.TRAINING,))))
    assert [job.key for job in plan(profile, (Use.INFERENCE,), [*TWO, facts("cpu:0")], CHECKLIST)] == [("cpu:0", "a.cheap")]


def test_what_several_chips_owe_is_measured_where_there_are_several() -> None:
    profile = Profile("p", "P", tuple(Use), (requirement("b.group", least_chips=2), requirement("a.cheap", Level.SHOULD)))
    jobs = plan(profile, tuple(Use), [*TWO, facts("cpu:0")], CHECKLIST)
    assert [job.key for job in jobs if job.check.id == "b.group"] == [("cuda:0", "b.group")]
    assert all(job.level is Level.MUST for job in jobs if job.check.id == "b.group")


def test_within_takes_musts_first_and_names_omitted_checks() -> None:
    profile = Profile("p", "P", tuple(Use), (requirement("a.cheap", Level.SHOULD), requirement("a.dear"), requirement("b.alone", Level.INFO)))
    jobs = plan(profile, tuple(Use), [facts("cpu:0")], CHECKLIST, within_s=37.5)
    assert {job.check.id: job.left_out is None for job in jobs} == {"a.dear": True, "a.cheap": True, "b.alone": False}
    (away,) = [job for job in jobs if job.check.id == "b.alone"]
    assert ("--within" in (away.left_out or ""), away.cause) == (True, SkipCause.WITHIN)
    jobs = plan(profile, tuple(Use), [facts("cpu:0")], CHECKLIST, within_s=10)
    assert {job.check.id for job in jobs if job.left_out is None} == {"a.cheap", "b.alone"}


def test_accelerators_side_by_side_share_the_granted_time() -> None:
    jobs = plan(PROFILE, tuple(Use), TWO, CHECKLIST, within_s=50)
    assert all(job.left_out is None for job in jobs)


def test_failed_keeps_the_pairs_it_is_given() -> None:
    jobs = plan(PROFILE, tuple(Use), TWO, CHECKLIST, only=frozenset({("cuda:1", "a.cheap")}))
    assert [job.key for job in jobs if job.left_out is None] == [("cuda:1", "a.cheap")]
    assert {job.cause for job in jobs} == {SkipCause.FAILED, None}


def test_an_unusable_device_has_every_check_left_out() -> None:
    jobs = plan(PROFILE, tuple(Use), [facts("cuda:0", unusable="driver mismatch")], CHECKLIST)
    assert jobs
    assert all("driver mismatch" in (job.left_out or "") for job in jobs)
    assert {job.cause for job in jobs} == {SkipCause.UNUSABLE}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("parity", {"parity.matmul", "parity.attention"}),
        ("parity and not attention", {"parity.matmul"}),
        ("matmul or driver", {"parity.matmul", "driver.memory"}),
        ("not (matmul or attention)", {"driver.memory"}),
        ("parity.mat*", {"parity.matmul"}),
        ("not not driver", {"driver.memory"}),
        ("driver and matmul or attention", {"parity.attention"}),
    ],
)
def test_expressions(text: str, ids: set[str]) -> None:
    chosen = parse_expression(text)
    assert {id for id in ("parity.matmul", "parity.attention", "driver.memory") if chosen(id)} == ids


@pytest.mark.parametrize(
    "text", ["", " ", "and", "a and", "(a", "a)", "a b", "not", "a;b", "__import__('os')", "(" * 5000 + "a", "or a", "$(x)"]
)
def test_expressions_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)-k: .*remedy"):
        parse_expression(text)


def lasting() -> dict[str, Check]:
    """A checklist with one check that goes on for as long as it is told."""

    @check("e.lasting", title="lasts", measures={"m": "1"}, typical_s=5, limit_s=60, lasting="seconds")
    def function(accelerator: object, *, seconds: float = 0.0) -> Iterator[Measurement]:
        """Does it last?"""
        yield Measurement("m", 1)

    return {"e.lasting": function, "a.cheap": CHECKLIST["a.cheap"]}


def test_a_soak_is_omitted_without_a_duration() -> None:
    asking = Profile("p", "P", tuple(Use), (requirement("e.lasting", Level.SHOULD),))
    (job,) = plan(asking, tuple(Use), [facts("cpu:0")], lasting())
    assert ("--soak" in (job.left_out or ""), job.cause) == (True, SkipCause.SOAK)
    (job,) = plan(asking, tuple(Use), [facts("cpu:0")], lasting(), soak_s=3600)
    assert (job.left_out, job.lasts_s, job.typical_s, job.level) == (None, 3600, 3605, Level.SHOULD)
    assert 60 + 3600 < job.limit_s < 2 * 3600


def test_a_requested_soak_runs_without_a_requirement() -> None:
    asking = Profile("p", "P", tuple(Use), (requirement("a.cheap"),))
    assert [job.check.id for job in plan(asking, tuple(Use), [facts("cpu:0")], lasting())] == ["a.cheap"]
    jobs = plan(asking, tuple(Use), [facts("cpu:0")], lasting(), soak_s=60)
    assert [(job.check.id, job.level) for job in jobs] == [("a.cheap", Level.MUST), ("e.lasting", Level.INFO)]
    assert dict(jobs[1].settings) == {"seconds": 60}
    jobs = plan(asking, tuple(Use), [facts("cpu:0")], lasting(), soak_s=60, expression="cheap")
    assert (jobs[1].left_out, jobs[1].cause) == ("left out by -k", SkipCause.EXPRESSION)


def test_a_profile_may_set_the_duration_of_a_soak() -> None:
    asking = Profile("p", "P", tuple(Use), (requirement("e.lasting"),), settings={"e.lasting": {"seconds": 90.0}})
    (job,) = plan(asking, tuple(Use), [facts("cpu:0")], lasting())
    assert (job.left_out, job.lasts_s) == (None, 90)
    (job,) = plan(asking, tuple(Use), [facts("cpu:0")], lasting(), within_s=60)
    assert "about 95 s" in (job.left_out or "")
