"""Contents of a pack: its input, what is derived from it, and the manifest.

Given are the assessments, rehearsals and attachments, and `pack.json` with what the cover says. All other files follow from
these (`readiness.pack.build`), so that whoever has a pack can derive them again and compare.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from readiness import package_data
from readiness.datamodel import Assessment
from readiness.documents import assessment as documents
from readiness.documents.strict_json import Json
from readiness.judging.profile_demands import digest_of

SCHEMA = "readiness.pack/1"
PACK, MANIFEST, STATEMENT, TEST_RESULT = "pack.json", "manifest.json", "statement.json", "test-result.json"
#: The machines side by side, of several assessments alone.
COMPARISON = "comparison.html"
PAGE, PDF, WORKBOOK, BOM = "index.html", "report.pdf", "requirements.xlsx", "bom.cdx.json"
SYSTEM, WAIVERS = "system.json", "waivers.json"
SIGNATURES = "signatures"
ENVELOPES: Mapping[str, str] = {
    STATEMENT: f"{SIGNATURES}/statement.dsse.json", TEST_RESULT: f"{SIGNATURES}/test-result.dsse.json",
}  # fmt: skip
PUBLIC_KEY = f"{SIGNATURES}/public-key.pem"
#: The reply of a time-stamping authority, and its content as JSON.
TIMESTAMP_REPLY, TIMESTAMP = f"{SIGNATURES}/timestamp.tsr", f"{SIGNATURES}/timestamp.json"
#: Made from the manifest, or given when that is made, and so not in it.
OUTSIDE_MANIFEST = frozenset({MANIFEST, STATEMENT, TEST_RESULT, *ENVELOPES.values(), TIMESTAMP_REPLY, TIMESTAMP})


@dataclass(frozen=True, slots=True)
class Subject:
    """One assessment of a pack: its file in the pack, and its content."""

    path: str
    content: bytes
    assessment: Assessment

    @property
    def name(self) -> str:
        """Its name in tables: the file without folder and ending."""
        return Path(self.path).stem

    @property
    def report_path(self) -> str:
        """The path of its own report with pictures."""
        return f"reports/{self.name}.html"

    @property
    def profile_path(self) -> str:
        """The path of its judged profile."""
        return f"profiles/{_safe(self.assessment.profile_name)}-{self.assessment.profile_sha256[:12]}.json"


@dataclass(frozen=True, slots=True)
class Core:
    """Input of a pack. `pack` is the content of `pack.json`, `rehearsals` and `attachments` are bytes by path.

    `profiles` are the profiles as judged, with what their files say beyond what decides a finding.
    """

    pack: Json
    subjects: tuple[Subject, ...]
    profiles: Mapping[str, Json] = field(default_factory=dict)
    rehearsals: Mapping[str, bytes] = field(default_factory=dict)
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    public_key: bytes | None = None

    @property
    def is_simulated(self) -> bool:
        """True if one of its accelerators is simulated."""
        items = (item for subject in self.subjects for item in subject.assessment.accelerators)
        return any(item.facts.properties.get("simulated") for item in items)

    def given(self) -> dict[str, bytes]:
        """The files that follow from nothing else."""
        return {
            PACK: dumped(self.pack),
            **{subject.path: subject.content for subject in self.subjects},
            **{path: dumped(document) for path, document in self.profiles.items()},
            **self.rehearsals,
            **self.attachments,
            **({} if self.public_key is None else {PUBLIC_KEY: self.public_key}),
        }

    def rehearsal_documents(self) -> Iterator[tuple[str, Json]]:
        """Return every rehearsal with its source: files of the input, and parts of assessments."""
        for path, content in self.rehearsals.items():
            yield path, json.loads(content)
        for subject in self.subjects:
            if subject.assessment.rehearsal is not None:
                yield subject.path, dict(subject.assessment.rehearsal)


def dumped(document: Mapping[str, Any]) -> bytes:
    """A document as it stands in a pack: one form, so that the same content has the same bytes."""
    return (documents.dumps(document) + "\n").encode()


def sha256(content: bytes) -> str:
    """The digest of a file."""
    return hashlib.sha256(content).hexdigest()


def manifest(files: Mapping[str, bytes]) -> Json:
    """The list of all files with size and SHA-256."""
    return {
        "schema": "readiness.manifest/1",
        "files": [
            {"path": path, "bytes": len(content), "sha256": sha256(content)}
            for path, content in sorted(files.items())
            if path not in OUTSIDE_MANIFEST
        ],
    }


def profile_document(assessment: Assessment, known: Mapping[str, Json]) -> Json:
    """A profile as judged: all that decides a finding, and what is known of each requirement besides (`known`, by id)."""
    basis = assessment.basis
    demands = None if basis is None else basis.demands
    return {
        "name": assessment.profile_name,
        "title": assessment.profile_title,
        "sha256": assessment.profile_sha256,
        "demands": demands,
        "prose_of_the_profile": bool(known),
        "requirements": {id: known[id] for id in sorted(known)} or _from_findings(assessment),
    }


def _from_findings(assessment: Assessment) -> Json:
    """Return the prose of requirements from the findings, if the profile itself is not at hand."""
    found: Json = {}
    for item in assessment.accelerators:
        for finding in item.findings:
            found.setdefault(finding.requirement, {"title": finding.title, "why": finding.why, "source": finding.source})
    return {id: found[id] for id in sorted(found)}


def is_profile_of(document: Mapping[str, Any], assessment: Assessment) -> bool:
    """Return whether a judged profile belongs to an assessment, by its demands and not by its name."""
    demands = document.get("demands")
    if document.get("sha256") != assessment.profile_sha256 or document.get("name") != assessment.profile_name:
        return False
    if assessment.basis is None:
        return demands is None
    return isinstance(demands, dict) and digest_of(demands) == assessment.profile_sha256


@cache
def source_digest() -> str:
    """Return the SHA-256 over the files of this tool that determine a pack's content: equal for equal wheels or
    checkouts.
    """
    root = Path(package_data.__file__).parent
    total = hashlib.sha256()
    for folder in ("comparison", "documents", "judging", "rendering", "pack", "schemas"):
        for file in sorted((root / folder).rglob("*")):
            if file.is_file() and file.suffix in (".py", ".jinja", ".js", ".json"):
                total.update(file.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    # The page of an assessment, and the checks, which declare in which direction a measurement gets better.
    for file in (package_data.shipped("reports") / "html.py", *sorted(package_data.shipped("checks").rglob("*.py"))):
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:60].strip("-._") or "unnamed"


def safe_name(name: str, taken: Mapping[str, object], folder: str) -> str:
    """Return a free path within a pack for a file of somebody's."""
    stem, dot, suffix = name.rpartition(".")
    stem, suffix = (_safe(stem), f".{_safe(suffix)}") if dot and stem else (_safe(name), "")
    lowered = {path.lower() for path in taken}
    for number in range(1, len(taken) + 2):
        path = f"{folder}/{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        if path.lower() not in lowered:
            return path
    raise AssertionError("as many numbers as files, and all are taken")
