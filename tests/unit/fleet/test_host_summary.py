"""A host's summary: it says what the assessment says, and what contradicts itself is refused."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest

from readiness.datamodel import Assessment, Outcome
from readiness.documents import host_summary, schema
from readiness.errors import BadFileError
from readiness.host.identity import host_name
from reports import host
from tests.support import fleets, saved


@pytest.fixture(scope="module")
def assessment(tmp_path_factory: pytest.TempPathFactory) -> Assessment:
    return saved.small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def summary(assessment: Assessment) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(host.render(assessment))
    return document


def test_a_summary_fits_its_schema_and_is_accepted(summary: dict[str, Any]) -> None:
    assert schema.first_problem("host", summary) is None
    assert host_summary.validated(summary, "a.json") == summary


def test_it_says_what_the_assessment_says(assessment: Assessment, summary: dict[str, Any]) -> None:
    for item, told in zip(assessment.accelerators, summary["accelerators"], strict=True):
        for use, verdict in item.verdicts.items():
            assert told["verdicts"][use.value] == {
                "verdict": verdict.decision.value, "score": verdict.score, "ceiling": verdict.ceiling,
            }  # fmt: skip
        findings = [one for one in item.findings if one.outcome in (Outcome.FAIL, Outcome.UNKNOWN)]
        assert {(one.requirement, one.outcome.value, one.use.value) for one in findings} == {
            (one["requirement"], one["outcome"], use) for one in told["open"] for use in one["uses"]
        }
        values = dict(zip(map(json.dumps, summary["figures"]), told["values"], strict=True))
        for piece in item.evidence:
            for one in piece.measurements if piece.status == "measured" else ():
                figure = {"check": piece.check, "name": one.name, "unit": one.unit, "labels": dict(sorted(one.labels.items()))}
                value = values[json.dumps(figure)]
                assert value == pytest.approx(float(one.value), rel=1e-8) if math.isfinite(one.value) else value is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one: one["accelerators"][0]["values"].pop(), "values for"),
        (lambda one: one["accelerators"].append(copy.deepcopy(one["accelerators"][0])), "share an id"),
        (lambda one: one["accelerators"][0]["verdicts"].pop("training"), "no verdict for training"),
        (lambda one: one["host"].update(name="<b>node</b>"), "does not match"),
        (lambda one: one.update(schema="readiness.host/2"), "later version"),
        (lambda one: one["accelerators"][0]["values"].__setitem__(0, True), "not of type"),
    ],
)
def test_what_contradicts_itself_is_refused(change: Any, says: str) -> None:
    document = fleets.host("node-1", 1, chips=2, count=5)
    change(document)
    with pytest.raises(BadFileError) as caught:
        host_summary.validated(document, "node-1.json")
    assert says in str(caught.value)
    assert "node-1.json" in str(caught.value)


def test_a_verdict_must_follow_from_what_is_open() -> None:
    document = fleets.host("node-1", 1, chips=1, count=5)
    fleets.fail(document, 0, "device-not-faulty", "a fault")
    host_summary.validated(document, "a")
    for verdict in ("ready", "undetermined"):
        document["accelerators"][0]["verdicts"]["training"]["verdict"] = verdict
        with pytest.raises(BadFileError, match="does not follow"):
            host_summary.validated(document, "a")
    document["accelerators"][0]["open"][0]["waived"] = True
    document["accelerators"][0]["verdicts"]["training"]["verdict"] = "ready"
    document["accelerators"][0]["verdicts"]["inference"]["verdict"] = "ready"
    host_summary.validated(document, "a")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("node-7.rack", "node-7.rack"), ("", "unnamed"), (None, "unnamed"), ("a b/../c", "a_b_.._c"), ("-.", "unnamed")],
)
def test_names_of_hosts_have_the_characters_of_such_names(name: str | None, expected: str) -> None:
    assert host_name(name) == expected
