"""Build a pack: read the input, redact it, derive all other files, sign, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from readiness import __version__, check_registry
from readiness.comparison import machine_page, machines
from readiness.comparison.comparable_values import directions
from readiness.datamodel import Profile
from readiness.documents import assessment as documents
from readiness.documents import files, schema
from readiness.documents.strict_json import Json
from readiness.errors import BadFileError, UsageError
from readiness.pack import bom, container, in_toto, mlperf_system, page
from readiness.pack.contents import (
    BOM,
    COMPARISON,
    ENVELOPES,
    MANIFEST,
    PACK,
    PAGE,
    PDF,
    SCHEMA,
    STATEMENT,
    SYSTEM,
    TEST_RESULT,
    TIMESTAMP,
    TIMESTAMP_REPLY,
    WAIVERS,
    WORKBOOK,
    Core,
    Subject,
    dumped,
    manifest,
    profile_document,
    safe_name,
    sha256,
    source_digest,
)
from readiness.pack.redaction import Redaction, Secret
from readiness.pack.signing import SigningKey
from readiness.rendering import formats

_LARGEST_REHEARSAL_BYTES = 2**26
_LARGEST_ATTACHMENT_BYTES = 2**28
_MOST_ATTACHMENTS = 1000


@dataclass(frozen=True, slots=True)
class Cover:
    """Statements of people for the first page. `status` is one of `sections.STATUS`."""

    subject: str = ""
    operator: str = ""
    status: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """Input of a pack. The words of `profiles` are added where an assessment was judged by one of them."""

    assessments: Sequence[Path]
    cover: Cover = Cover()
    profiles: Sequence[Profile] = ()
    rehearsals: Sequence[Path] = ()
    attachments: Sequence[Path] = ()
    systems: Sequence[Path] = ()
    kept: frozenset[Secret] = frozenset()
    with_workbook: bool = False
    with_pdf: bool = False


def read(request: Request) -> Core:
    """Read the input and redact it. Raises UsageError and BadFileError."""
    redaction = Redaction(request.kept)
    subjects, entries, notes = _subjects(request, redaction)
    rehearsals = _rehearsals(request.rehearsals, redaction)
    attachments = _attachments(request.attachments)
    pack: Json = {
        "schema": SCHEMA,
        "tool": {"name": "readiness", "version": __version__, "source_sha256": source_digest()},
        "cover": {
            "subject": request.cover.subject, "operator": request.cover.operator, "status": request.cover.status,
            "note": request.cover.note,
        },
        "assessments": entries,
        "system": _systems(request.systems, subjects),
        "redactions": redaction.listed(),
        "kept": sorted(request.kept),
        "files": [name for name, wanted in ((WORKBOOK, request.with_workbook), (PDF, request.with_pdf)) if wanted],
        "notes": notes,
    }  # fmt: skip
    refuse_bad_pack(pack)
    known = {profile.sha256: _prose(profile) for profile in request.profiles}
    profiles = {
        subject.profile_path: profile_document(subject.assessment, known.get(subject.assessment.profile_sha256, {}))
        for subject in subjects
    }
    return Core(pack, tuple(subjects), profiles, rehearsals, attachments)


def _subjects(request: Request, redaction: Redaction) -> tuple[list[Subject], list[Json], list[str]]:
    subjects: list[Subject] = []
    entries: list[Json] = []
    notes: list[str] = []
    taken: dict[str, None] = {}
    for file in request.assessments:
        original = files.read_bytes(file, largest_bytes=documents.LARGEST_FILE_BYTES)
        document = files.read_json(file, largest_bytes=documents.LARGEST_FILE_BYTES)
        documents.from_json(document, str(file))
        path = safe_name(f"{file.stem}.json", taken, "assessments")
        taken[path] = None
        redacted = redaction.applied(path, document)
        assessment = documents.from_json(_still_sound(redacted, path, file), str(file))
        content = dumped(redacted)
        subjects.append(Subject(path, content, assessment))
        entries.append({"path": path, "sha256": sha256(content), "sha256_before_redaction": sha256(original)})
        notes += [f"{path}: {note}" for note in documents.notes(assessment, __version__)]
    return subjects, entries, notes


def _still_sound(redacted: Json, path: str, file: Path) -> Json:
    """The document, which must follow from its evidence without what was taken out of it too."""
    try:
        documents.from_json(redacted, path)
    except BadFileError as problem:
        raise UsageError(
            f"without the names in it, it contradicts itself: {problem.what}", place=f"{file}, {problem.place}",
            remedy="keep the names: --keep hosts, --keep serials, --keep users, --keep addresses, or --keep all",
        ) from None
    return redacted


def _rehearsals(paths: Sequence[Path], redaction: Redaction) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for file in paths:
        document = files.read_json(file, largest_bytes=_LARGEST_REHEARSAL_BYTES)
        schema.refuse_other(
            "rehearsal", document, str(file), kind="a rehearsal", written_by="readiness rehearse -f json=FILE"
        )
        path = safe_name(f"{file.stem}.json", found, "rehearsals")
        found[path] = dumped(redaction.applied(path, document))
    return found


def _attachments(paths: Sequence[Path]) -> dict[str, bytes]:
    if len(paths) > _MOST_ATTACHMENTS:
        raise UsageError(f"more than {_MOST_ATTACHMENTS} files", place="--attach", remedy="put them into one archive")
    found: dict[str, bytes] = {}
    for file in paths:
        content = files.read_bytes(file, largest_bytes=_LARGEST_ATTACHMENT_BYTES)
        found[safe_name(file.name, found, "attachments")] = content
    return found


def _systems(paths: Sequence[Path], subjects: Sequence[Subject]) -> Json:
    """Return people's statements about each system: the first file is about the first assessment. Raises UsageError."""
    if len(paths) > len(subjects):
        raise UsageError(
            f"{len(paths)} descriptions of {len(subjects)} assessments", place="--system",
            remedy="give one for each assessment, in their order",
        )
    return {subject.path: mlperf_system.read(file) for subject, file in zip(subjects, paths, strict=False)}


def _prose(profile: Profile) -> dict[str, Json]:
    return {one.id: {"title": one.title, "why": one.why, "source": one.source} for one in profile.requirements}


def refuse_bad_pack(pack: object) -> None:
    """Raises InternalError where we are about to write what we would not read."""
    schema.must_fit("pack", pack, PACK)


# ------------------------------------------------------------------------------------------------- what follows from it


def derived(core: Core) -> dict[str, bytes]:
    """All files that follow from what was given, byte for byte the same each time; without the PDF and the workbook."""
    return {
        PAGE: page.render(core).encode(),
        **{subject.report_path: formats.render("html", subject.assessment).encode() for subject in core.subjects},
        BOM: dumped(bom.bom(core)),
        SYSTEM: dumped({
            subject.path: mlperf_system.described(subject.assessment, core.pack["system"].get(subject.path, {}))
            for subject in core.subjects
        }),
        WAIVERS: dumped({"waive": _waivers(core)}),
        **({COMPARISON: _comparison(core).encode()} if len(core.subjects) > 1 else {}),
    }  # fmt: skip


def _comparison(core: Core) -> str:
    """Return the page that compares the machines. Directions are those of shipped checks, the same wherever it is made."""
    machines_ = [(subject.name, subject.assessment) for subject in core.subjects]
    compared = machines.compare(machines_, directions(check_registry.shipped()))
    return machine_page.render(compared, core.pack["tool"]["version"])


def _waivers(core: Core) -> list[Json]:
    found: dict[str, Json] = {}
    for subject in core.subjects:
        for item in subject.assessment.accelerators:
            for finding in item.findings:
                for waiver, state in ((finding.waived, "in force"), (finding.expired_waiver, "expired")):
                    if waiver is not None:
                        entry = {
                            "assessment": subject.path, "requirement": waiver.requirement, "accelerator": waiver.accelerator,
                            "reason": waiver.reason, "by": waiver.by, "until": waiver.until, "state": state,
                        }  # fmt: skip
                        found[repr(entry)] = entry
    return list(found.values())


def whole(core: Core, key: SigningKey | None = None, reply: tuple[Path, bytes] | None = None) -> dict[str, bytes]:
    """Return every file of the pack, including the signed statements if there is a key and the time stamp if a `reply`.

    Raises BadFileError where the reply is about something else.
    """
    if key is not None:
        core = replace(core, public_key=key.public)
    contents = core.given() | derived(core)
    if WORKBOOK in core.pack["files"]:
        from readiness.pack import workbook

        contents[WORKBOOK] = workbook.render(core)
    if PDF in core.pack["files"]:
        from readiness.pack import pdf

        contents[PDF] = pdf.render(contents[PAGE].decode(), core)
    listed = manifest(contents)
    contents[MANIFEST] = dumped(listed)
    contents |= statements(core, listed)
    if key is not None:
        contents |= {ENVELOPES[name]: key.signed(contents[name]) for name in (STATEMENT, TEST_RESULT)}
    if reply is not None:
        from readiness.pack import timestamp

        file, content = reply
        stamp = timestamp.refuse_other(content, contents, str(file))
        contents |= {TIMESTAMP_REPLY: content, TIMESTAMP: timestamp.described(content, stamp)}
    return contents


def statements(core: Core, listed: Json) -> dict[str, bytes]:
    """Return the statements to be signed."""
    return {
        STATEMENT: dumped(in_toto.statement(core, listed)),
        TEST_RESULT: dumped(in_toto.test_result(core, listed)),
    }


def write(target: Path, contents: Mapping[str, bytes]) -> None:
    """Write the pack whole or not at all. Raises UsageError."""
    container.write(target, contents)
