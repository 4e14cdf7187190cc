"""The baseline: whole runs of sound accelerators as one file. The schema is `readiness/schemas/baseline.json`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from readiness.comparison.comparable_values import FEWEST_RUNS, Spread, settings_of
from readiness.comparison.reference import Directions, Expected, Figure, Reference, Subject, of_runs
from readiness.datamodel import Assessment, Better, Level, Outcome, Use
from readiness.documents import files, schema
from readiness.documents.strict_json import Json, plain
from readiness.errors import BadFileError, UsageError

SCHEMA = "readiness.baseline/1"
LARGEST_FILE_BYTES = 256 * 2**20


def made_of(runs: Sequence[tuple[Path, Assessment]], directions: Directions, version: str) -> tuple[Json, list[str]]:
    """Return the document of a baseline by this version of readiness, and notes about it.

    Raises UsageError for runs that make no baseline.
    """
    _refuse(runs)
    reference = of_runs([assessment for _, assessment in runs], directions, "")
    return to_json(reference, runs, version), list(_notes(reference))


def _refuse(runs: Sequence[tuple[Path, Assessment]]) -> None:
    seen: dict[tuple[object, ...], Path] = {}
    first_file, first = runs[0]
    seen_settings: dict[tuple[str, str], tuple[Path, Mapping[str, Any]]] = {}
    for file, assessment in runs:
        if assessment.interrupted:
            raise UsageError(
                "the run was interrupted: what it did not measure is unknown",
                place=str(file), remedy="finish it, or leave it out",
            )  # fmt: skip
        same = (assessment.started, assessment.seed, assessment.host.get("name"))
        if same in seen:
            raise UsageError(
                f"it is the run of {seen[same]} once more: the spread between runs would be too small",
                place=str(file), remedy="give each run once",
            )  # fmt: skip
        seen[same] = file
        if assessment.profile_sha256 != first.profile_sha256:
            raise UsageError(
                f"it was judged under another profile than {first_file}",
                place=str(file), remedy="give runs under one profile: `readiness judge --profile` judges again",
            )  # fmt: skip
        for item in assessment.accelerators:
            for evidence in item.evidence:
                if evidence.measurements:
                    model, settings = str(item.facts.model), settings_of(assessment, evidence)
                    other, before = seen_settings.setdefault((model, evidence.check), (file, settings))
                    if plain(before) != plain(settings):
                        raise UsageError(
                            f"{evidence.check} was measured with other settings than in {other}",
                            place=str(file), remedy="make a baseline of runs with the same settings",
                        )  # fmt: skip


def _notes(reference: Reference) -> list[str]:
    notes = []
    for subject in reference.subjects:
        if subject.runs < FEWEST_RUNS:
            notes.append(
                f"{subject.name}: {subject.runs} of the {FEWEST_RUNS} runs that it takes to know a spread: no value will be "
                "called worse"
            )
        if busy := sum(figure.busy > 0 for figure in subject.figures.values()):
            most = max(figure.busy for figure in subject.figures.values())
            few = sum(figure.busy > 0 and figure.spread.runs < FEWEST_RUNS for figure in subject.figures.values())
            text = f"{subject.name}: of {busy} speeds up to {most} runs are left out: the host was busy meanwhile"
            unknown = f"; {few} have fewer than {FEWEST_RUNS} others, and will not be called worse"
            notes.append(text + (unknown if few else ""))
        failed = {expected.requirement for expected in subject.expected.values() if expected.outcomes.get(Outcome.FAIL)}
        if failed:
            notes.append(f"{subject.name}: {len(failed)} requirements are not met in it, and are taken for usual")
    return notes


def to_json(reference: Reference, runs: Sequence[tuple[Path, Assessment]], version: str) -> Json:
    """The document, validated. Raises AssertionError where it does not fit: only readiness itself can be at fault."""
    document: Json = {
        "schema": SCHEMA,
        "tool": {"name": "readiness", "version": version},
        "profile": {"name": reference.profile_name, "sha256": reference.profile_sha256},
        "runs": [
            {"started": run.started, "seed": run.seed, "version": run.version, "sha256": _digest(file)}
            for file, run in runs
        ],
        "models": [_model(subject) for subject in reference.subjects],
    }
    schema.must_fit("baseline", document, "the baseline")
    return document


def _digest(file: Path) -> str:
    return hashlib.sha256(files.read_bytes(file, largest_bytes=LARGEST_FILE_BYTES)).hexdigest()


def _model(subject: Subject) -> Json:
    return {
        "vendor": plain(subject.vendor), "model": plain(subject.model), "stack": subject.stack,
        "simulated": subject.simulated, "runs": subject.runs, "samples": subject.samples,
        "software": {name: list(versions) for name, versions in subject.software.items()},
        "settings": {check: plain(settings) for check, settings in sorted(subject.settings.items())},
        "seconds": dict(subject.seconds),
        "requirements": [
            {
                "requirement": expected.requirement, "title": expected.title, "use": expected.use.value,
                "level": expected.level.value, "limit": expected.limit, "check": expected.check, "measure": expected.measure,
                "outcomes": {outcome.value: count for outcome, count in expected.outcomes.items()},
            }
            for _, expected in sorted(subject.expected.items())
        ],
        "measures": [
            {
                "check": figure.check, "measure": figure.name, "unit": figure.unit, "labels": dict(figure.labels),
                "better": None if figure.better is None else figure.better.value, "runs": figure.spread.runs,
                "samples": figure.spread.samples, "median": figure.spread.median, "low": figure.spread.low,
                "high": figure.spread.high, **({"busy_runs": figure.busy} if figure.busy else {}),
            }
            for _, figure in sorted(subject.figures.items())
        ],
    }  # fmt: skip


def is_baseline(document: object) -> bool:
    """Return whether a document is a baseline by its schema."""
    return isinstance(document, Mapping) and str(document.get("schema")).startswith("readiness.baseline/")


def read(file: Path) -> Reference:
    """The baseline in a file. Raises BadFileError for anything that is not one."""
    return from_json(files.read_json(file, largest_bytes=LARGEST_FILE_BYTES), str(file))


def from_json(document: Any, place: str) -> Reference:
    """A baseline from its document. Raises BadFileError with the place, also where its numbers contradict each other."""
    schema.refuse_other("baseline", document, place, kind="a baseline", written_by="readiness baseline")
    runs = len(document["runs"])
    for number, model in enumerate(document["models"]):
        for position, entry in enumerate(model["measures"]):
            if not entry["low"] <= entry["median"] <= entry["high"] or entry["runs"] > min(runs, entry["samples"]):
                raise BadFileError(
                    "not a baseline: the median lies outside of its ends, or there are more runs than runs",
                    place=f"{place}, at models[{number}].measures[{position}]", remedy="make the baseline anew",
                )  # fmt: skip
    return Reference(
        title=place, by_model=True, profile_name=document["profile"]["name"],
        profile_sha256=document["profile"]["sha256"], subjects=tuple(map(_subject, document["models"])),
        versions=tuple(sorted({run["version"] for run in document["runs"]})),
    )  # fmt: skip


def _subject(model: Mapping[str, Any]) -> Subject:
    expected = [
        Expected(
            entry["requirement"], Use(entry["use"]), Level(entry["level"]), entry.get("title", ""), entry["limit"],
            entry["check"], entry["measure"], {Outcome(outcome): count for outcome, count in entry["outcomes"].items()},
        )
        for entry in model["requirements"]
    ]  # fmt: skip
    figures = [
        Figure(
            entry["check"], entry["measure"], tuple(sorted(entry["labels"].items())), entry["unit"],
            None if entry["better"] is None else Better(entry["better"]),
            Spread(entry["runs"], entry["samples"], entry["median"], entry["low"], entry["high"]),
            entry.get("busy_runs", 0),
        )
        for entry in model["measures"]
    ]  # fmt: skip
    return Subject(
        name=model["model"] or model["vendor"] or "unknown model", vendor=model["vendor"], model=model["model"],
        stack=model["stack"], simulated=model["simulated"], runs=model["runs"], samples=model["samples"],
        software={name: tuple(versions) for name, versions in model["software"].items()},
        expected={(one.requirement, one.use): one for one in expected},
        figures={one.key: one for one in figures},
        settings=model.get("settings", {}), seconds=model.get("seconds", {}),
    )  # fmt: skip
