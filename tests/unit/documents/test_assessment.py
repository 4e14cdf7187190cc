"""The assessment as a document: what is written is read back as it was; what is no assessment is refused in words."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readiness.datamodel import (
    Action,
    Assessment,
    Decision,
    Evidence,
    Finding,
    Level,
    Measurement,
    Outcome,
    Remedy,
    Status,
    Use,
    Verdict,
    Waiver,
)
from readiness.documents import assessment as documents
from readiness.documents import files, schema
from readiness.documents.strict_json import number_from_json, number_to_json
from readiness.errors import BadFileError, Exit, InternalError
from readiness.missing_evidence import Cause, KillCause, SkipCause, StopCause
from tests.support import build

CAUSES = [*StopCause, *KillCause, *SkipCause]
MADE = [build.everything, build.hostile, build.one_use, build.interrupted, build.nothing, build.many]

#: The keys that the contract names, and no other.
CONTRACT: dict[str, Any] = {
    "schema": "readiness.assessment/1",
    "tool": {"name": "readiness", "version": "0.1.0", "seed": 7},
    "started": "2026-11-23T10:00:00Z",
    "seconds": 41.8,
    "host": {"system": "Linux"},
    "profile": {"name": "general", "sha256": "0" * 64},
    "accelerators": [
        {
            "id": "cpu:0",
            "vendor": "Acme",
            "model": "A1",
            "stack": {"torch": "2.9.1", "driver": None},
            "evidence": [
                {
                    "check": "parity.matmul",
                    "status": "measured",
                    "reason": None,
                    "seconds": 0.4,
                    "measurements": [
                        {"name": "relative_error", "value": 1.1e-7, "unit": "1", "labels": {"dtype": "float32"}}
                    ],
                    "rows": [],
                }
            ],
            "findings": [
                {
                    "requirement": "matmul-float32",
                    "use": "training",
                    "level": "must",
                    "outcome": "pass",
                    "value": 1.1e-7,
                    "limit": "at_most 1e-5",
                    "weight": 3,
                    "waived": None,
                    "remedy": None,
                }
            ],
            "verdicts": {
                "training": {
                    "verdict": "ready", "score": 100.0, "ceiling": 100.0, "blockers": [], "limits": [], "unknown": [],
                }
            },
        }
    ],
}  # fmt: skip


def copy() -> dict[str, Any]:
    """The contract's document, to be changed."""
    answer: dict[str, Any] = json.loads(json.dumps(CONTRACT))
    return answer


def full() -> dict[str, Any]:
    """The same with what a finding of ours always says besides."""
    answer = copy()
    answer["accelerators"][0]["findings"][0] |= {"check": "parity.matmul", "measure": "relative_error"}
    return answer


# ---------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("made", MADE)
def test_what_is_written_is_read_back(made: Callable[[], Assessment], tmp_path: Path) -> None:
    document = documents.to_json(made())
    (tmp_path / "a.json").write_text(json.dumps(document))
    again = documents.parsed(files.read_json(tmp_path / "a.json", largest_bytes=2**20), "here")
    assert documents.to_json(again) == document


def test_everything_is_read_back_as_the_same_values() -> None:
    assessment = build.everything()
    again = documents.parsed(json.loads(documents.dumps(documents.to_json(assessment))), "here")
    # repr: NaN equals itself there; lists in settings are lists on both sides.
    for before, after in zip(assessment.accelerators, again.accelerators, strict=True):
        assert repr(before.facts) == repr(after.facts)
        assert repr(before.findings) == repr(after.findings)
        assert repr(before.evidence) == repr(after.evidence)
        assert repr(dict(before.verdicts)) == repr(dict(after.verdicts))
    assert replace(again, accelerators=()) == replace(assessment, accelerators=())


words = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
numbers = st.one_of(st.floats(), st.integers(-(2**70), 2**70), st.booleans())
label_maps = st.dictionaries(texts, texts, max_size=3)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
nested = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
details = st.dictionaries(texts, nested, max_size=3)
dates = st.dates().map(lambda day: day.isoformat())
some_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
waivers = st.none() | st.builds(Waiver, words, words, some_text, some_text, dates)
findings = st.builds(
    Finding, requirement=words, use=st.sampled_from(Use), level=st.sampled_from(Level), outcome=st.sampled_from(Outcome),
    limit=some_text, weight=st.floats(0, 1000), check=words, measure=words, labels=label_maps, value=st.none() | numbers,
    unit=st.none() | texts, earned=st.floats(0, 1), reason=st.none() | texts, why=texts,
    remedy=st.none() | st.builds(Remedy, texts, st.sampled_from(Action)), waived=waivers, expired_waiver=waivers,
)  # fmt: skip
measurements = st.builds(
    Measurement, name=words, value=numbers, labels=label_maps, unit=st.none() | texts,
    spread=st.none() | st.floats(), samples=st.none() | st.integers(0, 10**6),
)  # fmt: skip
pieces = st.builds(
    Evidence, check=words, status=st.sampled_from(Status), reason=st.none() | texts,
    seconds=st.floats(0, 10**6).map(lambda seconds: round(seconds, 3)), attempts=st.integers(0, 5),
    measurements=st.lists(measurements, max_size=3).map(tuple), rows=st.lists(details, max_size=2).map(tuple),
    settings=details, environment=details, process=details, accelerators=st.just(("cpu:0",)), log=texts,
)  # fmt: skip
verdicts = st.builds(
    Verdict, st.sampled_from(Decision), st.floats(0, 100), st.floats(0, 100),
    *[st.lists(words, max_size=3).map(tuple)] * 4,
).map(lambda verdict: replace(verdict, ceiling=max(verdict.score, verdict.ceiling)))  # fmt: skip


@given(
    st.lists(findings, max_size=3, unique_by=lambda finding: (finding.requirement, finding.use)).map(tuple),
    st.lists(pieces, max_size=2, unique_by=lambda piece: piece.check).map(tuple),
    st.dictionaries(st.sampled_from(Use), verdicts),
    details,
)
@settings(max_examples=60, deadline=None)
def test_any_assessment_survives_the_round_trip(found: Any, evidence: Any, decided: Any, host: Any) -> None:
    item = replace(build.accelerator(()), findings=found, evidence=evidence, verdicts=decided)
    document = documents.to_json(build.assessment(item, host=host))
    text = documents.dumps(document)
    again = documents.parsed(files.parse_json(text), "here")
    assert documents.dumps(documents.to_json(again)) == text


@given(numbers)
def test_numbers_survive(value: float | bool) -> None:
    text = json.dumps(number_to_json(value), allow_nan=False)
    again = number_from_json(json.loads(text))
    assert repr(again) == repr(value)


def test_a_document_with_the_keys_of_the_contract_alone_is_read() -> None:
    read = documents.from_json(copy(), "here")
    assert read.accelerators[0].facts.kind == "cpu"
    assert read.accelerators[0].findings[0].check == ""
    assert read.accelerators[0].verdicts[Use.TRAINING].decision is Decision.READY
    assert documents.from_json(documents.to_json(read), "here") == read


@pytest.mark.parametrize("name", [1, 70, "9", "readiness/2", None])
def test_an_unknown_key_is_a_bad_file(name: object) -> None:
    document = copy()
    document["tool"]["name"] = name
    with pytest.raises(BadFileError) as caught:
        documents.from_json(document, "here")
    assert "tool.name" in str(caught.value)


def paths(document: Any, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every key of a document."""
    found: list[tuple[str | int, ...]] = []
    children = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in children:
        found += [(*above, key), *paths(value, (*above, key))] if isinstance(key, str) else paths(value, (*above, key))
    return found


#: Where the contract leaves the keys to whoever writes.
FREE = ("host", "stack", "labels", "verdicts")


@pytest.mark.parametrize("path", [path for path in paths(CONTRACT) if not any(key in FREE for key in path[:-1])], ids=str)
def test_every_key_of_the_contract_must_be_there(path: tuple[str | int, ...]) -> None:
    document = copy()
    inner: Any = document
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    with pytest.raises(BadFileError, match=f"'{path[-1]}' is a required property"):
        documents.from_json(document, "here")


def test_later_versions_may_add_keys() -> None:
    document = full()
    document["later"] = 1
    item = document["accelerators"][0]
    item["later"] = item["evidence"][0]["later"] = item["findings"][0]["later"] = {"a": [1]}
    item["verdicts"]["training"]["later"] = item["evidence"][0]["measurements"][0]["later"] = None
    documents.from_json(document, "here")


def test_the_schema_is_valid_and_describes_every_key() -> None:
    from jsonschema import Draft202012Validator

    document = json.loads(schema.text("assessment"))
    Draft202012Validator.check_schema(document)
    assert document["properties"]["schema"]["const"] == documents.SCHEMA

    def look(part: Any, place: str) -> None:
        for name, inner in part.get("properties", {}).items():
            assert inner.get("title") or "$ref" in inner, f"{place}.{name} has no title"
            look(inner, f"{place}.{name}")

    look(document, "top")
    for name, part in document["$defs"].items():
        look(part, name)


@pytest.mark.parametrize("kind", [Status, Level, Outcome, Decision, Action, Use])
def test_the_schema_knows_every_word_of_the_model(kind: Any) -> None:
    def enums(part: Any) -> list[list[str]]:
        if isinstance(part, dict):
            own = [part["enum"]] if "enum" in part else []
            return own + [found for inner in part.values() for found in enums(inner)]
        return []

    assert [word.value for word in kind] in enums(json.loads(schema.text("assessment")))


# ------------------------------------------------------------------------------------------- hostile files


def change(*path: str | int, to: Any) -> Callable[[], str]:
    """The text of the contract's document with one value changed."""

    def make() -> str:
        document = copy()
        inner: Any = document
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = to
        return json.dumps(document)

    return make


def literally(wanted: str, instead: str) -> Callable[[], str]:
    """The text of the contract's document with one piece of text changed."""

    def make() -> str:
        text = json.dumps(CONTRACT)
        assert wanted in text
        return text.replace(wanted, instead, 1)

    return make


def twice(key: str) -> Callable[[], str]:
    """The contract's document with the first element of a list repeated."""

    def make() -> str:
        document = copy()
        inner = document["accelerators"] if key == "accelerators" else document["accelerators"][0][key]
        inner.append(inner[0])
        return json.dumps(document)

    return make


ITEM = ("accelerators", 0)
FINDING = (*ITEM, "findings", 0)
EVIDENCE = (*ITEM, "evidence", 0)
FIGURE = (*EVIDENCE, "measurements", 0)
VERDICT = (*ITEM, "verdicts", "training")
WAIVER = {"requirement": "x", "accelerator": "*", "reason": "r", "by": "b", "until": "2027-01-31"}

# name: (text or bytes, what the message says, where it says it is)
HOSTILE: dict[str, tuple[Callable[[], str | bytes], str, str]] = {
    "empty": (lambda: "", "not JSON", "a.json:1"),
    "blank": (lambda: "\n\n  \n", "not JSON", "a.json:4"),
    "truncated": (lambda: json.dumps(CONTRACT, indent=1)[:-200], "not JSON", "a.json:"),
    "half a string": (lambda: '{"schema": "readi', "Unterminated string", "a.json:1"),
    "something after it": (lambda: json.dumps(CONTRACT) + "{}", "Extra data", "a.json:1"),
    "not UTF-8": (lambda: b'{"schema": "\xff\xfe"}', "not UTF-8 text", "a.json"),
    "UTF-16": (lambda: json.dumps(CONTRACT).encode("utf-16"), "not UTF-8 text", "a.json"),
    "byte order mark": (lambda: b"\xef\xbb\xbf" + json.dumps(CONTRACT).encode(), "not JSON", "a.json:1"),
    "binary": (lambda: bytes(range(256)) * 100, "not UTF-8 text", "a.json"),
    "NUL bytes": (lambda: b"\0" * 1000, "not JSON", "a.json:1"),
    "a list": (lambda: "[]", "not of type 'object'", "the top"),
    "null": (lambda: "null", "not of type 'object'", "the top"),
    "a number": (lambda: "17", "not of type 'object'", "the top"),
    "deep nesting": (lambda: "[" * 100_000, "nested too deeply", "a.json"),
    "deep objects": (lambda: '{"a":' * 50_000, "nested too deeply", "a.json"),
    "deep but closed details": (literally('"Linux"', "[" * 200 + "]" * 200), "of type 'null'", "host.system"),
    "NaN literal": (literally("41.8", "NaN"), "NaN is not a JSON number", "a.json"),
    "infinity literal": (literally("100.0", "-Infinity"), "-Infinity is not a JSON number", "a.json"),
    "duplicated key": (literally('"schema"', '"schema": "x", "schema"'), "'schema' occurs twice", "a.json"),
    "a number of 5000 digits": (literally('"seed": 7', f'"seed": {"9" * 5000}'), "a number of 5000 digits", "a.json:1"),
    "a huge number": (change("tool", "seed", to=10**300), "greater than the maximum", "tool.seed"),
    "score 1e999": (literally('"score": 100.0', '"score": 1e999'), "1e999 is too large for a number", "a.json:1"),
    "value 1e999": (literally('"value": 1.1e-07, "unit"', '"value": 1e999, "unit"'), "1e999 is too large for a number", "a.json:1"),
    "unknown version": (change("schema", to="readiness.assessment/2"), "'readiness.assessment/1' was expected", "schema"),
    "another tool's": (lambda: '{"version": 1, "results": []}', "is a required property", "the top"),
    "version of wrong type": (change("schema", to=1), "was expected", "schema"),
    "score above": (change(*VERDICT, "score", to=100.1), "greater than the maximum", "verdicts.training.score"),
    "score below": (change(*VERDICT, "ceiling", to=-1), "less than the minimum", "verdicts.training.ceiling"),
    "bool as number": (change(*VERDICT, "score", to=True), "not of type 'number'", "verdicts.training.score"),
    "bool as weight": (change(*FINDING, "weight", to=True), "not of type 'number'", "findings[0].weight"),
    "weight below zero": (change(*FINDING, "weight", to=-1), "less than the minimum", "findings[0].weight"),
    "number as text": (change("seconds", to="41.8"), "not of type 'number'", "seconds"),
    "value as text": (change(*FIGURE, "value", to="1.0"), "does not match", "measurements[0].value"),
    "value of a finding as text": (change(*FINDING, "value", to="nan"), "", "findings[0].value"),
    "value null": (change(*FIGURE, "value", to=None), "not of type", "measurements[0].value"),
    "labels of numbers": (change(*FIGURE, "labels", to={"size": 3}), "not of type 'string'", "labels.size"),
    "labels as list": (change(*FIGURE, "labels", to=["size"]), "not of type 'object'", "measurements[0].labels"),
    "unknown use": (change(*ITEM, "verdicts", "play", to={}), "unexpected", "verdicts"),
    "unknown use of a finding": (change(*FINDING, "use", to="play"), "not one of", "findings[0].use"),
    "unknown decision": (change(*VERDICT, "verdict", to="fine"), "not one of", "verdicts.training.verdict"),
    "unknown status": (change(*EVIDENCE, "status", to="ok"), "not one of", "evidence[0].status"),
    "unknown outcome": (change(*FINDING, "outcome", to="PASS"), "not one of", "findings[0].outcome"),
    "unknown action": (change(*FINDING, "remedy", to={"text": "x", "action": "rm -rf"}), "not one of", "remedy.action"),
    "remedy as text": (change(*FINDING, "remedy", to="buy"), "not of type", "findings[0].remedy"),
    "waiver without an end": (change(*FINDING, "waived", to={"by": "me"}), "is a required property", "findings[0].waived"),
    "waiver with more": (change(*FINDING, "waived", to=WAIVER | {"x": 1}), "unexpected", "findings[0].waived"),
    "waiver until never": (change(*FINDING, "waived", to=WAIVER | {"until": "never"}), "does not match", "waived.until"),
    "unknown key in uses": (change("uses", to=["training", "training"]), "non-unique", "uses"),
    "duplicate accelerators": (twice("accelerators"), "two accelerators share an id", "a.json"),
    "duplicate evidence": (twice("evidence"), "cpu:0: two pieces of evidence", "a.json"),
    "HTML in an id": (change(*ITEM, "id", to="<b>:0"), "does not match", "accelerators[0].id"),
    "HTML in a requirement": (change(*FINDING, "requirement", to="<script>"), "does not match", "findings[0].requirement"),
    "HTML in the profile's name": (change("profile", "name", to="a<img>"), "does not match", "profile.name"),
    "NUL in a name": (change(*FINDING, "requirement", to="a\0b"), "does not match", "findings[0].requirement"),
    "escape in a blocker": (change(*VERDICT, "blockers", to=["\x1b[2J"]), "does not match", "blockers[0]"),
    "half a character in a check": (literally('"parity.matmul"', '"\\ud800"'), "does not match", "evidence[0].check"),
    "line break after an id": (change(*ITEM, "id", to="cpu:0\n"), "does not match", "accelerators[0].id"),
    "superscript index": (change(*ITEM, "id", to="cpu:²"), "does not match", "accelerators[0].id"),
    "index below zero": (change(*ITEM, "index", to=-1), "less than the minimum", "accelerators[0].index"),
    "id as number": (change(*ITEM, "id", to=0), "not of type 'string'", "accelerators[0].id"),
    "id of a megabyte": (change(*ITEM, "id", to="x" * 2**20), "is too long", "accelerators[0].id"),
    "evidence as object": (change(*ITEM, "evidence", to={}), "not of type 'array'", "accelerators[0].evidence"),
    "rows of lists": (change(*EVIDENCE, "rows", to=[[1]]), "not of type 'object'", "rows[0]"),
    "date of another calendar": (change("started", to="yesterday"), "does not match", "started"),
    "a million blockers": (change(*VERDICT, "blockers", to=["x"] * 100_001), "is too long", "blockers"),
    "checksum of another kind": (change("profile", "sha256", to="md5"), "does not match", "profile.sha256"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_place_and_remedy(name: str, tmp_path: Path) -> None:
    make, what, place = HOSTILE[name]
    content = make()
    file = tmp_path / "a.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    started = time.process_time()
    with pytest.raises(BadFileError) as caught:
        documents.read(file)
    problem = caught.value
    assert problem.exit_code is Exit.USAGE
    assert str(file) in (problem.place or "")
    assert place in (problem.place or "")
    assert what in problem.what
    assert problem.remedy
    assert len(str(problem)) < 2000
    assert str(problem).isprintable() or str(problem).count("\n") == 1
    assert time.process_time() - started < 30


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("folder", "this is not a file"),
        ("missing.json", "there is no such file"),
        ("missing/a.json", "there is no such file"),
        ("a.json/b.json", "there is no such file"),
        ("nul\0.json", "there is no such file|cannot be read"),
        ("x" * 300, "there is no such file|cannot be read"),
        ("circle", "there is no such file|cannot be read"),
        ("pipe", "this is not a file"),
    ],
)
def test_places_that_are_no_file(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFileError, match=what) as caught:
        documents.read(tmp_path / name)
    assert caught.value.remedy
    assert name[:20].partition("\0")[0] in (caught.value.place or "")


def test_a_file_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LARGEST_FILE_BYTES", 1000)
    (tmp_path / "a.json").write_text(" " * 1001)
    with pytest.raises(BadFileError, match="larger than") as caught:
        documents.read(tmp_path / "a.json")
    assert caught.value.remedy


def test_html_in_a_device_name_is_a_name_and_is_read() -> None:
    document = full()
    document["accelerators"][0]["model"] = "<script>alert(1)</script>"
    assert documents.from_json(document, "here").accelerators[0].facts.model == "<script>alert(1)</script>"


def test_what_a_check_yields_need_not_be_json() -> None:
    odd = ({"path": Path("x"), "set": {1}, "nan": float("nan"), "deep": {"a": {"b": (1, 2)}}, 3: None},)
    item = build.accelerator((), (build.evidence(rows=odd),))
    document = documents.to_json(build.assessment(item))
    row = document["accelerators"][0]["evidence"][0]["rows"][0]
    assert row == {"path": "x", "set": [1], "nan": "NaN", "deep": {"a": {"b": [1, 2]}}, "3": None}


def test_what_does_not_fit_is_our_own_fault_when_writing() -> None:
    with pytest.raises(InternalError, match="seconds"):
        documents.to_json(replace(build.nothing(), seconds=-1.0))


# ------------------------------------------------------------------------------------------- writing files


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    files.write_atomically(file, "one\n")
    files.write_atomically(file, "zwei ü\n")
    assert file.read_text(encoding="utf-8") == "zwei ü\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_failing_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(file, "new")
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_what_is_no_text_in_a_path_or_a_variable_costs_no_report(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "a.json", "m\udcffller")
    assert (tmp_path / "a.json").read_text() == "m?ller"


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_is_read_back_as_it_was(cause: Cause) -> None:
    evidence = Evidence("a.b", Status.SKIPPED, reason="in words", cause=cause)
    document = documents.evidence_to_json(evidence)
    assert document["cause"] == cause.value
    assert schema.first_problem("assessment", document, "evidence") is None
    assert documents.evidence_from_json(document) == evidence


def test_the_schema_names_every_cause_and_no_cause_has_two_meanings() -> None:
    names = [cause.value for cause in CAUSES]
    assert len(set(names)) == len(names)
    described = json.loads(schema.text("assessment"))["$defs"]["evidence"]["properties"]["cause"]["description"]
    assert set(re.findall(r"[a-z]+(?:-[a-z]+)*(?=[,.])", described)) >= set(names)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("left out by -k", SkipCause.EXPRESSION),
        ("left out by --failed", SkipCause.FAILED),
        ("left out by --within: it takes about 40 s", SkipCause.WITHIN),
        ("it has nothing to measure", None),
    ],
)
def test_documents_of_early_versions_name_no_cause(reason: str, cause: Cause | None) -> None:
    document = documents.evidence_to_json(Evidence("a.b", Status.SKIPPED, reason=reason, attempts=0))
    assert "cause" not in document
    assert documents.evidence_from_json(document).cause is cause
    written = documents.evidence_to_json(Evidence("a.b", Status.SKIPPED, reason=reason, attempts=1))
    assert documents.evidence_from_json(written).cause is None  # a check that ran may say what it likes


def test_a_cause_of_a_later_version_is_none_that_is_known() -> None:
    document = documents.evidence_to_json(Evidence("a.b", Status.ERROR, reason="?")) | {"cause": "stolen"}
    assert schema.first_problem("assessment", document, "evidence") is None
    assert documents.evidence_from_json(document).cause is None
