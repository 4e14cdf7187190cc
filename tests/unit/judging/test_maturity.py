"""Maturity: the share of what is present and right, what is unknown, and what others state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from readiness.datamodel import (
    AcceleratorAssessment,
    AcceleratorFacts,
    Assessment,
    Evidence,
    Finding,
    Level,
    Measurement,
    Outcome,
    Status,
    Use,
)
from readiness.documents.findings_json import maturity_to_json
from readiness.judging.maturity import FEATURES, STATED, Standing, assess
from readiness.rendering import maturity_line, maturity_rows, stated_line

DAY = "2026-12-01"


def finding(check: str, measure: str, outcome: Outcome, value: float | None = None, **labels: str) -> Finding:
    name = f"{check}-{measure}-{'-'.join(labels.values())}"
    return Finding(name, Use.TRAINING, Level.MUST, outcome, "equals 1", 1.0, check, measure, labels, value, reason=f"{name} is so")


def assessed(*findings: Finding, evidence: tuple[Evidence, ...] = (), stack: str = "cuda") -> AcceleratorAssessment:
    facts = AcceleratorFacts("cuda:0", "cuda", 0, stack, "NVIDIA", "H100")
    return AcceleratorAssessment(facts, evidence, findings, {})


def standing(item: AcceleratorAssessment, name: str) -> Any:
    return next((one for one in assess(item, DAY).features if one.feature.name == name), None)


def test_right_wrong_missing_and_unknown() -> None:
    item = assessed(
        finding("driver.dlpack", "coverage", Outcome.PASS, 1.0), finding("driver.dlpack", "wrong", Outcome.PASS, 0.0),
        finding("driver.streams", "order_violations", Outcome.FAIL, 3.0),
        finding("driver.profiler", "supported", Outcome.FAIL, 0.0, source="profiler"),
        finding("parity.matmul", "bound_ratio", Outcome.UNKNOWN, dtype="float32"),
    )  # fmt: skip
    assert standing(item, "exchange by DLPack").standing is Standing.RIGHT
    assert standing(item, "streams and events").standing is Standing.WRONG
    assert standing(item, "profiler").standing is Standing.MISSING
    assert standing(item, "matrix products").standing is Standing.UNKNOWN
    assert standing(item, "attention").reason == "the profile does not ask for it"
    found = assess(item, DAY)
    assert (found.share, len(found.known)) == (1 / 3, 3)
    assert "33 % of 3 features" in maturity_line(found)
    assert f"{len(found.features) - 3} unknown" in maturity_line(found)


def test_a_part_of_the_operators_counts_as_a_part_unless_any_is_wrong() -> None:
    where = {"catalogue": "all", "dtype": "bfloat16"}
    part = finding("operators.sweep", "forward_coverage", Outcome.FAIL, 0.8, **where)
    found = standing(assessed(part), "operators in bfloat16")
    assert (found.standing, found.credit) == (Standing.MISSING, 0.8)
    wrong = finding("operators.sweep", "wrong", Outcome.FAIL, 2.0, **where)
    assert standing(assessed(part, wrong), "operators in bfloat16").credit == 0


def test_what_does_not_apply_is_not_counted() -> None:
    item = assessed(finding("driver.streams", "order_violations", Outcome.NOT_APPLICABLE))
    assert standing(item, "streams and events") is None


def test_what_a_stack_does_not_offer_is_missing_though_its_errors_are_unknown() -> None:
    unknown = finding("driver.memory_statistics", "error", Outcome.UNKNOWN, source="driver")
    offered = Measurement("supported", 0, {"source": "driver"})
    item = assessed(unknown, evidence=(Evidence("driver.memory_statistics", Status.MEASURED, measurements=(offered,)),))
    assert standing(item, "reported memory").standing is Standing.MISSING
    skipped = assessed(unknown, evidence=(Evidence("driver.memory_statistics", Status.SKIPPED),))
    assert standing(skipped, "reported memory").standing is Standing.UNKNOWN


def test_a_way_of_running_with_wrong_results_is_wrong_though_it_is_there() -> None:
    there = finding("parity.execution", "supported", Outcome.PASS, 1.0, mode="graph")
    measured = Evidence("parity.execution", Status.MEASURED, measurements=(Measurement("wrong", 2, {"mode": "graph"}),))
    assert standing(assessed(there, evidence=(measured,)), "graphs").standing is Standing.WRONG
    other = replace(measured, measurements=(Measurement("wrong", 2, {"mode": "traced"}),))
    assert standing(assessed(there, evidence=(other,)), "graphs").standing is Standing.RIGHT


def test_nothing_measured_has_no_share() -> None:
    found = assess(assessed(), DAY)
    assert found.share is None
    assert maturity_line(found).startswith("unknown")
    assert maturity_to_json(found) == {}


def test_what_others_state_is_marked_and_ends() -> None:
    right = finding("driver.dlpack", "wrong", Outcome.PASS, 0.0)
    found = assess(assessed(right, stack="ascend"), DAY)
    line = stated_line(found)
    assert line is not None
    assert "L3" in line
    assert "not measured" in line
    assert stated_line(assess(assessed(right, stack="ascend"), "2031-01-01")) is None
    assert stated_line(assess(assessed(right, stack="cuda"), DAY)) is None
    assert all(one.source.startswith("https://") and one.as_of < one.until for one in STATED.values())
    assert maturity_to_json(found)["maturity"]["stated"]["level"].startswith("L3")


def test_every_thing_is_about_measures_that_a_check_declares() -> None:
    from readiness import check_registry

    known = check_registry.discover()
    for feature in FEATURES:
        assert feature.check in known, feature
        assert set(feature.measures) <= known[feature.check].measures.keys(), feature
    assert len({(feature.area, feature.name) for feature in FEATURES}) == len(FEATURES)


def test_reports_have_the_line_and_the_list() -> None:
    from readiness.rendering.formats import render

    item = assessed(finding("driver.dlpack", "wrong", Outcome.PASS, 0.0), finding("driver.streams", "order_violations", Outcome.FAIL, 3.0))
    document = Assessment("0.1.0", 7, "2026-12-01T00:00:00Z", 1.0, {}, "general", "", "", (Use.TRAINING,), (item,))
    for text in (render("table", document), render("html", document), render("markdown", document)):
        assert "50 %" in text, text
    assert "| driver | streams and events | wrong |" in render("markdown", document)
    untold = Assessment("0.1.0", 7, "2026-12-01T00:00:00Z", 1.0, {}, "general", "", "", (Use.TRAINING,), (assessed(),))
    assert "### Maturity" not in render("markdown", untold)
    assert "wrong: streams and events (driver)" in render("table", document, verbose=True)
    assert maturity_rows(assess(item, DAY))[0][:3] == ("driver", "versions that fit together", "unknown")
