"""Saved assessments that contradict themselves are refused with the place; those that readiness wrote are read."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from readiness import __version__
from readiness.__main__ import main
from readiness.datamodel import Basis, Decision, Evidence, Finding, Level, Limit, Measurement, Operator, Outcome, Status, Use
from readiness.documents import assessment, consistency
from readiness.errors import BadFileError, Exit
from readiness.judging import legacy_consistency, profile_demands
from readiness.judging.rejudge import rejudge
from readiness.profile import loader as profiles
from readiness.profile import shipped
from readiness.rendering import formats
from tests.support import build, mutations, saved
from tests.support.paths import RESOURCES

EARLY = RESOURCES / "assessments" / "early.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files of the small profile lie."""
    return tmp_path_factory.mktemp("small")


@pytest.fixture
def document(folder: Path) -> Any:
    """The small assessment as JSON, to be altered."""
    return json.loads(assessment.dumps(assessment.to_json(saved.small(folder))))


@pytest.fixture
def early() -> Any:
    """A file that an early version wrote, to be altered."""
    return json.loads(EARLY.read_text())


# ------------------------------------------------------------------------------------------------ what is told is read


def test_what_readiness_wrote_is_read(document: Any) -> None:
    read = assessment.from_json(document, "here")
    assert {finding.outcome for item in read.accelerators for finding in item.findings} == set(Outcome)
    assert assessment.notes(read, __version__) == []
    assert assessment.to_json(read) == document


def test_a_failure_within_its_spread_is_read_as_early_versions_judged_it(document: Any) -> None:
    """They knew no spread: a value that missed its bound had failed. What is unknown for its spread is not known to pass."""
    place, finding = next(
        (item, finding)
        for item in document["accelerators"]
        for finding in item["findings"]
        if finding["outcome"] == "fail" and isinstance(finding["value"], float) and finding["waived"] is None
    )
    for piece in place["evidence"]:
        for one in piece["measurements"]:
            if piece["check"] == finding["check"] and one["name"] == finding["measure"] and one["value"] == finding["value"]:
                one["spread"] = 1e6
    assessment.from_json(document, "here")
    finding["outcome"] = "pass"
    with pytest.raises(BadFileError, match=finding["requirement"]):
        assessment.from_json(document, "here")


def test_a_run_that_was_interrupted_is_read(folder: Path) -> None:
    demanded = saved.profile(folder)
    for kept in range(len(saved.evidence(demanded))):
        made = saved.small(folder)
        items = tuple(replace(item, evidence=item.evidence[:kept]) for item in made.accelerators)
        cut = rejudge(replace(made, accelerators=items, interrupted=True), demanded, saved.BOTH, basis=made.basis)
        assert assessment.from_json(assessment.to_json(cut), "here").interrupted
        assert all(verdict.decision is not Decision.READY for item in cut.accelerators for verdict in item.verdicts.values())


def test_what_was_judged_again_under_another_profile_is_read(folder: Path, tmp_path: Path) -> None:
    made = saved.small(folder)
    (tmp_path / "small.toml").write_text((folder / "small.toml").read_text().replace("rounds = 5", "rounds = 6"))
    (tmp_path / "mine.json.gz").write_bytes(b"another workload")
    other = profiles.load(str(tmp_path / "small.toml"), saved.CHECKLIST)
    judged = rejudge(made, other, [Use.TRAINING], basis=profiles.basis_of(other, saved.CHECKLIST))
    again = assessment.from_json(assessment.to_json(judged), "here")
    found = {finding.requirement: finding for finding in again.accelerators[0].findings}
    assert found["met"].outcome is Outcome.UNKNOWN
    assert "rounds = 5" in (found["met"].reason or "")
    assert found["of-a-file"].outcome is Outcome.UNKNOWN
    assert found["together"].outcome is Outcome.PASS
    assert again.uses == (Use.TRAINING,)


def test_every_shipped_profile_is_read_back_from_what_it_demands() -> None:
    from tests.support import checks

    for name in shipped.names():
        loaded = profiles.load(name, checks())
        again = profile_demands.requirements_of(json.loads(json.dumps(loaded.demands)))
        for before, after in zip(sorted(loaded.requirements, key=lambda item: item.id), again, strict=True):
            assert replace(before, title="", why="", source="", remedy=None, place=None, uses=tuple(sorted(before.uses))) == after
        assert profile_demands.digest_of(loaded.demands) == loaded.sha256
        assert profile_demands.understood(loaded.demands)


# ---------------------------------------------------------------------------------------------------- contradictions


def finding(document: Any, requirement: str, use: str = "training", item: int = 0) -> Any:
    """A finding of a document."""
    return next(
        entry for entry in document["accelerators"][item]["findings"] if (entry["requirement"], entry["use"]) == (requirement, use)
    )


def piece(document: Any, check: str, item: int = 0) -> Any:
    """A piece of evidence of a document."""
    return next(entry for entry in document["accelerators"][item]["evidence"] if entry["check"] == check)


def all_passed(document: Any) -> None:
    for item in document["accelerators"]:
        for entry in item["findings"]:
            entry |= {"outcome": "pass", "earned": 1.0, "waived": None, "expired_waiver": None, "value": entry["value"] or 0}
        for verdict in item["verdicts"].values():
            verdict |= {"verdict": "ready", "score": 100.0, "ceiling": 100.0, "blockers": [], "limits": [], "unknown": [], "waived": []}


def no_evidence(document: Any) -> None:
    for item in document["accelerators"]:
        item["evidence"] = []


def first_gone(document: Any) -> None:
    no_evidence(document)  # else that of several together gives it away
    del document["accelerators"][0]


def both_edited(document: Any) -> None:
    """Finding and verdict agree; the evidence says something else."""
    finding(document, "partly") | {}
    finding(document, "partly").update(outcome="pass", value=21.0, earned=1.0, reason=None)
    document["accelerators"][0]["verdicts"]["training"].update(limits=["hung"], score=68.0, ceiling=76.0)


ALTERED: dict[str, tuple[Callable[[Any], object], str, str]] = {
    "all evidence gone": (no_evidence, "but unknown follows from evidence and profile", "accelerators[0].findings[1]"),
    "one piece gone": (lambda d: d["accelerators"][1]["evidence"].pop(0), "but unknown follows", "accelerators[1].findings"),
    "everything passed": (all_passed, "but not_applicable follows", "accelerators[0].findings[0]"),
    "a pass that misses its limit": (
        lambda d: finding(d, "met").update(value=0.5), "value is 0.5, but 0.002 follows from evidence and profile", "findings[4]"
    ),
    "a pass for what failed": (both_edited, "partly for training: outcome is pass, but", "accelerators[0].findings"),
    "another limit": (lambda d: finding(d, "met").update(limit="at_most 1"), "limit is at_most 1, but", "findings[4]"),
    "another level": (lambda d: finding(d, "partly").update(level="info"), "level is info, but", "findings[8]"),
    "another weight": (lambda d: finding(d, "partly").update(weight=0.1), "weight is 0.1", "findings[8]"),
    "more points": (lambda d: finding(d, "partly").update(earned=0.9), "earned is 0.9, but", "findings[8]"),
    "another cause": (lambda d: finding(d, "partly").update(reason="sim:1"), "about something other", "findings[8]"),
    "a finding gone": (lambda d: d["accelerators"][0]["findings"].pop(4), "no finding of met for training", "[0].findings"),
    "a finding too many": (
        lambda d: d["accelerators"][0]["findings"].append(finding(d, "met") | {"requirement": "more"}), "does not require more", "findings[22]"
    ),
    "an edited score": (
        lambda d: d["accelerators"][1]["verdicts"]["training"].update(score=67.9), "the score for training is 67.9", "[1].verdicts.training"
    ),
    "an edited ceiling": (
        lambda d: d["accelerators"][0]["verdicts"]["inference"].update(ceiling=99.0), "the ceiling for inference is 99.0", "verdicts.inference"
    ),
    "a limit left out": (lambda d: d["accelerators"][0]["verdicts"]["training"]["limits"].pop(), "limits for training", "verdicts.training"),
    "an unknown left out": (lambda d: d["accelerators"][0]["verdicts"]["training"]["unknown"].pop(), "unknown for training", "verdicts"),
    "a waived left out": (lambda d: d["accelerators"][0]["verdicts"]["training"]["waived"].pop(), "waived for training", "verdicts"),
    "a verdict gone": (lambda d: d["accelerators"][0]["verdicts"].pop("training"), "there are findings for training, but no verdict", "verdicts"),
    "a use gone": (lambda d: d["uses"].pop(), "the profile does not require elsewhere for inference", "findings[11]"),
    "a better figure": (
        lambda d: piece(d, "family.topic")["measurements"][3].update(value=19.0), "value is 16.0, but", "accelerators[0].findings"
    ),
    "a worse figure": (
        lambda d: piece(d, "family.topic")["measurements"][0].update(value=0.9), "met for training: outcome is pass", "[0].findings[4]"
    ),
    "true for a number": (
        lambda d: piece(d, "family.file")["measurements"][0].update(value=True), "of-a-file for training: outcome is pass", "findings"
    ),
    "settings of another profile": (
        lambda d: piece(d, "family.topic")["settings"].update(rounds=1), "expired for training: outcome is fail, but", "findings"
    ),
    "a setting that nobody knows": (
        lambda d: piece(d, "family.topic")["settings"].update(tolerance=9), "outcome is fail, but unknown follows from evidence and profile", ""
    ),
    "evidence of another file": (
        lambda d: piece(d, "family.file")["rows"][0].update(sha256="0" * 64), "of-a-file for training: outcome is pass", "findings"
    ),
    "measured by a process that died": (
        lambda d: piece(d, "family.topic")["process"].update(exit_code=-11), "is measured, but its process died by SIGSEGV", "evidence[3]"
    ),
    "measured by a process that a signal ended": (
        lambda d: piece(d, "family.topic")["process"].update(signal="SIGBUS"), "its process died by SIGBUS", "evidence[3]"
    ),
    "measured by a process that failed": (
        lambda d: piece(d, "family.topic")["process"].update(exit_code=70), "its process ended with exit code 70", "evidence[3]"
    ),
    "measured by a process that a shell saw die": (
        lambda d: piece(d, "family.topic")["process"].update(exit_code=139), "its process ended with exit code 139", "evidence[3]"
    ),
    "measured by a process that was killed": (
        lambda d: piece(d, "family.topic")["process"].update(exit_code=-9), "its process died by SIGKILL", "evidence[3]"
    ),
    "measured by a process that was lost": (
        lambda d: piece(d, "family.topic")["process"].update(exit_code=None), "its process ended with exit code None", "evidence[3]"
    ),
    "measured with an exit code that is none": (
        lambda d: piece(d, "family.topic")["process"].update(exit_code=False), "its process ended with exit code False", "evidence[3]"
    ),
    "measured without a try": (lambda d: piece(d, "family.topic").update(attempts=0), "is measured, and has no attempt", "evidence[3]"),
    "measured elsewhere": (lambda d: piece(d, "group.sum").update(accelerators=["sim:1"]), "was measured on sim:1, but is filed", "evidence"),
    "measured with one that does not exist": (
        lambda d: piece(d, "group.sum").update(accelerators=["sim:0", "sim:7"]), "together with sim:7, which are missing in the file", "evidence"
    ),
    "copies": (
        lambda d: piece(d, "group.sum", 1).update(seconds=9.0), "their copies of it differ", "accelerators[1].evidence"
    ),
    "the joined one gone": (lambda d: d.pop("joined"), "together for training: outcome is pass, but", "findings"),
    "an accelerator gone": (first_gone, "the accelerators differ from those under test", "under_test"),
    "who was under test gone": (lambda d: d.pop("under_test"), "the accelerators differ from those under test", "under_test"),
    "another stack": (lambda d: d["accelerators"][0].update(driven_by="cuda"), "outcome is not_applicable, but pass", "findings"),
    "another limit demanded": (
        lambda d: d["profile"]["demands"]["require"][0]["limit"].update(bound=9), "the digest of the requirements differs from profile.sha256", "profile.demands"
    ),
    "another digest": (lambda d: d["profile"].update(sha256="0" * 64), "the digest of the requirements differs from profile.sha256", "profile.demands"),
    "other settings asked": (lambda d: d["profile"]["settings"]["family.topic"].update(rounds=1), "rounds of family.topic differs from", "profile.settings"),
    "no settings asked": (lambda d: d["profile"]["settings"].pop("group.sum"), "does not contain the settings of group.sum", "profile.settings"),
    "another file asked": (lambda d: d["profile"]["files"].update({"/x": "0" * 64}), "the digests of the profile's files differ", "profile.files"),
    "a waiver of another requirement": (
        lambda d: finding(d, "waived")["waived"].update(requirement="met"), "is waived by a waiver for met", "findings[10]"
    ),
    "a waiver of another chip": (lambda d: finding(d, "waived")["waived"].update(accelerator="cuda:*"), "on cuda:*", "findings[10]"),
    "a waiver that had run out": (
        lambda d: finding(d, "waived")["waived"].update(until="2026-11-22"), "the run began on 2026-11-23", "findings[10]"
    ),
    "a waiver of the unknown": (
        lambda d: finding(d, "not-known").update(waived=finding(d, "waived")["waived"] | {"requirement": "not-known"}),
        "is unknown, but only a failure can be waived", "findings",
    ),
    "a waiver in force and run out": (
        lambda d: finding(d, "waived").update(expired_waiver=finding(d, "waived")["waived"]), "is waived, but its waiver has also expired", "findings[10]"
    ),
    "points for what is waived": (lambda d: finding(d, "waived").update(earned=0.5), "earned is 0.5", "findings[10]"),
    "two of an id": (lambda d: (d["accelerators"][1].update(id="sim:0"), d.update(under_test=["sim:0", "sim:0"])), "share an id", "accelerators"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERED)
def test_what_contradicts_itself_is_refused(name: str, document: Any) -> None:
    alter, what, place = ALTERED[name]
    alter(document)
    with pytest.raises(BadFileError) as caught:
        assessment.from_json(document, "a.json")
    assert what in caught.value.what
    assert (caught.value.place or "").startswith("a.json, at ")
    assert place in (caught.value.place or "")
    assert caught.value.remedy == "give the file unchanged, as readiness 0.1.0 wrote it"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["readiness", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.mark.parametrize("command", ["report", "judge"])
def test_the_commands_end_with_2(
    command: str, document: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_evidence(document)
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert run(monkeypatch, command, str(tmp_path / "a.json")) == Exit.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "at accelerators[0].findings[" in printed.err


def test_some_alterations(document: Any) -> None:
    """Every fortieth of those that `tests/process/documents/test_alterations.py` tries, so that a quick run has tried as well."""
    every: Iterator[mutations.Mutation] = iter(list(mutations.mutations(document))[::40])
    before = mutations.rendered(assessment.from_json(document, "here"))
    refused = 0
    for mutation in every:
        undo = mutations.applied(document, mutation)
        try:
            read = assessment.from_json(document, "here")
        except BadFileError:
            refused += 1
        else:
            noted = bool(assessment.notes(read, __version__))
            assert noted or mutations.rendered(read) == before or str(mutation).endswith(mutations.NOT_DERIVABLE), mutation
        finally:
            undo()
    assert refused > 100


# ------------------------------------------------------------------------------------------ early and later versions


def test_a_file_of_an_early_version_is_read_with_a_note_about_unchecked_parts(
    early: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = assessment.from_json(early, "here")
    (note,) = assessment.notes(read, __version__)
    assert "without the requirements of its profile" in note
    assert run(monkeypatch, "report", str(EARLY)) == Exit.READY
    printed = capsys.readouterr()
    assert note in printed.err
    assert "READY" in printed.out
    assert run(monkeypatch, "report", str(EARLY), "-q") == Exit.READY
    assert capsys.readouterr().err == ""


ALTERED_EARLY: dict[str, tuple[Callable[[Any], object], str]] = {
    "all evidence gone": (no_evidence, "which is in no evidence"),
    "a pass that misses its limit": (lambda d: finding(d, "autocast-right").update(value=2), "is pass, but its value is 2 and its bound at_most 0"),
    "a limit that is none": (lambda d: finding(d, "autocast-right").update(limit="fine"), "a bound that cannot be read: fine"),
    "a value without evidence": (
        lambda d: (finding(d, "autocast-right").update(value=0.5, limit="at_most 1"), None),
        "has the value 0.5, which is in no evidence",
    ),
    "evidence of a check that raised": (lambda d: piece(d, "driver.autocast").update(status="error"), "which is in no evidence"),
    "worse evidence": (
        lambda d: piece(d, "driver.stack")["measurements"].append(piece(d, "driver.stack")["measurements"][-1] | {"value": 7}),
        "passed, but its evidence has 7",
    ),
    "a pass without its points": (lambda d: finding(d, "autocast-right").update(earned=0.5), "not all of its points"),
    "a pass without a value": (lambda d: finding(d, "autocast-right").update(value=None), "has no value"),
    "an unknown with points": (lambda d: finding(d, "no-new-faults").update(earned=1), "is unknown, but has a value or points"),
    "a failure with all points": (lambda d: finding(d, "autocast-right").update(outcome="fail", value=1), "failed, but has 1 points"),
    "a failure of what ended": (
        lambda d: finding(d, "autocast-right").update(outcome="fail", value=None, earned=0), "failed without a value, although driver.autocast finished"
    ),
    "another level for one use": (lambda d: finding(d, "no-new-faults").update(level="info"), "another level, weight or bound on another accelerator"),
    "a finding of one accelerator": (
        lambda d: (d["accelerators"].append({**d["accelerators"][0], "id": "cpu:1", "evidence": [], "findings": []})),
        "has a finding on some accelerators, but not on all",
    ),
    "an edited score": (lambda d: d["accelerators"][0]["verdicts"]["training"].update(score=62.6), "the score for training is 62.6"),
    "a process that died": (lambda d: piece(d, "driver.stack")["process"].update(exit_code=-11), "its process died by SIGSEGV"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERED_EARLY)
def test_a_file_of_an_early_version_that_contradicts_itself_is_refused(name: str, early: Any) -> None:
    alter, what = ALTERED_EARLY[name]
    alter(early)
    with pytest.raises(BadFileError) as caught:
        assessment.from_json(early, "a.json")
    assert what in caught.value.what
    assert "a.json, at accelerators[" in (caught.value.place or "")


def unfounded(limit: str, value: float | bool, outcome: Outcome, earned: float = 0.0) -> str | None:
    """What is said of a finding whose evidence has its value."""
    made = Finding("a", Use.TRAINING, Level.MUST, outcome, limit, 1.0, "c.d", "m", value=value, earned=earned)
    evidence = Evidence("c.d", Status.MEASURED, measurements=(Measurement("m", value),))
    return legacy_consistency.contradiction(made, {"c.d": evidence})


LIMITS = [
    Limit(Operator.AT_MOST, 0.123456789), Limit(Operator.AT_LEAST, -1234567.8), Limit(Operator.EQUALS, 1 / 3), Limit(Operator.EQUALS, 0),
    Limit(Operator.BETWEEN, 0.1234567, high=0.1234568), Limit(Operator.AT_LEAST, 1e-12), Limit(Operator.EQUALS, True),
]  # fmt: skip


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_a_limit_of_more_than_six_digits_blames_no_early_file(limit: Limit) -> None:
    """What is written of it is rounded: on either side of that it may have been met or missed."""
    for value in (limit.bound, limit.high or limit.bound):
        assert unfounded(str(limit), value, Outcome.PASS, 1.0) is None
    if limit.operator is not Operator.EQUALS:
        off = abs(limit.bound) * 1e-3 + 1e-3
        far = limit.bound + off if limit.operator is Operator.AT_MOST else limit.bound - off
        assert unfounded(str(limit), far, Outcome.FAIL) is None
        assert "its bound" in (unfounded(str(limit), far, Outcome.PASS, 1.0) or "")
    assert "its bound" in (unfounded(str(limit), float("nan"), Outcome.PASS, 1.0) or "")
    assert unfounded(str(limit), float("nan"), Outcome.FAIL) is None


@pytest.mark.parametrize("text", ["at_most", "at_most x", "at_most 1.2.3", "below 3", "between 1", "at_most 1 ", "equals True", ""])
def test_an_invalid_limit_is_named(text: str) -> None:
    assert "cannot be read" in (unfounded(text, 1.0, Outcome.PASS, 1.0) or "")


@pytest.mark.parametrize("version", ["99.0", "0.1.1", "0.2.0rc1", "nightly"])
def test_a_later_version_is_named_in_the_error(version: str, document: Any) -> None:
    document["tool"]["version"] = version
    (note,) = assessment.notes(assessment.from_json(document, "here"), "0.1.0")
    assert note.startswith(f"readiness {version} wrote it, and this is 0.1.0")
    no_evidence(document)
    with pytest.raises(BadFileError, match=f"give the file unchanged, as readiness {version} wrote it"):
        assessment.from_json(document, "here")


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.1.0rc1"])
def test_this_and_earlier_versions_need_no_note(version: str, document: Any) -> None:
    document["tool"]["version"] = version
    assert assessment.notes(assessment.from_json(document, "here"), "0.1.0") == []


def test_unknown_demands_of_a_later_profile_are_reported_and_not_guessed(document: Any) -> None:
    demands = document["profile"]["demands"]
    demands["require"][0]["level_of_dozens"] = "must"
    document["profile"]["sha256"] = profile_demands.digest_of(demands)
    (note,) = assessment.notes(assessment.from_json(document, "here"), __version__)
    assert "requirements that this version does not know" in note
    document["accelerators"][0]["verdicts"]["training"]["score"] = 99.0
    with pytest.raises(BadFileError, match=r"the score for training is 99\.0"):
        assessment.from_json(document, "here")


def test_a_later_document_schema_is_named_in_the_error(document: Any) -> None:
    document["schema"] = "readiness.assessment/2"
    with pytest.raises(BadFileError) as caught:
        assessment.from_json(document, "here")
    assert "a later version of readiness wrote it" in (caught.value.remedy or "")


def test_a_limit_between_without_an_end_is_none(document: Any) -> None:
    demands = document["profile"]["demands"]
    entry = next(entry for entry in demands["require"] if entry["id"] == "within")
    entry["limit"]["high"] = None
    document["profile"]["sha256"] = profile_demands.digest_of(demands)
    with pytest.raises(BadFileError, match="the bound of within is none"):
        assessment.from_json(document, "here")


def test_every_contradiction_is_found_not_only_the_first(folder: Path) -> None:
    made = saved.small(folder)
    items = tuple(replace(item, evidence=()) for item in made.accelerators)
    found = list(consistency.contradictions(replace(made, accelerators=items)))
    assert len(found) > 20
    assert len({place for place, _ in found}) == len(found)


def test_a_profile_that_was_never_in_a_file_leaves_no_basis(folder: Path) -> None:
    made = saved.small(folder, basis=Basis({}, {}))
    assert "demands" not in assessment.to_json(made)["profile"]
    assert assessment.parsed(assessment.to_json(build.everything()), "here").basis is None


ODD: list[Any] = [
    None, True, 0, -1, 7.5, 2**70, 10**300, "", "x", "NaN", "Infinity", "\x1b[2J", "\ud800", "A" * 25_000, [], {}, [1], {"a": {"b": [{}]}},
    "at_least 1", "2026-13-45", "sim:0", "[!", "beside:x",
]  # fmt: skip


@pytest.mark.parametrize("made", ["early", "document"])
def test_nothing_that_stands_in_a_file_makes_more_than_an_error_of_it(
    made: str, request: pytest.FixtureRequest, folder: Path
) -> None:
    """Whatever stands in a place: an error in words, or an assessment that is told in every format and judged again."""
    document = request.getfixturevalue(made)
    demanded = saved.profile(folder)
    chance = random.Random(22)
    places = [mutation.path for mutation in mutations.mutations(document) if mutation.value is mutations.DELETED]
    read = 0
    refused: list[BadFileError] = []
    for path in chance.sample(places, 250):
        undo = mutations.applied(document, mutations.Mutation(path, copy.deepcopy(chance.choice(ODD))))
        try:
            parsed = assessment.from_json(document, "here")
        except BadFileError as problem:
            refused.append(problem)
        else:
            read += 1
            for name in formats.formats():
                assert formats.render(name, parsed)
            again = rejudge(parsed, demanded, saved.BOTH, basis=profiles.basis_of(demanded, saved.CHECKLIST))
            assessment.from_json(assessment.to_json(again), "again")
        finally:
            undo()
    assert read > 10
    for error in refused:
        assert error.place
        assert error.remedy
        assert str(error).replace("\n", "").isprintable()
        assert len(str(error)) < 2000
