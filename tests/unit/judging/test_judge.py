"""The laws of judging, over many profiles and pieces of evidence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readiness.datamodel import (
    AcceleratorFacts,
    Basis,
    Decision,
    Evidence,
    Finding,
    Level,
    Limit,
    Measurement,
    Operator,
    Outcome,
    Profile,
    Remedy,
    Requirement,
    Status,
    Use,
    Waiver,
)
from readiness.judging.failure_reason import is_reason
from readiness.judging.judge import applies, credit, declared, judge, satisfies, worst_decision
from readiness.judging.rejudge import rejudge
from readiness.judging.verdict import decide
from readiness.missing_evidence import SkipCause
from tests.support import build

FACTS = AcceleratorFacts(id="cpu:0", kind="cpu", index=0, stack="cpu", vendor=None, model=None)
CHECKS = ("a.one", "a.two", "b.one")
DTYPES = ("float32", "bfloat16")

numbers = st.one_of(
    st.floats(-10, 10), st.integers(-10, 10), st.booleans(), st.sampled_from([math.nan, math.inf, -math.inf, 1e308])
)


@st.composite
def limits(draw: st.DrawFn) -> Limit:
    operator = draw(st.sampled_from(Operator))
    bound = draw(st.floats(-10, 10))
    if operator is Operator.BETWEEN:
        return Limit(operator, bound, high=bound + draw(st.floats(0, 10)))
    zero = None
    if operator in (Operator.AT_LEAST, Operator.AT_MOST) and draw(st.booleans()):
        distance = draw(st.floats(0.01, 10))
        zero = bound - distance if operator is Operator.AT_LEAST else bound + distance
    return Limit(operator, bound, zero=zero)


@st.composite
def requirements(draw: st.DrawFn, id: str) -> Requirement:
    return Requirement(
        id=id,
        uses=draw(st.sampled_from([(Use.TRAINING,), (Use.INFERENCE,), tuple(Use)])),
        check=draw(st.sampled_from(CHECKS)),
        measure=draw(st.sampled_from(["m", "n"])),
        limit=draw(limits()),
        where=draw(st.sampled_from([{}, {"dtype": "float32"}, {"dtype": "bfloat16"}])),
        level=draw(st.sampled_from(Level)),
        weight=draw(st.floats(0.1, 10)),
        remedy=draw(st.sampled_from([None, Remedy("do something")])),
        not_on=draw(st.sampled_from([(), (), (), ("cpu",), ("cu*",)])),
    )


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    count = draw(st.integers(0, 6))
    return Profile("p", "P", tuple(Use), tuple(draw(requirements(f"r{number}")) for number in range(count)))


measurements = st.builds(
    Measurement,
    name=st.sampled_from(["m", "n"]),
    value=numbers,
    labels=st.sampled_from([{}, *({"dtype": dtype} for dtype in DTYPES)]),
    about=st.sampled_from([None, "mm in float32", "softmax in bfloat16, strided input"]),
    spread=st.sampled_from([None, None, 0.0, 0.5, 3.0, -1.0, math.nan, math.inf]),
)


@st.composite
def evidences(draw: st.DrawFn) -> list[Evidence]:
    return [
        Evidence(
            check,
            draw(st.sampled_from(Status)),
            reason="a reason",
            measurements=tuple(draw(st.lists(measurements, max_size=4))),
        )
        for check in draw(st.lists(st.sampled_from(CHECKS), unique=True))
    ]


RANK = {Decision.NOT_READY: 0, Decision.UNDETERMINED: 0, Decision.READY: 1}


@given(profiles(), evidences())
def test_each_requirement_has_exactly_one_finding_for_each_of_its_uses(profile: Profile, evidence: list[Evidence]) -> None:
    found = judge(profile, FACTS, evidence).findings
    keys = [(finding.requirement, finding.use) for finding in found]
    assert len(keys) == len(set(keys)) == declared(profile)
    assert set(keys) == {(item.id, use) for item in profile.requirements for use in item.uses}


@given(profiles(), evidences(), st.randoms())
def test_order_never_matters(profile: Profile, evidence: list[Evidence], chance: object) -> None:
    shuffled = [replace(item, measurements=tuple(reversed(item.measurements))) for item in reversed(evidence)]
    mirrored = replace(profile, requirements=tuple(reversed(profile.requirements)))
    first, second = judge(profile, FACTS, evidence), judge(mirrored, FACTS, shuffled)
    assert str(first.findings) == str(second.findings)  # as text: NaN is not equal to itself
    assert first.verdicts == second.verdicts


@given(profiles(), evidences(), st.data())
def test_removing_evidence_never_raises_a_verdict_or_a_score(
    profile: Profile, evidence: list[Evidence], data: st.DataObject
) -> None:
    before = judge(profile, FACTS, evidence).verdicts
    kept = [item for item in evidence if data.draw(st.booleans())]
    for use, verdict in judge(profile, FACTS, kept).verdicts.items():
        assert verdict.score <= before[use].score
        assert RANK[verdict.decision] <= RANK[before[use].decision]


@given(profiles(), evidences(), st.data())
def test_a_check_that_stops_measuring_never_raises_a_verdict_or_a_score(
    profile: Profile, evidence: list[Evidence], data: st.DataObject
) -> None:
    before = judge(profile, FACTS, evidence).verdicts
    spoiled = [replace(item, status=data.draw(st.sampled_from([item.status, *set(Status) - {Status.MEASURED}]))) for item in evidence]
    for use, verdict in judge(profile, FACTS, spoiled).verdicts.items():
        assert verdict.score <= before[use].score
        assert RANK[verdict.decision] <= RANK[before[use].decision]


@given(profiles(), evidences(), st.data())
def test_adding_a_failure_never_raises_a_score(profile: Profile, evidence: list[Evidence], data: st.DataObject) -> None:
    """A further measurement that breaks every limit, in evidence that is there already."""
    if not evidence:
        return
    before = judge(profile, FACTS, evidence).verdicts
    position = data.draw(st.integers(0, len(evidence) - 1))
    bad = Measurement(data.draw(st.sampled_from(["m", "n"])), math.nan, data.draw(st.sampled_from([{"dtype": dtype} for dtype in DTYPES])))
    worse = list(evidence)
    worse[position] = replace(worse[position], measurements=(*worse[position].measurements, bad))
    for use, verdict in judge(profile, FACTS, worse).verdicts.items():
        assert verdict.score <= before[use].score
        assert verdict.ceiling <= before[use].ceiling
        assert RANK[verdict.decision] <= RANK[before[use].decision]


@given(limits(), st.floats(-20, 20), st.floats(0, 5))
def test_a_worse_value_never_earns_more(limit: Limit, value: float, step: float) -> None:
    match limit.operator:
        case Operator.AT_LEAST:
            worse = value - step
        case Operator.AT_MOST:
            worse = value + step
        case _:
            return
    assert credit(worse, limit) <= credit(value, limit)


@given(profiles(), evidences())
def test_scores_are_bounded_and_the_ceiling_is_above(profile: Profile, evidence: list[Evidence]) -> None:
    for verdict in judge(profile, FACTS, evidence).verdicts.values():
        assert 0 <= verdict.score <= verdict.ceiling <= 100


@given(profiles(), evidences())
def test_musts_alone_decide(profile: Profile, evidence: list[Evidence]) -> None:
    result = judge(profile, FACTS, evidence)
    for use, verdict in result.verdicts.items():
        musts = [item for item in result.findings if item.use is use and item.level is Level.MUST]
        outcomes = {item.outcome for item in musts} - {Outcome.NOT_APPLICABLE}
        if Outcome.FAIL in outcomes:
            assert verdict.decision is Decision.NOT_READY
        elif Outcome.UNKNOWN in outcomes or not outcomes:
            assert verdict.decision is Decision.UNDETERMINED
        else:
            assert verdict.decision is Decision.READY


@given(profiles())
def test_with_nothing_measured_nothing_is_known(profile: Profile) -> None:
    for verdict in judge(profile, FACTS, []).verdicts.values():
        assert (verdict.decision, verdict.score, verdict.ceiling) == (Decision.UNDETERMINED, 0.0, 100.0)


@given(profiles(), evidences(), st.sampled_from(["2026-01-01", "2027-01-01"]))
@settings(max_examples=50)
def test_a_waiver_never_raises_a_score_nor_touches_the_unknown(
    profile: Profile, evidence: list[Evidence], until: str
) -> None:
    waivers = [Waiver(item.id, "cpu:*", "known", "somebody", until) for item in profile.requirements]
    before = judge(profile, FACTS, evidence)
    after = judge(profile, FACTS, evidence, waivers=waivers, today="2026-06-01")
    for use, verdict in after.verdicts.items():
        assert verdict.score <= before.verdicts[use].score  # a waived failure earns nothing, not even in part
        if before.verdicts[use].decision is Decision.UNDETERMINED:
            assert verdict.decision is Decision.UNDETERMINED
    for finding in after.findings:
        if finding.outcome is Outcome.FAIL:
            assert (finding.waived is not None) == (until > "2026-06-01")
            assert (finding.expired_waiver is not None) == (until < "2026-06-01")
        else:
            assert finding.waived is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("operator", list(Operator))
def test_neither_nan_nor_infinity_keeps_a_limit(operator: Operator, value: float) -> None:
    limit = Limit(operator, 0.0, high=1.0 if operator is Operator.BETWEEN else None)
    assert not satisfies(value, limit)
    assert credit(value, limit) == 0.0
    assert one(value, limit=limit)[0] is Outcome.FAIL


def test_no_device_has_an_infinite_speed() -> None:
    for zero in (None, 0.5):
        limit = Limit(Operator.AT_LEAST, 1.0, zero=zero)
        assert not satisfies(math.inf, limit)
        assert credit(math.inf, limit) == 0.0


def test_a_truth_value_is_no_number_and_no_number_is_true() -> None:
    for value, bound, words in ((True, 1, "a boolean, but the bound is a number"), (1, True, "a number, but the bound is a boolean")):
        for operator in (Operator.AT_LEAST, Operator.EQUALS):
            limit = Limit(operator, bound)
            assert not satisfies(value, limit)
            outcome, reason = one(value, limit=limit)
            assert (outcome, reason) == (Outcome.UNKNOWN, f"a.one yielded {words}")
    assert credit(True, Limit(Operator.AT_LEAST, 2, zero=0)) == 0.0
    assert one(True, limit=Limit(Operator.EQUALS, True))[0] is Outcome.PASS
    assert one(False, limit=Limit(Operator.EQUALS, True))[0] is Outcome.FAIL


def test_a_truth_value_among_numbers_hides_no_bad_one_and_makes_no_pass() -> None:
    requirement = Requirement("r", (Use.TRAINING,), "a.one", "m", Limit(Operator.AT_LEAST, 1.0))
    for values, outcome in (((True, 0.5), Outcome.FAIL), ((True, 2.0), Outcome.UNKNOWN), ((2.0, 3.0), Outcome.PASS)):
        evidence = Evidence("a.one", Status.MEASURED, measurements=tuple(Measurement("m", value) for value in values))
        (finding,) = judge(Profile("p", "P", (Use.TRAINING,), (requirement,)), FACTS, [evidence]).findings
        assert finding.outcome is outcome


def one(value: float, *, status: Status = Status.MEASURED, **requirement: object) -> tuple[Outcome, str | None]:
    fields: dict[str, object] = {"limit": Limit(Operator.AT_MOST, 1.0), **requirement}
    profile = Profile("p", "P", (Use.TRAINING,), (Requirement("r", (Use.TRAINING,), "a.one", "m", **fields),))  # type: ignore[arg-type]
    evidence = Evidence("a.one", status, reason="why", measurements=(Measurement("m", value, {"dtype": "float32"}),))
    (finding,) = judge(profile, FACTS, [evidence]).findings
    return finding.outcome, finding.reason


def test_a_crash_or_a_hang_fails_and_an_error_is_unknown() -> None:
    assert one(0.5)[0] is Outcome.PASS
    assert one(0.5, status=Status.CRASHED)[0] is Outcome.FAIL
    assert one(0.5, status=Status.TIMEOUT)[0] is Outcome.FAIL
    assert one(0.5, status=Status.ERROR)[0] is Outcome.UNKNOWN
    assert one(0.5, status=Status.SKIPPED)[0] is Outcome.UNKNOWN
    # What was measured before the end, and is bad, stays bad.
    assert one(2.0, status=Status.ERROR)[0] is Outcome.FAIL


@pytest.mark.parametrize(
    ("limit", "value", "outcome"),
    [
        (Limit(Operator.AT_LEAST, 0.5), 0.4, Outcome.UNKNOWN), (Limit(Operator.AT_LEAST, 0.5), 0.3, Outcome.FAIL),
        (Limit(Operator.AT_LEAST, 0.5), 0.5, Outcome.PASS), (Limit(Operator.AT_MOST, 0.5), 0.6, Outcome.UNKNOWN),
        (Limit(Operator.AT_MOST, 0.5), 0.7, Outcome.FAIL), (Limit(Operator.AT_MOST, 0.5), 0.45, Outcome.PASS),
        (Limit(Operator.BETWEEN, 0.5, high=1.0), 0.4, Outcome.UNKNOWN), (Limit(Operator.BETWEEN, 0.5, high=1.0), 1.1, Outcome.UNKNOWN),
        (Limit(Operator.BETWEEN, 0.5, high=1.0), 1.3, Outcome.FAIL), (Limit(Operator.EQUALS, 0.5), 0.49, Outcome.FAIL),
        (Limit(Operator.AT_LEAST, 0.5), -math.inf, Outcome.FAIL), (Limit(Operator.AT_LEAST, 0.5), math.nan, Outcome.FAIL),
    ],
)  # fmt: skip
def test_what_misses_its_bound_by_no_more_than_its_spread_is_unknown(limit: Limit, value: float, outcome: Outcome) -> None:
    requirement = Requirement("r", tuple(Use), "a.one", "m", limit, weight=2.0)
    profile = Profile("p", "P", tuple(Use), (requirement,))
    evidence = [Evidence("a.one", Status.MEASURED, measurements=(Measurement("m", value, spread=0.15, about="a rate"),))]
    found = judge(profile, FACTS, evidence, uses=[Use.TRAINING])
    (finding,) = found.findings
    assert finding.outcome is outcome
    early = judge(profile, FACTS, evidence, uses=[Use.TRAINING], by_spread=False).findings[0]
    assert early.outcome is (Outcome.PASS if outcome is Outcome.PASS else Outcome.FAIL)
    if outcome is Outcome.UNKNOWN:
        assert finding.reason == f"a rate: {value:.4g} misses the bound by no more than another run may differ, 0.15"
        assert (finding.value, finding.earned) == (None, 0.0)
        assert finding.remedy is not None
        assert finding.remedy.text == "Run a.one again."
        assert (found.verdicts[Use.TRAINING].score, found.verdicts[Use.TRAINING].ceiling) == (0, 100)


def test_a_clear_failure_is_told_beside_an_unclear_one_and_earns_nothing_for_it() -> None:
    requirement = Requirement("r", tuple(Use), "a.one", "m", Limit(Operator.AT_LEAST, 1.0, zero=0.0))
    profile = Profile("p", "P", tuple(Use), (requirement,))
    clear, unclear = Measurement("m", 0.5, {"dtype": "float32"}), Measurement("m", 0.4, {"dtype": "bfloat16"}, spread=0.7)

    def found(status: Status, *items: Measurement) -> Finding:
        return judge(profile, FACTS, [Evidence("a.one", status, reason="why", measurements=items)]).findings[0]

    alone, both = found(Status.MEASURED, clear), found(Status.MEASURED, clear, unclear)
    assert (alone.outcome, alone.value, alone.earned) == (Outcome.FAIL, 0.5, 0.5)
    assert (both.outcome, both.value, both.earned) == (Outcome.FAIL, 0.5, 0.0)
    assert found(Status.CRASHED, unclear).outcome is Outcome.FAIL
    assert found(Status.ERROR, unclear).outcome is Outcome.UNKNOWN


def test_a_label_that_was_not_measured_is_unknown() -> None:
    outcome, reason = one(0.5, where={"dtype": "bfloat16"})
    assert outcome is Outcome.UNKNOWN
    assert "dtype=bfloat16" in (reason or "")


def test_the_worst_of_several_measurements_counts() -> None:
    requirement = Requirement("r", (Use.TRAINING,), "a.one", "m", Limit(Operator.AT_MOST, 1.0))
    evidence = Evidence("a.one", Status.MEASURED, measurements=tuple(Measurement("m", value) for value in (0.1, 3.0, 0.2)))
    (finding,) = judge(Profile("p", "P", (Use.TRAINING,), (requirement,)), FACTS, [evidence]).findings
    assert (finding.outcome, finding.value) == (Outcome.FAIL, 3.0)


def test_what_the_worst_measurement_is_about_is_the_reason_of_a_failure_alone() -> None:
    requirement = Requirement("r", (Use.TRAINING,), "a.one", "m", Limit(Operator.AT_MOST, 1.0))
    profile = Profile("p", "P", (Use.TRAINING,), (requirement,))
    bad, good = Measurement("m", 3.0, about="softmax in bfloat16"), Measurement("m", 0.1, about="mm in float32")
    (finding,) = judge(profile, FACTS, [Evidence("a.one", Status.MEASURED, measurements=(good, bad))]).findings
    assert finding.reason == "softmax in bfloat16"
    (finding,) = judge(profile, FACTS, [Evidence("a.one", Status.MEASURED, measurements=(good,))]).findings
    assert finding.reason is None


def _reason_of(*measurements: Measurement) -> str | None:
    requirement = Requirement("r", (Use.TRAINING,), "a.one", "m", Limit(Operator.AT_MOST, 1.0))
    evidence = Evidence("a.one", Status.MEASURED, measurements=measurements)
    (finding,) = judge(Profile("p", "P", (Use.TRAINING,), (requirement,)), FACTS, [evidence]).findings
    return finding.reason


def test_a_reason_names_all_that_failed_in_classes() -> None:
    def failed(op: str, dtype: str, value: float = 2.0, about: str | None = None) -> Measurement:
        return Measurement("m", value, {"op": op, "dtype": dtype, "world": "all"}, about=about)

    worst = failed("gather", "float32", 9.0, "gather in float32: wrong")
    mean = [failed("reduce_scatter_avg", dtype) for dtype in ("float32", "bfloat16")]
    good = failed("broadcast", "float32", 0.0)
    assert _reason_of(worst, good, *mean) == (
        "gather in float32: wrong; also failed: reduce_scatter_avg (dtype=bfloat16, float32)"
    )
    assert _reason_of(worst, failed("scatter", "bfloat16"), *mean) == (
        "gather in float32: wrong; also failed: reduce_scatter_avg (dtype=bfloat16, float32); scatter (dtype=bfloat16)"
    )
    assert _reason_of(worst, failed("gather", "bfloat16")) == "gather in float32: wrong; also failed: dtype=bfloat16"
    assert _reason_of(failed("sum", "float32", 9.0), failed("max", "float32")) == "also failed: max"
    assert _reason_of(worst, good) == "gather in float32: wrong"


def test_a_reason_of_very_many_failures_counts_those_that_it_leaves_out() -> None:
    many = [Measurement("m", 2.0, {"op": f"operation_{number:03}"}) for number in range(100)]
    reason = _reason_of(*many) or ""
    assert len(reason) < 320
    named = reason.count("operation_")
    assert reason.endswith(f" and {99 - named} more")


def test_a_saved_reason_of_early_versions_said_the_worst_alone() -> None:
    assert is_reason("a; b", "a; b; also failed: max")
    assert is_reason(None, "also failed: max")
    assert is_reason("a; also failed: max", "a; also failed: max")
    assert not is_reason("c", "a; b; also failed: max")
    assert not is_reason("a; also failed: min", "a; also failed: max")
    assert not is_reason(None, "a")


def test_the_remedy_names_labels_only_where_the_check_ran_without_them() -> None:
    requirement = Requirement("r", (Use.TRAINING,), "a.one", "m", Limit(Operator.AT_MOST, 1.0), where={"dtype": "bfloat16"})
    profile = Profile("p", "P", (Use.TRAINING,), (requirement,))
    left_out = Evidence("a.one", Status.SKIPPED, reason="left out by -k", attempts=0)
    elsewhere = Evidence("a.one", Status.MEASURED, measurements=(Measurement("m", 0.1, {"dtype": "float32"}),))
    for evidence, text in (([], "Run a.one."), ([left_out], "Run a.one."), ([elsewhere], "Run a.one on a system with dtype=bfloat16.")):
        (finding,) = judge(profile, FACTS, evidence).findings
        assert finding.remedy is not None
        assert finding.remedy.text == text


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (SkipCause.WITHIN, "Give the run more time: a longer --within, or none."),
        (SkipCause.SOAK, "Run again with --soak TIME."),
        (SkipCause.UNUSABLE, "Mend what the reason names, so that the device can be used, and run again."),
        (SkipCause.EXPRESSION, "Run a.one."),
    ],
)
def test_the_remedy_of_what_did_not_run_fits_the_cause(cause: SkipCause, text: str) -> None:
    requirement = Requirement("r", (Use.TRAINING,), "a.one", "m", Limit(Operator.AT_MOST, 1.0))
    left_out = Evidence("a.one", Status.SKIPPED, reason="it did not run", attempts=0, cause=cause)
    (finding,) = judge(Profile("p", "P", (Use.TRAINING,), (requirement,)), FACTS, [left_out]).findings
    assert finding.remedy is not None
    assert finding.remedy.text == text


def test_partial_credit_is_linear_and_belongs_to_a_failure() -> None:
    limit = Limit(Operator.AT_LEAST, 1.0, zero=0.9)
    assert credit(0.95, limit) == pytest.approx(0.5)
    assert credit(0.5, limit) == 0.0
    assert credit(1.0, limit) == 1.0
    assert not satisfies(0.95, limit)


def test_where_a_requirement_applies() -> None:
    def requirement(**keys: object) -> Requirement:
        return Requirement("r", tuple(Use), "a.one", "m", Limit(Operator.AT_MOST, 1.0), **keys)  # type: ignore[arg-type]

    assert applies(requirement(), FACTS)
    assert applies(requirement(only_on=("cpu",)), FACTS)
    assert not applies(requirement(only_on=("cuda", "rocm")), FACTS)
    assert not applies(requirement(not_on=("c*",)), FACTS)
    assert not applies(requirement(least_chips=2), FACTS)
    assert applies(requirement(least_chips=2), FACTS, 2)
    assert not applies(requirement(least_chips=2, not_on=("cpu",)), FACTS, 2)


def test_requirements_of_several_chips_apply_to_several_only() -> None:
    limit = Limit(Operator.EQUALS, 1)
    together = Requirement("together", (Use.TRAINING,), "a.one", "completed", limit, least_chips=2)
    profile = Profile("p", "P", (Use.TRAINING,), (together,))
    hung = Evidence("a.one", Status.MEASURED, measurements=(Measurement("completed", 0),))
    alone = judge(profile, FACTS, [hung])
    assert alone.findings[0].outcome is Outcome.NOT_APPLICABLE
    assert "2 or more chips" in (alone.findings[0].reason or "")
    assert alone.verdicts[Use.TRAINING].decision is not Decision.NOT_READY
    assert judge(profile, FACTS, [hung], chips=2).verdicts[Use.TRAINING].decision is Decision.NOT_READY
    # What was not run is never passed over: of two chips it is unknown, not inapplicable.
    assert judge(profile, FACTS, [], chips=2).verdicts[Use.TRAINING].decision is Decision.UNDETERMINED


def test_saved_evidence_is_judged_again_as_that_of_as_many_chips() -> None:
    together = Requirement("together", (Use.TRAINING,), "a.one", "completed", Limit(Operator.EQUALS, 1), least_chips=2)
    profile = Profile("p", "P", (Use.TRAINING,), (together,))
    hung = Evidence("a.one", Status.MEASURED, measurements=(Measurement("completed", 0),))
    facts = [replace(FACTS, id=f"sim:{number}", stack="sim") for number in range(2)]
    saved = replace(build.assessment(), accelerators=tuple(judge(profile, one, [hung]) for one in (*facts, FACTS)))
    again = rejudge(saved, profile, [Use.TRAINING])
    assert [item.findings[0].outcome for item in again.accelerators] == [Outcome.FAIL, Outcome.FAIL, Outcome.NOT_APPLICABLE]


def test_scores_are_rounded_down() -> None:
    requirement = Requirement("r", (Use.TRAINING,), "a.one", "m", Limit(Operator.AT_MOST, 1.0), weight=999.9)
    missing = replace(requirement, id="s", measure="n", level=Level.INFO, weight=0.01)
    evidence = Evidence("a.one", Status.MEASURED, measurements=(Measurement("m", 0.0),))
    verdict = judge(Profile("p", "P", (Use.TRAINING,), (requirement, missing)), FACTS, [evidence]).verdicts[Use.TRAINING]
    assert (verdict.score, verdict.ceiling) == (99.9, 100.0)


def test_the_worst_verdict_gives_the_exit_code() -> None:
    def item(*decisions: Decision, limits: tuple[str, ...] = ()) -> object:
        assessed = judge(Profile("p", "P", (), ()), FACTS, [])
        verdicts = {use: replace(decide([]), decision=decision, limits=limits) for use, decision in zip(Use, decisions, strict=False)}
        return replace(assessed, verdicts=verdicts)

    ready, not_ready, open_ = Decision.READY, Decision.NOT_READY, Decision.UNDETERMINED
    assert worst_decision([item(ready, ready)]) is ready  # type: ignore[list-item]
    assert worst_decision([item(ready, open_)]) is open_  # type: ignore[list-item]
    assert worst_decision([item(open_, not_ready), item(ready)]) is not_ready  # type: ignore[list-item]
    assert worst_decision([item(ready, limits=("x",))], Level.SHOULD) is not_ready  # type: ignore[list-item]
    assert worst_decision([item(not_ready)], None) is ready  # type: ignore[list-item]
    assert worst_decision([]) is open_


def basis(profile: Profile, defaults: dict[str, Any]) -> Basis:
    """What a check is told: its own settings, and over them the profile's."""
    return Basis({}, {"family.topic": defaults | dict(profile.settings.get("family.topic", {}))}, files=profile.files)


def test_evidence_of_a_part_is_unknown_for_a_profile_that_requires_the_whole() -> None:
    labels = {"dtype": "float32"}
    piece = Evidence(
        "family.topic", Status.MEASURED, measurements=(Measurement("error", 0.0, labels),), settings={"dtypes": ["float32"], "rounds": 3}
    )
    limit = Limit(Operator.AT_MOST, 1.0)
    demands = Profile(
        name="test", title="A test", uses=(Use.TRAINING,), settings={"family.topic": {"dtypes": ["float32", "bfloat16"]}},
        requirements=(
            Requirement("whole", (Use.TRAINING,), "family.topic", "error", limit),
            Requirement("part", (Use.TRAINING,), "family.topic", "error", limit, where=labels),
        ),
    )  # fmt: skip
    saved = replace(build.assessment(), accelerators=(judge(demands, FACTS, [piece]),))
    saved_basis = basis(demands, {"dtypes": ("float32",), "rounds": 3})
    (item,) = rejudge(saved, demands, [Use.TRAINING], basis=saved_basis).accelerators
    assert {finding.requirement: finding.outcome for finding in item.findings} == {"whole": Outcome.UNKNOWN, "part": Outcome.PASS}
    assert item.verdicts[Use.TRAINING].decision is Decision.UNDETERMINED
    assert item.evidence == (piece,)
    (item,) = rejudge(saved, demands, [Use.TRAINING], basis=basis(demands, {"rounds": 9})).accelerators
    assert {finding.outcome for finding in item.findings} == {Outcome.UNKNOWN}
    assert item.evidence == (piece,), "evidence stays what it is"


def test_a_setting_missing_in_evidence_is_not_the_required_one() -> None:
    whole = Requirement("whole", (Use.TRAINING,), "family.topic", "error", Limit(Operator.AT_MOST, 1.0))
    part = replace(whole, id="part", where={"dtype": "float32"})
    demands = Profile(name="test", title="A test", uses=(Use.TRAINING,), requirements=(whole, part))
    measured = (Measurement("error", 0.0, {"dtype": "float32"}),)

    def outcomes(evidence: Evidence) -> dict[str, tuple[Outcome, str]]:
        saved = replace(build.assessment(), accelerators=(judge(demands, FACTS, [evidence]),))
        saved_basis = basis(demands, {"rounds": 3, "dtypes": ("float32",)})
        (item,) = rejudge(saved, demands, [Use.TRAINING], basis=saved_basis).accelerators
        return {finding.requirement: (finding.outcome, finding.reason or "") for finding in item.findings}

    says = {"rounds": 3, "dtypes": ["float32"]}
    evidence = Evidence("family.topic", Status.MEASURED, measurements=measured, settings=says)
    assert {outcome for outcome, _ in outcomes(evidence).values()} == {Outcome.PASS}
    for outcome, reason in outcomes(replace(evidence, settings={"dtypes": ["float32"]})).values():
        assert outcome is Outcome.UNKNOWN
        assert "before the setting rounds existed" in reason
    for incomplete in ({"rounds": 3}, {"rounds": 3, "dtypes": "float32"}):
        found = outcomes(replace(evidence, settings=incomplete))
        assert found["whole"][0] is Outcome.UNKNOWN
        assert found["part"][0] is Outcome.PASS, "its labels say of what it is"
    # What did not run keeps its own reason, whatever it would have run with.
    skipped = Evidence("family.topic", Status.SKIPPED, reason="it needs two chips", settings={"rounds": 9})
    assert all("two chips" in reason for _, reason in outcomes(skipped).values())


def _judged_again(
    evidence: Evidence, settings: dict[str, Any], *requirements: Requirement, defaults: dict[str, Any], files: dict[str, str] | None = None
) -> dict[str, Finding]:
    demands = Profile(
        name="test", title="A test", uses=(Use.TRAINING,), requirements=requirements, settings={"family.topic": settings}, files=files or {}
    )
    saved = replace(build.assessment(), accelerators=(judge(demands, FACTS, [evidence]),))
    (item,) = rejudge(saved, demands, [Use.TRAINING], basis=basis(demands, defaults)).accelerators
    return {finding.requirement: finding for finding in item.findings}


ANY_MODE = Requirement("any-mode", (Use.TRAINING,), "family.topic", "error", Limit(Operator.AT_MOST, 1.0))
WHOLE = Requirement("whole", (Use.TRAINING,), "family.topic", "done", Limit(Operator.AT_LEAST, 1.0))


def test_measurements_beyond_the_required_ones_fail_nothing() -> None:
    measured = (Measurement("error", 0.0, {"mode": "ddp"}), Measurement("error", 9.0, {"mode": "ring"}), Measurement("done", 0))
    evidence = Evidence("family.topic", Status.MEASURED, measurements=measured, settings={"modes": ["ddp", "ring"]})
    found = _judged_again(evidence, {"modes": ["ddp"]}, ANY_MODE, WHOLE, defaults={"modes": ("ddp",)})
    assert found["any-mode"].outcome is Outcome.PASS
    assert found["whole"].outcome is Outcome.UNKNOWN, "whose doing it was, nobody knows"
    assert "was measured with mode ring, which this profile does not include" in (found["whole"].reason or "")
    found = _judged_again(evidence, {"modes": ["ddp", "ring"]}, ANY_MODE, WHOLE, defaults={"modes": ("ddp",)})
    assert {finding.outcome for finding in found.values()} == {Outcome.FAIL}


@pytest.mark.parametrize("status", [Status.TIMEOUT, Status.CRASHED])
@pytest.mark.parametrize("measurements", [(), (Measurement("error", 9.0, {"mode": "ddp"}),)])
@pytest.mark.parametrize("used", [{"size": 1000, "modes": ["ddp"]}, {"size": 10, "modes": ["ddp", "ring"]}])
def test_what_did_not_end_under_other_settings_might_have_under_these(
    status: Status, measurements: tuple[Measurement, ...], used: dict[str, Any]
) -> None:
    evidence = Evidence("family.topic", status, reason="no end", measurements=measurements, settings=used)
    requested = {"size": 10, "modes": ["ddp"]}
    found = _judged_again(evidence, requested, ANY_MODE, defaults=requested)["any-mode"]
    assert found.outcome is Outcome.UNKNOWN
    assert found.remedy is not None
    assert found.remedy.text == "Run family.topic."
    assert _judged_again(evidence, used, ANY_MODE, defaults=requested)["any-mode"].outcome is Outcome.FAIL


def test_another_choice_and_another_file_of_the_same_name_are_other_evidence() -> None:
    chosen = Measurement("error", 0.0, {"catalogue": "chosen"})
    evidence = Evidence("family.topic", Status.MEASURED, measurements=(chosen,), settings={"only": ["mm"]})
    assert _judged_again(evidence, {"only": ["mm"]}, ANY_MODE, defaults={"only": ()})["any-mode"].outcome is Outcome.PASS
    assert _judged_again(evidence, {"only": ["add"]}, ANY_MODE, defaults={"only": ()})["any-mode"].outcome is Outcome.UNKNOWN

    used, file = {"workload": "/there/mine.json.gz"}, {"/here/mine.json.gz": "a" * 64}
    evidence = replace(evidence, settings=used, rows=({"workload": "mine", "sha256": "a" * 64},))
    requested = {"workload": "/here/mine.json.gz"}
    assert _judged_again(evidence, requested, ANY_MODE, defaults={}, files=file)["any-mode"].outcome is Outcome.PASS
    for rows in ((), ({"workload": "mine", "sha256": "b" * 64},)):
        other = replace(evidence, rows=rows)
        assert _judged_again(other, requested, ANY_MODE, defaults={}, files=file)["any-mode"].outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"dtyp": "float32"}, "m has the labels dtype, phase, and none called dtyp (did you mean dtype?)"),
        ({"chips": "4"}, "m has the labels dtype, phase, and none called chips"),
        ({"phase": "forwards"}, "m for phase=backward, forward (did you mean forward?)"),
        ({"dtype": "float16"}, "m for dtype=bfloat16, float32"),
        ({"dtype": "float32", "phase": "backward"}, None),  # both are there, together they are not
    ],
)
def test_an_unknown_label_says_which_there_are(where: dict[str, str], said: str | None) -> None:
    figures = (
        Measurement("m", 1.0, {"dtype": "float32", "phase": "forward"}), Measurement("m", 1.0, {"dtype": "bfloat16", "phase": "backward"}),
        Measurement("other", 1.0, {"chips": "4"}),
    )  # fmt: skip
    asked = Requirement("r", (Use.TRAINING,), "a.one", "m", Limit(Operator.AT_MOST, 2.0), where=where)
    profile = Profile("p", "P", (Use.TRAINING,), (asked,))
    (finding,) = judge(profile, FACTS, [Evidence("a.one", Status.MEASURED, measurements=figures[:2])]).findings
    asked_for = ", ".join(f"{key}={value}" for key, value in where.items())
    expected = f"a.one measured nothing for {asked_for}" + (f"; what there is: {said}" if said else "")
    assert (finding.outcome, finding.reason) == (Outcome.UNKNOWN, expected)
    assert is_reason(f"a.one measured nothing for {asked_for}", finding.reason)  # early versions said no more
    assert not is_reason("a.one measured", finding.reason)
