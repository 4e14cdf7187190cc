"""The JSON report is the assessment itself: valid, strict, and read back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from readiness.documents import assessment, files, schema
from readiness.errors import BadFileError, InternalError
from readiness.rendering.formats import render
from tests.support import build


@pytest.mark.parametrize(
    "made",
    [build.everything, build.hostile, build.one_use, build.interrupted, build.nothing, build.many, build.simulated],
)
def test_it_is_valid_and_reads_back(made: Any) -> None:
    text = render("json", made())
    document = files.parse_json(text)
    assert schema.first_problem("assessment", document) is None
    assert render("json", assessment.parsed(document, "here")) == text


def test_figures_that_json_lacks_stand_as_their_names() -> None:
    item = build.accelerator((build.failed("x", value=float("inf")),))
    document = json.loads(render("json", build.assessment(item)))
    assert document["accelerators"][0]["findings"][0]["value"] == "Infinity"
    assert document["accelerators"][0]["evidence"][0]["measurements"][1]["value"] == "NaN"


def test_what_does_not_fit_the_schema_is_never_written() -> None:
    with pytest.raises(InternalError, match="score"):
        render("json", build.assessment(build.accelerator((), score=101.0)))


def test_what_is_simulated_and_what_was_rehearsed_survive() -> None:
    again = assessment.parsed(files.parse_json(render("json", build.simulated())), "here")
    assert again.accelerators[0].facts.properties == build.SIMULATED
    assert again.rehearsal == build.REHEARSAL
    assert assessment.parsed(files.parse_json(render("json", build.everything())), "here").rehearsal is None


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": -1}, {"seeds": ["a"]}, {"healthy_runs": None}, {"defects": [{"defect": "nan"}]},
        {"false_alarms": [{"check": "parity.matmul"}]}, {"profile": "<script>"}, {"defects": "all"},
    ],
)  # fmt: skip
def test_a_rehearsal_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    document = files.parse_json(render("json", build.simulated()))
    document["rehearsal"] |= change
    with pytest.raises(BadFileError, match="rehearsal"):
        assessment.parsed(document, "here")
