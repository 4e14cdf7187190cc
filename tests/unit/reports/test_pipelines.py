"""Formats for pipelines, each opened by a reader that knows nothing of us: red where the exit code is not 0."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import xmlschema
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from readiness.datamodel import Assessment, Decision, Level, Outcome
from readiness.documents import assessment as documents
from readiness.documents.strict_json import plain
from readiness.judging.judge import worst_decision
from readiness.judging.nagios_status import NagiosStatus, nagios_status
from readiness.rendering import Kind, kind
from readiness.rendering.formats import formats, render
from tests.support import build, saved

FOLDER = Path(__file__).parent / "schemas"
FORMATS = ("junit", "sarif", "ctrf", "openmetrics", "nagios", "github")
LEVELS = (Level.MUST, Level.SHOULD, None)
EVERY = [
    build.everything, build.hostile, build.one_use, build.interrupted, build.nothing, build.many, build.simulated,
    build.half_blind,
]  # fmt: skip


def is_red(assessment: Assessment, fail_on: Level | None) -> bool:
    return assessment.interrupted or worst_decision(assessment.accelerators, fail_on) is not Decision.READY


# -------------------------------------------------------------------------------------------------------- JUnit, SARIF, CTRF


@cache
def xsd() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(FOLDER / "junit-10.xsd"))


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("made", EVERY)
def test_junit_fits_the_schema_that_jenkins_reads_by(made: Any, fail_on: Level | None) -> None:
    xsd().validate(render("junit", made(), fail_on=fail_on))


@cache
def validator(file: str, kind: Any) -> Any:
    return kind(json.loads((FOLDER / file).read_text()), format_checker=kind.FORMAT_CHECKER)


def sarif(assessment: Assessment, fail_on: Level | None = Level.MUST) -> Any:
    document = json.loads(render("sarif", assessment, fail_on=fail_on))
    validator("sarif-schema-2.1.0.json", jsonschema.Draft4Validator).validate(document)
    return document["runs"][0]


def ctrf(assessment: Assessment, fail_on: Level | None = Level.MUST) -> Any:
    document = json.loads(render("ctrf", assessment, fail_on=fail_on))
    validator("ctrf.schema.json", jsonschema.Draft7Validator).validate(document)
    return document["results"]


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("made", EVERY)
def test_sarif_has_an_error_exactly_where_the_exit_code_is_not_0(made: Any, fail_on: Level | None) -> None:
    assessment = made()
    run = sarif(assessment, fail_on)
    assert any(result["level"] == "error" for result in run["results"]) == is_red(assessment, fail_on)
    assert all(result["level"] == "none" for result in run["results"] if result["kind"] != "fail")
    assert [run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] for result in run["results"]] == [
        result["ruleId"] for result in run["results"]
    ]
    assert run["invocations"][0]["executionSuccessful"] is not assessment.interrupted


def test_sarif_omits_passes_and_marks_waivers() -> None:
    run = sarif(build.everything())
    named = {result["ruleId"]: result for result in run["results"]}
    assert not {"matmul-float32", "streams"} & named.keys()
    assert named["float64"]["suppressions"][0]["justification"].startswith("The model does not use it. (by Ada Lovelace")
    assert (named["fault-counters"]["kind"], named["all-reduce"]["kind"]) == ("open", "fail")
    assert (named["curiosity"]["level"], named["old-waiver"]["level"]) == ("note", "warning")
    assert named["matmul-bfloat16"]["properties"]["uses"] == ["training", "inference"]
    assert [result["level"] for result in run["results"]] == sorted(
        (result["level"] for result in run["results"]), key=["error", "warning", "note", "none"].index
    )


def test_a_result_stands_at_the_line_of_its_requirement(tmp_path: Path) -> None:
    assessment = documents.from_json(json.loads(documents.dumps(documents.to_json(saved.small(tmp_path)))), "again")
    lines = (tmp_path / "small.toml").read_text().splitlines()
    results = sarif(assessment)["results"]
    assert results
    for result in results:
        (place,) = [location["physicalLocation"] for location in result["locations"]]
        assert place["artifactLocation"] == {"uri": "small.toml"}
        declared = "\n".join(lines[place["region"]["startLine"] - 1 :][:3])
        assert f'id = "{result["ruleId"]}"' in declared
    assert {test["line"] for test in ctrf(assessment)["tests"]} >= {
        result["locations"][0]["physicalLocation"]["region"]["startLine"] for result in results
    }


def test_a_shipped_profile_lies_in_no_folder_of_the_repository(tmp_path: Path) -> None:
    made = saved.small(tmp_path)
    assert made.basis is not None
    places = dict.fromkeys(made.basis.places, "shipped:profiles/general.toml:12")
    made = replace(made, basis=replace(made.basis, places=places))
    location = sarif(made)["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"] == {"uri": "profiles/general.toml", "uriBaseId": "READINESS"}
    assert "file=" not in render("github", made)


def test_without_places_the_profile_is_named() -> None:
    location = sarif(build.everything())["results"][0]["locations"][0]["physicalLocation"]
    assert location == {"artifactLocation": {"uri": "general.toml"}}


def test_results_beyond_what_readers_take_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[formats()["sarif"].render.__module__], "MOST_RESULTS", 3)
    run = sarif(build.everything())
    assert len(run["results"]) == 3
    assert "are left out" in run["invocations"][0]["toolExecutionNotifications"][-1]["message"]["text"]


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("made", EVERY)
def test_ctrf_fails_exactly_where_the_exit_code_is_not_0(made: Any, fail_on: Level | None) -> None:
    assessment = made()
    results = ctrf(assessment, fail_on)
    assert (results["summary"]["failed"] > 0) == is_red(assessment, fail_on)
    assert results["summary"]["tests"] == len(results["tests"])
    by_status = {word: sum(test["status"] == word for test in results["tests"]) for word in ("passed", "failed", "skipped")}
    assert by_status.items() <= results["summary"].items()
    passed = sum(finding.outcome is Outcome.PASS for item in assessment.accelerators for finding in item.findings)
    assert by_status["passed"] == passed
    assert results["environment"]["healthy"] == (not is_red(assessment, Level.MUST))


# -------------------------------------------------------------------------------------------------------------- OpenMetrics


def families(assessment: Assessment, fail_on: Level | None = Level.MUST) -> dict[str, Any]:
    """By both readers, which must agree."""
    text = render("openmetrics", assessment, fail_on=fail_on)
    found = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    older = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert {name: str(family.samples) for name, family in found.items()} == {
        name: str(family.samples) for name, family in older.items()
    }
    return found


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("made", EVERY)
def test_metrics_have_the_exit_code(made: Any, fail_on: Level | None) -> None:
    assessment = made()
    found = families(assessment, fail_on)
    (code,) = found["readiness_exit_code"].samples
    assert (code.value != 0) == is_red(assessment, fail_on)
    assert {family.type for family in found.values()} == {"gauge"}
    (count,) = found["readiness_accelerators"].samples
    assert count.value == len(assessment.accelerators)
    for item in assessment.accelerators:
        for use, verdict in item.verdicts.items():
            states = {
                sample.labels["verdict"]: sample.value
                for sample in found["readiness_verdict"].samples
                if (sample.labels["accelerator"], sample.labels["use"]) == (item.facts.id, use.value)
            }
            assert states == {decision.value: float(decision is verdict.decision) for decision in Decision}


def test_metrics_name_what_is_open_and_what_was_measured() -> None:
    found = families(build.everything())
    unmet = {
        (sample.labels["requirement"], sample.labels["use"], sample.labels["kind"])
        for sample in found["readiness_requirement_open"].samples
    }
    expected = {
        (finding.requirement, finding.use.value, kind(finding).value)
        for finding in build.everything().accelerators[0].findings
        if kind(finding) in (Kind.BLOCKER, Kind.LIMIT, Kind.UNKNOWN, Kind.WAIVED)
    }
    assert unmet == expected
    values = {(s.labels["accelerator"], s.labels["requirement"]): s for s in found["readiness_requirement_value"].samples}
    assert values["cuda:0", "copy-bandwidth"].value == 11.5
    assert values["cuda:0", "copy-bandwidth"].labels["unit"] == "GB/s"
    assert str(values["cuda:0", "curiosity"].value) == "nan"


# ------------------------------------------------------------------------------------------------------------------- Nagios


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("made", EVERY)
def test_a_plugin_line_has_state_and_figures(made: Any, fail_on: Level | None) -> None:
    assessment = made()
    first, *more = render("nagios", assessment, fail_on=fail_on).splitlines()
    state = nagios_status(assessment, fail_on)
    assert first.startswith(f"READINESS {state.name} - ")
    assert (state in (NagiosStatus.CRITICAL, NagiosStatus.UNKNOWN)) == is_red(assessment, fail_on)
    assert first.count("|") == 1
    assert not any("|" in line for line in more)
    for figure in first.partition(" | ")[2].split(" "):
        assert re.fullmatch(r"[a-z_]+=[0-9.e+]+s?;;;0(;1|;100)?", figure), figure


def test_ready_with_limits_is_a_warning_and_with_shoulds_critical() -> None:
    assert nagios_status(build.one_use()) is NagiosStatus.WARNING
    assert nagios_status(build.one_use(), Level.SHOULD) is NagiosStatus.CRITICAL
    assert nagios_status(build.one_use(), None) is NagiosStatus.OK
    assert nagios_status(build.interrupted(), None) is NagiosStatus.UNKNOWN
    assert nagios_status(build.nothing()) is NagiosStatus.UNKNOWN


def test_a_plugin_names_what_stands_in_the_way() -> None:
    text = render("nagios", build.everything())
    assert "training NOT READY 61..97 (3 blockers, 1 limit, 4 unknown)" in text.splitlines()[0].replace("2 limits", "1 limit")
    assert "blocker: cuda:0: backward-coverage (training): backward_coverage is 0.99999" in text


# ------------------------------------------------------------------------------------------------------------------- GitHub

#: As the runner reads a line: command, properties, message.
COMMAND = re.compile(r"::(?P<word>[a-z]+) (?P<properties>[^\n]*?)::(?P<message>[^\n]*)")


def commands_of(assessment: Assessment, fail_on: Level | None = Level.MUST) -> list[re.Match[str]]:
    lines = render("github", assessment, fail_on=fail_on).split("\n")
    assert lines.pop() == ""
    found = [COMMAND.fullmatch(line) for line in lines]
    return [match for match in found if match is not None or pytest.fail("a line that is no command")]


@pytest.mark.parametrize("fail_on", LEVELS)
@pytest.mark.parametrize("made", EVERY)
def test_annotations_are_few_and_red_where_the_exit_code_is(made: Any, fail_on: Level | None) -> None:
    assessment = made()
    found = commands_of(assessment, fail_on)
    assert len(found) <= 10
    assert {match["word"] for match in found} <= {"error", "warning", "notice"}
    assert any(match["word"] == "error" for match in found) == is_red(assessment, fail_on)


def test_what_finds_no_room_is_counted() -> None:
    blockers = tuple(build.failed(f"must-{number}") for number in range(30))
    found = commands_of(build.assessment(build.accelerator(blockers)))
    assert len(found) == 10
    assert found[-1]["properties"] == "title=21 more"
    assert found[-1]["word"] == "error"


def test_an_annotation_stands_at_the_line_of_the_profile(tmp_path: Path) -> None:
    assessment = saved.small(tmp_path)
    assert assessment.basis is not None
    places = {id: place.replace("small.toml", "ci/a,b:c.toml") for id, place in assessment.basis.places.items()}
    first = commands_of(replace(assessment, basis=replace(assessment.basis, places=places)))[0]
    assert "file=ci/a%2Cb%3Ac.toml,line=" in first["properties"]


# -------------------------------------------------------------------------------------------------------------- all of them


def texts(value: Any) -> list[str]:
    """All texts in a JSON document."""
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *texts(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_texts_stay_texts(name: str) -> None:
    text = render(name, build.hostile())
    assert not [c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"]
    if name in ("sarif", "ctrf"):
        for inner in texts(json.loads(text)):
            assert not [c for c in inner if c != "\n" and unicodedata.category(c)[0] == "C"]
    if name == "github":
        return
    assert not re.search(r"^\s*::|##\[|##vso\[", text, re.MULTILINE)


@pytest.mark.parametrize("name", FORMATS)
def test_a_command_in_a_text_of_a_device_reaches_no_runner(name: str) -> None:
    evil = "fine\n::error title=x::y %0A::stop-commands::z ##vso[task.complete] ##[error] ::add-mask::a"
    bad = build.failed("strange", reason=evil, labels={"op": evil}, title=evil, why=evil)
    device = build.facts(vendor=evil, model=evil, software={evil: evil})
    text = render(name, build.assessment(build.accelerator((bad,), facts_=device), profile_title=evil))
    assert not re.search(r"^\s*::(stop-commands|add-mask)|##\[|##vso\[", text, re.MULTILINE)
    if name == "github":
        for match in commands_of(build.assessment(build.accelerator((bad,), facts_=device))):
            assert match["word"] == "error"
            assert re.search(r"%(?!0A|25)", match["message"]) is None
    else:
        assert not re.search(r"^\s*::", text, re.MULTILINE)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_assessment_gives_the_same_bytes(name: str) -> None:
    assert render(name, build.everything()) == render(name, build.everything())


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_of_ten_megabytes_is_cut(name: str) -> None:
    bad = build.failed("strange", reason="x" * 10_000_000, labels={"op": "y" * 10_000_000})
    assert len(render(name, build.assessment(build.accelerator((bad,))))) < 50_000


def test_places_are_kept_and_read_back(tmp_path: Path) -> None:
    assessment = saved.small(tmp_path)
    assert assessment.basis is not None
    assert set(assessment.basis.places) == set(saved.REQUIREMENTS)
    again = documents.from_json(documents.to_json(assessment), "again")
    assert again.basis is not None
    assert plain(again.basis.places) == plain(assessment.basis.places)
