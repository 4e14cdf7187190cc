"""Verify a pack: every byte, every verdict from its evidence, every derived file, every signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readiness import __version__
from readiness.datamodel import Profile
from readiness.documents import assessment as documents
from readiness.documents import files, schema
from readiness.documents.strict_json import Json
from readiness.errors import BadFileError, UsageError
from readiness.pack import build, container
from readiness.pack.contents import (
    BOM,
    COMPARISON,
    ENVELOPES,
    MANIFEST,
    OUTSIDE_MANIFEST,
    PACK,
    PAGE,
    PDF,
    PUBLIC_KEY,
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
    is_profile_of,
    manifest,
    sha256,
    source_digest,
)

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from securesystemslib.signer import SSlibKey

    from readiness.pack.timestamp import Stamp


#: Files of every pack that follow from what was given.
_USUAL = (PAGE, BOM, SYSTEM, WAIVERS)
_NOT_CANONICAL = "it is not written as readiness writes one"


class State(StrEnum):
    """State of a pack, the best first."""

    SIGNED = "whole and signed"
    UNVOUCHED = "whole"              # unsigned, or by a key that nobody named, or of a profile that has changed
    ALTERED = "altered"


@dataclass(frozen=True, slots=True)
class Alteration:
    """A file that differs from what was made, and the difference."""

    file: str
    what: str


@dataclass(slots=True)
class Verification:
    """Result of a verification. `reasons` are why a whole pack is not vouched for, `notes` what could not be checked."""

    altered: list[Alteration] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signed_by: str | None = None
    core: Core | None = None
    files: int = 0
    stamped: Json | None = None

    @property
    def state(self) -> State:
        """The worst that was found."""
        if self.altered:
            return State.ALTERED
        return State.UNVOUCHED if self.reasons else State.SIGNED


def verify(place: Path, key: SSlibKey | None, authorities: list[Certificate] | None = None) -> Verification:
    """Verify a pack on disk; `stale` reports whether its profiles have changed since. `authorities` may stamp it.

    Raises BadFileError where there is none.
    """
    try:
        return of_contents(container.read(place), key, authorities)
    except container.AlteredError as problem:
        return Verification(altered=[Alteration(problem.name, problem.what)])


def of_contents(
    contents: Mapping[str, bytes], key: SSlibKey | None, authorities: list[Certificate] | None = None
) -> Verification:
    """Verify the files of a pack, wherever they came from."""
    found = Verification(files=len(contents))
    found.altered += _against_manifest(contents)
    if not found.altered:
        found.core = _core(contents, found)
    if found.core is not None and not found.altered:
        follow = build.statements(found.core, _strict(contents[MANIFEST]))
        _compare(contents, follow, "the assessments and the manifest", found)
    _signatures(contents, key, found)
    _timestamp(contents, authorities, found)
    if found.core is not None and not found.altered:  # the most work, and only where all else fits
        _against_derived(contents, found.core, found)
    return found


# ---------------------------------------------------------------------------------------------------- bytes and lists


def _against_manifest(contents: Mapping[str, bytes]) -> Iterator[Alteration]:
    if MANIFEST not in contents:
        yield Alteration(MANIFEST, "it is missing")
        return
    try:
        listed = _strict(contents[MANIFEST])
        entries = {entry["path"]: (entry["bytes"], entry["sha256"]) for entry in listed["files"]}
        whole = dumped(listed) == contents[MANIFEST]
    except (ValueError, TypeError, KeyError, RecursionError):
        yield Alteration(MANIFEST, "it is no manifest of a pack")
        return
    for path, (size, digest) in entries.items():
        if path not in contents:
            yield Alteration(str(path), "the manifest lists it, and it is missing")
        elif len(contents[path]) != size or sha256(contents[path]) != digest:
            yield Alteration(path, "it has another SHA-256 than the manifest says")
    for path in contents:
        if path not in entries and path not in OUTSIDE_MANIFEST:
            yield Alteration(path, "the manifest does not list it")
    if not whole or dumped(manifest(contents)) != contents[MANIFEST]:
        yield Alteration(MANIFEST, _NOT_CANONICAL)
    for path in (PACK, STATEMENT, TEST_RESULT, *_USUAL):
        if path not in contents:
            yield Alteration(path, "it is missing")


def _strict(content: bytes) -> Any:
    """JSON of a pack. Raises ValueError."""
    return files.parse_json(content.decode("utf-8"))


# ------------------------------------------------------------------------------------------------- what it was made of


def _core(contents: Mapping[str, bytes], found: Verification) -> Core | None:
    """Return the input of the pack; None if it is too incomplete to derive anything. Records alterations.

    Notes what is altered.
    """
    pack = _pack(contents, found)
    if pack is None:
        return None
    subjects = list(_subjects(pack, contents, found))
    if found.altered:
        return None
    profiles = dict(_profiles(subjects, contents, found))
    rehearsals = {path: content for path, content in contents.items() if path.startswith("rehearsals/")}
    for path, content in rehearsals.items():
        if not _is_rehearsal(content):
            found.altered.append(Alteration(path, "it is no rehearsal"))
    if found.altered:
        return None
    attachments = {path: content for path, content in contents.items() if path.startswith("attachments/")}
    core = Core(pack, tuple(subjects), profiles, rehearsals, attachments, contents.get(PUBLIC_KEY))
    reports = [subject.report_path for subject in subjects]
    usual = {*core.given(), *OUTSIDE_MANIFEST, *_USUAL, *reports, *pack["files"]}
    if len(subjects) > 1 and (COMPARISON in contents or _is_same_build(core)):  # earlier builds made none
        usual.add(COMPARISON)
    found.altered += [Alteration(path, "nothing in a pack is called so") for path in sorted(contents.keys() - usual)]
    for path in sorted(usual - OUTSIDE_MANIFEST - contents.keys()):
        found.altered.append(Alteration(path, f"{PACK} names it, and it is missing"))
    return core


def _pack(contents: Mapping[str, bytes], found: Verification) -> Json | None:
    try:
        pack = _strict(contents[PACK])
        problem = schema.first_problem("pack", pack)
        what = None if problem is None else problem.message
        if what is None and dumped(pack) != contents[PACK]:
            what = _NOT_CANONICAL
    except (ValueError, RecursionError):
        what = "it is no JSON"
    if what is not None:
        found.altered.append(Alteration(PACK, what))
        return None
    assert isinstance(pack, dict)
    return pack


def _subjects(pack: Json, contents: Mapping[str, bytes], found: Verification) -> Iterator[Subject]:
    """Yield each assessment, judged again from its evidence."""
    for entry in pack["assessments"]:
        path, what = entry["path"], None
        try:
            if sha256(contents[path]) != entry["sha256"]:
                what = f"it has another SHA-256 than {PACK} says"
            yield Subject(path, contents[path], documents.from_json(_strict(contents[path]), path))
        except KeyError:
            what = f"{PACK} names it, and it is missing"
        except BadFileError as problem:
            place = (problem.place or "").partition(", at ")[2]
            what = f"{problem.what}{f' ({place})' if place else ''}"
        except (ValueError, RecursionError):
            what = "it is no JSON"
        if what is not None:
            found.altered.append(Alteration(path, what))


def _profiles(subjects: Iterable[Subject], contents: Mapping[str, bytes], found: Verification) -> Iterator[tuple[str, Json]]:
    for subject in subjects:
        path = subject.profile_path
        try:
            document = _strict(contents[path])
            fits = is_profile_of(document, subject.assessment) and _is_profile_document(document)
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
            fits = False
        if fits:
            yield path, document
        else:
            found.altered.append(Alteration(path, f"it is not the profile by which {subject.path} was judged"))


def _is_rehearsal(content: bytes) -> bool:
    try:
        return schema.first_problem("rehearsal", _strict(content)) is None
    except (ValueError, RecursionError):
        return False


def _is_profile_document(document: Mapping[str, Any]) -> bool:
    """Return whether all prose beside a profile's demands is text."""
    requirements = document["requirements"]
    return isinstance(document["prose_of_the_profile"], bool) and isinstance(document["title"], str) and all(
        one.keys() == {"title", "why", "source"} and all(isinstance(text, str) for text in one.values())
        for one in requirements.values()
    )


# -------------------------------------------------------------------------------------------------- what follows from it


def _against_derived(contents: Mapping[str, bytes], core: Core, found: Verification) -> None:
    """Derive every file again and compare. Pages made by another build of the tool cannot be compared."""
    tool, is_same_build = core.pack["tool"], _is_same_build(core)
    if is_same_build:
        _compare(contents, build.derived(core), "the assessments", found)
    else:
        found.notes.append(
            f"{PAGE}, {COMPARISON}, reports/, {BOM}, {SYSTEM} and {WAIVERS} were made by another build of readiness "
            f"({tool['version']}): "
            "they were not made again here, the verdicts were; `readiness report` shows those from the assessments"
        )
    if WORKBOOK in core.pack["files"]:
        _workbook(contents[WORKBOOK], core, found, is_same_build=is_same_build)
    if PDF in core.pack["files"]:
        found.notes.append(f"{PDF} was not made again: it depends on the fonts of a machine; {PAGE} says the same")
    for subject in core.subjects:
        for note in documents.notes(subject.assessment, __version__):
            found.notes.append(f"{subject.path}: {note}")


def _is_same_build(core: Core) -> bool:
    """Return True if this build of readiness made the pack."""
    tool = core.pack["tool"]
    return bool(tool["version"] == __version__ and tool["source_sha256"] == source_digest())


def _compare(contents: Mapping[str, bytes], follow: Mapping[str, bytes], whence: str, found: Verification) -> None:
    for path, content in sorted(follow.items()):
        if contents[path] != content:
            found.altered.append(Alteration(path, f"it does not follow from {whence}"))


def _workbook(content: bytes, core: Core, found: Verification, *, is_same_build: bool) -> None:
    from readiness.pack import workbook

    try:
        same = workbook.is_same(content, core) if is_same_build else None
    except UsageError:
        same = None
    if same is None:
        why = "that takes the same build and the extra `xlsx`"
        found.notes.append(f"{WORKBOOK} was not made again: {why}; {PAGE} says the same")
    elif not same:
        found.altered.append(Alteration(WORKBOOK, "it does not follow from the assessments"))


# ---------------------------------------------------------------------------------------------------------- signatures


def _signatures(contents: Mapping[str, bytes], key: SSlibKey | None, found: Verification) -> None:
    wanted = (*ENVELOPES.values(), PUBLIC_KEY)
    missing = [path for path in wanted if path not in contents]
    if len(missing) == len(wanted):
        found.reasons.append("it is not signed")
        return
    found.altered += [Alteration(path, "it is signed, and this is missing") for path in missing]
    own = None if missing else _own_key(contents[PUBLIC_KEY], key, found)
    if own is None:
        return
    for name, path in ENVELOPES.items():
        if name in contents:
            _envelope(contents[path], contents[name], own, path, found)
    if found.altered:
        return
    found.signed_by = own.keyid
    if key is None:
        found.reasons.append(f"it is signed by the key {own.keyid}, and no --key names its owner")
    elif key.keyid != own.keyid:
        found.reasons.append(f"it is signed by the key {own.keyid}, and not by {key.keyid}, which was given")


def _own_key(content: bytes, key: SSlibKey | None, found: Verification) -> SSlibKey | None:
    """Return the key in the pack; None if it is invalid, or if its library is not installed and no key was given."""
    from readiness.pack import signing

    try:
        return signing.public_key(content, PUBLIC_KEY)
    except BadFileError as problem:
        found.altered.append(Alteration(PUBLIC_KEY, problem.what))
    except UsageError as problem:
        if key is not None:
            raise
        found.reasons.append(f"its signature was not checked: {problem.what}")
    return None


def _envelope(content: bytes, payload: bytes, own: SSlibKey, path: str, found: Verification) -> None:
    from readiness.pack import signing

    try:
        document = _strict(content)
        whole = dumped(document) == content and document.keys() == {"payload", "payloadType", "signatures"}
    except (ValueError, AttributeError, RecursionError):
        whole = False
    if not whole:
        found.altered.append(Alteration(path, "it is not written as readiness writes an envelope"))
    elif signing.key_ids(document) != [own.keyid]:
        found.altered.append(Alteration(path, f"it is not signed by the key in {PUBLIC_KEY}"))
    elif (signed := signing.payload_of(document, own)) is None or not signing.is_canonical(document):
        found.altered.append(Alteration(path, "its signature does not fit"))
    elif signed != payload:
        found.altered.append(Alteration(path, "what was signed is another statement than the one beside it"))


# --------------------------------------------------------------------------------------------------------- time stamp


def _timestamp(contents: Mapping[str, bytes], authorities: list[Certificate] | None, found: Verification) -> None:
    """Check that the time stamp is of this pack; its signature only if `authorities` are given."""
    there = [path for path in (TIMESTAMP_REPLY, TIMESTAMP) if path in contents]
    if not there:
        if authorities is not None:
            found.reasons.append("it has no time stamp")
        return
    if len(there) == 1:
        missing = TIMESTAMP if there == [TIMESTAMP_REPLY] else TIMESTAMP_REPLY
        found.altered.append(Alteration(missing, "it has a time stamp, and this is missing"))
        return
    try:
        stamp = _stamp(contents, found)
    except UsageError as problem:  # the extra is not installed
        if authorities is not None:
            raise
        found.notes.append(f"its time stamp was not looked at: {problem.what}")
        return
    if stamp is None or found.altered:
        return
    from readiness.pack import timestamp

    wrong = None if authorities is None else timestamp.mismatch(contents[TIMESTAMP_REPLY], stamp, contents, authorities)
    if wrong is not None:
        found.reasons.append(f"its time stamp is not by an authority of --timestamp-ca: {wrong}")
    found.stamped = {**timestamp.as_json(stamp), "signature_checked": authorities is not None and wrong is None}


def _stamp(contents: Mapping[str, bytes], found: Verification) -> Stamp | None:
    """Return what the time stamp states, None if it or its description is altered. Raises UsageError without the extra."""
    from readiness.pack import timestamp

    reply = contents[TIMESTAMP_REPLY]
    try:
        words = _strict(contents[TIMESTAMP])
        fits = words["sha256"] == sha256(reply) and dumped(words) == contents[TIMESTAMP]
        stamp = timestamp.stamp(reply, contents) if fits else None
        fits = fits and (stamp is None or timestamp.described(reply, stamp) == contents[TIMESTAMP])
    except (ValueError, TypeError, KeyError, RecursionError):
        fits = False
    except BadFileError as problem:
        found.altered.append(Alteration(TIMESTAMP_REPLY, problem.what))
        return None
    if not fits:
        found.altered.append(Alteration(TIMESTAMP, f"it does not follow from {TIMESTAMP_REPLY}"))
        return None
    if stamp is None:
        found.altered.append(Alteration(TIMESTAMP_REPLY, "it is the time stamp of another pack"))
    return stamp


# --------------------------------------------------------------------------------------------------------------- stale


def stale(core: Core, profiles: Mapping[str, Profile], found: Verification) -> None:
    """Note where a profile, of those known here by name, demands something else than it did."""
    for name in dict.fromkeys(subject.assessment.profile_name for subject in core.subjects):
        digests = {subject.assessment.profile_sha256 for subject in core.subjects if subject.assessment.profile_name == name}
        if name not in profiles:
            what = "whether it has changed was not looked at (--profile FILE)"
            found.notes.append(f"the profile {name!r} is not known here: {what}")
        elif digests != {profiles[name].sha256}:
            found.reasons.append(f"it is stale: the profile {name!r} demands something else today")


def as_json(found: Verification, place: Path) -> Json:
    """Return the result as JSON."""
    return {
        "pack": str(place),
        "state": found.state.value,
        "signed_by": found.signed_by,
        "files": found.files,
        "altered": [{"file": one.file, "what": one.what} for one in found.altered],
        "reasons": found.reasons,
        "notes": found.notes,
        "timestamp": found.stamped,
        "verdicts": list(_verdicts(found)),
    }


def _verdicts(found: Verification) -> Iterator[Json]:
    if found.core is None or found.altered:
        return
    for subject in found.core.subjects:
        for item in subject.assessment.accelerators:
            for use, verdict in item.verdicts.items():
                yield {
                    "assessment": subject.path, "accelerator": item.facts.id, "use": use.value,
                    "verdict": verdict.decision.value, "score": verdict.score, "ceiling": verdict.ceiling,
                }  # fmt: skip


def as_text(found: Verification, place: Path) -> Sequence[str]:
    """Return the result as text: the state first, then what is wrong, then what the pack holds."""
    lines = [f"{place}: {found.state}{f' by {found.signed_by}' if found.state is State.SIGNED else ''}"]
    lines += [f"  altered: {one.file or 'the pack itself'}: {one.what}" for one in found.altered]
    if not found.altered:
        lines += [f"  {reason}" for reason in found.reasons]
        if found.stamped is not None:
            checked = "its signature fits" if found.stamped["signature_checked"] else "its signature was not checked"
            how = "" if found.stamped["signature_checked"] else " (--timestamp-ca FILE)"
            what = f"{found.stamped['of']} stamped {found.stamped['time']} by {found.stamped['authority']}"
            lines.append(f"  {what}: the stamp is of this pack, {checked}{how}")
        lines += [
            f"  {one['assessment']}, {one['accelerator']}, {one['use']}: {one['verdict']} "
            f"({one['score']:g}..{one['ceiling']:g}), judged again from its evidence"
            for one in _verdicts(found)
        ]
    return lines + [f"  note: {note}" for note in found.notes]
