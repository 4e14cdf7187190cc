"""JUnit: what is not fine never looks fine in a CI viewer, and a reader counts what was judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import junitparser
import pytest

from readiness.datamodel import Assessment, Decision, Level, Outcome, Use, Verdict
from readiness.judging.judge import worst_decision
from readiness.rendering.formats import render
from tests.support import build


def parse(assessment: Assessment, **further: Any) -> Any:
    """The suites, read by a reader that knows nothing of us."""
    return junitparser.JUnitXml.fromstring(render("junit", assessment, **further).encode())


def case(assessment: Assessment, suite: str, name: str) -> Any:
    """One test case."""
    return next(case for found in parse(assessment) if found.name == suite for case in found if case.name == name)


def test_a_suite_for_each_accelerator_and_use_and_a_case_for_each_finding() -> None:
    assessment = build.everything()
    suites = {suite.name: suite for suite in parse(assessment)}
    assert list(suites) == ["cuda:0 training", "cuda:0 inference", "cuda:1 training", "cuda:1 inference"]
    for item in assessment.accelerators:
        for use in Use:
            names = [finding.requirement for finding in item.findings if finding.use is use]
            assert [case.name for case in suites[f"{item.facts.id} {use}"]] == names


LEVELS = (Level.MUST, Level.SHOULD, None)
EVERY = [
    build.everything, build.hostile, build.one_use, build.interrupted, build.nothing, build.many, build.simulated,
    build.half_blind,
]  # fmt: skip


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("made", EVERY)
def test_it_is_red_exactly_where_the_exit_code_is_not_0(made: Any, fail_on: Level | None) -> None:
    assessment = made()
    document = parse(assessment, fail_on=fail_on)
    red = document.failures + document.errors > 0
    assert red == (assessment.interrupted or worst_decision(assessment.accelerators, fail_on) is not Decision.READY)


def test_what_is_ready_with_limits_is_green_unless_shoulds_fail_too() -> None:
    assert (parse(build.one_use()).failures, parse(build.one_use()).errors) == (0, 0)
    (limit,) = case(build.one_use(), "cpu:0 inference", "copy-bandwidth").result
    assert isinstance(limit, junitparser.Skipped)
    assert limit.message.startswith("limit: bandwidth_gbps is 11.5 GB/s, bound at least 20 GB/s")
    assert parse(build.one_use(), fail_on=Level.SHOULD).failures == 1


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("use", Use)
def test_the_counts_match(use: Use, fail_on: Level | None) -> None:
    assessment = build.everything()
    suite = next(suite for suite in parse(assessment, fail_on=fail_on) if suite.name == f"cuda:0 {use}")
    findings = [finding for finding in assessment.accelerators[0].findings if finding.use is use]
    failing = {Level.MUST: {Level.MUST}, Level.SHOULD: {Level.MUST, Level.SHOULD}, None: set()}[fail_on]
    failures = [
        finding for finding in findings
        if finding.outcome is Outcome.FAIL and finding.waived is None and finding.level in failing
    ]  # fmt: skip
    errors = [
        finding for finding in findings if finding.outcome is Outcome.UNKNOWN and finding.level is Level.MUST and fail_on
    ]
    passes = [finding for finding in findings if finding.outcome is Outcome.PASS]
    assert (suite.tests, suite.failures, suite.errors) == (len(findings), len(failures), len(errors))
    assert suite.skipped == len(findings) - len(failures) - len(errors) - len(passes)


def test_a_failure_has_reason_and_remedy() -> None:
    (result,) = case(build.everything(), "cuda:0 training", "matmul-bfloat16").result
    assert isinstance(result, junitparser.Failure)
    assert result.type == "must"
    assert "relative_error is 0.031, bound at most 0.01 (dtype=bfloat16)" in result.message
    assert "do: Update the compiler that matmul-bfloat16 depends on. (update-software)" in result.text


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("all-reduce", junitparser.Error, "unknown: multichip.collectives: it needs two accelerators"),
        ("fault-counters", junitparser.Skipped, "unknown: driver.counters: the vendor offers none"),
        ("float64", junitparser.Skipped, "waived by Ada Lovelace until 2027-01-31: The model does not use it."),
        ("curiosity", junitparser.Skipped, "for information: relative_error is NaN"),
        ("streams", junitparser.Skipped, "not applicable: it does not apply"),
        ("old-waiver", junitparser.Skipped, "limit: relative_error is 0.031"),
    ],
)
def test_every_other_kind(name: str, kind: Any, message: str) -> None:
    (result,) = case(build.everything(), "cuda:0 training", name).result
    assert isinstance(result, kind)
    assert result.message.startswith(message)


def test_an_expired_waiver_is_named() -> None:
    (result,) = case(build.everything(), "cuda:0 training", "old-waiver").result
    assert "waiver expired: by Ada Lovelace until 2026-01-31" in result.text


def test_a_pass_has_the_measured_value() -> None:
    passed = case(build.everything(), "cuda:0 training", "matmul-float32")
    assert passed.is_passed
    assert "relative_error is 0.004" in passed.system_out


def test_properties_hold_the_verdict() -> None:
    suite = next(iter(parse(build.everything())))
    properties = {entry.name: entry.value for entry in suite.properties()}
    assert properties["verdict"] == "not ready"
    assert (properties["score"], properties["ceiling"]) == ("61.2", "97.5")
    assert properties["profile"] == "general"
    assert properties["seed"] == "7"


def test_times_add_up_to_those_of_the_checks() -> None:
    assessment = build.everything()
    judged = {finding.check for finding in assessment.accelerators[0].findings}
    expected = sum(item.seconds for item in assessment.accelerators[0].evidence if item.check in judged)
    found = sum(suite.time for suite in parse(assessment) if suite.name.startswith("cuda:0 "))
    assert found == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("made", [build.nothing, build.interrupted])
def test_nothing_known_is_an_error(made: Any) -> None:
    assert parse(made()).errors >= 1


def test_a_run_that_was_stopped_is_red_even_where_all_was_well_until_then() -> None:
    stopped = replace(build.assessment(build.accelerator(build.on(build.BOTH, build.finding, "x"))), interrupted=True)
    for fail_on in LEVELS:
        assert parse(stopped, fail_on=fail_on).errors == 1


@pytest.mark.parametrize(
    "verdicts",
    [{}, {Use.TRAINING: Verdict(Decision.UNDETERMINED, 0.0, 100.0)}, {Use.TRAINING: Verdict(Decision.NOT_READY, 90, 90)}],
)
def test_a_verdict_without_findings_does_not_look_fine(verdicts: Any) -> None:
    item = replace(build.accelerator(()), verdicts=verdicts)
    assert parse(build.assessment(item)).errors == 1


def test_a_use_without_findings_that_is_ready_stays_empty() -> None:
    item = replace(build.accelerator(()), verdicts={Use.TRAINING: Verdict(Decision.READY, 100, 100)})
    document = parse(build.assessment(item))
    assert (document.errors, document.failures) == (0, 0)


def test_a_stack_that_does_not_answer_is_named() -> None:
    (result,) = case(build.half_blind(), "cuda", "discovery").result
    assert result.message == "its accelerators could not be listed: RuntimeError: driver too old"


def test_hostile_texts_stay_texts() -> None:
    suite = next(iter(parse(build.hostile())))
    assert "<script>" in suite.hostname  # read back as text
    assert not any(ord(character) < 32 and character != "\n" for character in render("junit", build.hostile()))


def test_a_blocker_names_its_accelerator_and_what_it_is_about() -> None:
    (result,) = case(build.simulated(), "sim:2 (simulated) training", "softmax-bfloat16").result
    assert "softmax in bfloat16, strided input: 3 of 1200 calls differed" in result.message
    assert "on: sim:2\n" in result.text
    (result,) = case(build.simulated(), "sim:0 (simulated) training", "collectives-correct").result
    assert "on: sim:0, measured together on sim:0 to sim:3\n" in result.text


def test_a_simulated_chip_and_a_rehearsal_are_properties() -> None:
    suite = next(iter(parse(build.simulated())))
    properties = {entry.name: entry.value for entry in suite.properties()}
    assert suite.name == "sim:0 (simulated) training"
    assert properties["simulated"].endswith("a rehearsal of reported trouble, not a measurement of a product")
    assert properties["rehearsal_caught"].startswith("2 of 3 kinds")
    assert {"rehearsal_rehearsed", "rehearsal_missed", "rehearsal_false_alarms"} <= set(properties)
    assert not any("rehears" in entry.name for entry in next(iter(parse(build.everything()))).properties())
