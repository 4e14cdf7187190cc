"""`readiness pack` and `readiness verify`: assessments handed to a buyer, and checked by him."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import completion, fleet_files, options
from readiness.cli.check_folders import add_checks
from readiness.errors import Exit, UsageError

if TYPE_CHECKING:
    from readiness.datamodel import Assessment, Profile

#: What opens a private key that is protected; never an argument, which others can see.
PASSWORD_VARIABLE = "READINESS_SIGN_PASSWORD"
_LONGEST_TEXT = 1000


class Status(StrEnum):
    """Availability of the system."""

    AVAILABLE = "available"
    PREVIEW = "preview"
    RDI = "rdi"
    LOAN = "loan"


class Keep(StrEnum):
    """Kinds of secrets that are not redacted."""

    SERIALS = "serials"
    HOSTS = "hosts"
    ADDRESSES = "addresses"
    USERS = "users"
    ALL = "all"


class VerifyFormat(StrEnum):
    """Output format of `pack verify`."""

    TEXT = "text"
    JSON = "json"


Profiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile", "-p", metavar="NAME|FILE", help="A profile of your own that an assessment names (repeatable).",
        autocompletion=completion.profile,
    ),
]


def pack(
    saved: Annotated[
        list[Path],
        typer.Argument(metavar="SAVED...", parser=options.path, help="Assessments that `run -f json=FILE` wrote."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR|ZIP", parser=options.path, help="A new folder, or a new file *.zip."),
    ],
    subject: Annotated[str, typer.Option("--subject", metavar="TEXT", help="What is accepted: the report's title.")] = "",
    operator: Annotated[str, typer.Option("--operator", metavar="TEXT", help="Who ran the tests.")] = "",
    status: Annotated[
        Status | None, typer.Option("--status", help="Whether the system is on sale, announced, internal or on loan.")
    ] = None,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="A sentence for the first page.")] = "",
    profile: Profiles = None,
    checks: options.ChecksFolders = None,
    rehearsal: Annotated[
        list[Path] | None,
        typer.Option(
            "--rehearsal", metavar="FILE", parser=options.path,
            help="What the checks find of planted defects: `rehearse -f json=FILE` (repeatable).",
        ),
    ] = None,
    attach: Annotated[
        list[Path] | None,
        typer.Option("--attach", metavar="FILE", parser=options.path, help="A picture or other file to hash (repeatable)."),
    ] = None,
    system: Annotated[
        list[Path] | None,
        typer.Option(
            "--system", metavar="FILE", parser=options.path,
            help="MLPerf's system description of an assessment, as JSON; one for each, in their order (repeatable).",
        ),
    ] = None,
    keep: Annotated[
        list[Keep] | None,
        typer.Option("--keep", help="Do not take these out, or nothing at all (repeatable)."),
    ] = None,
    workbook: Annotated[bool, typer.Option("--workbook", help="Add requirements.xlsx, for the vendor to fill in.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Add report.pdf, the report to print and to keep.")] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign", metavar="KEY", parser=options.path, help="Sign with this Ed25519 or ECDSA private key (PEM)."
        ),
    ] = None,
    timestamp_request: Annotated[
        Path | None,
        typer.Option(
            "--timestamp-request", metavar="FILE", parser=options.path,
            help="Write the query for a time-stamping authority (RFC 3161) into this file.",
        ),
    ] = None,
    timestamp: Annotated[
        Path | None,
        typer.Option(
            "--timestamp", metavar="FILE", parser=options.path,
            help="Put the authority's reply into the pack, which must be made of the same as for the query.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages.")] = False,
) -> None:
    """Make an acceptance pack of saved assessments.

    It holds their report, evidence and profiles, a bill of materials, hashes and a signature.

    Serial numbers, host names, addresses and user names are taken out and listed. The same assessments give the same bytes.
    """
    from readiness.documents import assessment
    from readiness.pack import build, container, redaction, signing
    from readiness.pack import timestamp as stamping
    from readiness.pack.contents import STATEMENT
    from readiness.rendering import formats

    saved = fleet_files.assessments(saved)
    for flag, text in (("--subject", subject), ("--operator", operator), ("--note", note)):
        if len(text) > _LONGEST_TEXT:
            raise UsageError(f"a text of more than {_LONGEST_TEXT} characters", place=flag, remedy="say it shorter")
    container.refuse_target(output)
    reply = None if timestamp is None else (timestamp, stamping.read(timestamp))
    query = None if timestamp_request is None else formats.Request("query", timestamp_request)
    if query is not None:
        formats.check_writable([query])
    password = os.environ.get(PASSWORD_VARIABLE)
    key = None if sign is None else signing.read_private(sign, None if password is None else password.encode())
    _refuse_missing_extras(workbook=workbook, pdf=pdf, query=query is not None)
    add_checks(checks)
    lacking = {found.profile_name for file in saved if not _contains_sources(found := assessment.read(file))}
    request = build.Request(
        assessments=saved,
        cover=build.Cover(subject, operator, "" if status is None else status.value, note),
        profiles=list(_known_profiles(lacking, profile).values()),
        rehearsals=rehearsal or (),
        attachments=attach or (),
        systems=system or (),
        kept=redaction.kinds_of(keep or ()),
        with_workbook=workbook,
        with_pdf=pdf,
    )
    core = build.read(request)
    contents = build.whole(core, key, reply)
    container.write(output, contents)
    if query is not None:
        formats.deliver(query, stamping.request(contents[STATEMENT]))
    if not quiet:
        size = sum(map(len, contents.values())) / 2**20
        signed = "not signed" if key is None else f"signed by the key {key.signer.public_key.keyid}"
        taken = redaction.words(core.pack["redactions"])
        options.put_message(f"readiness: {output}: {len(contents)} files, {size:.1f} MiB, {signed}; taken out: {taken}")


def verify(
    pack: Annotated[Path, typer.Argument(metavar="PACK", parser=options.path, help="What `readiness pack` made.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PUB", parser=options.path, help="The public key of the signer (PEM).")
    ] = None,
    timestamp_ca: Annotated[
        Path | None,
        typer.Option(
            "--timestamp-ca", metavar="FILE", parser=options.path,
            help="Certificates (PEM) by which the signature of the time stamp is checked.",
        ),
    ] = None,
    profile: Profiles = None,
    checks: options.ChecksFolders = None,
    format: Annotated[VerifyFormat, typer.Option("--format", "-f", help="For people or for programs.")] = VerifyFormat.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The first line only.")] = False,
) -> None:
    """Check that a pack is whole, and who signed it.

    Every byte is held against the manifest, every verdict against its evidence.

    Exit codes: 0 whole and signed by the key, 1 whole but unsigned, by another key or of a profile that has changed since,
    2 altered, with the file named. A signature proves who signed these files, not that the machine exists.
    """
    from readiness.pack import signing
    from readiness.pack import timestamp as stamping
    from readiness.pack import verify as verifying

    public = None if key is None else signing.read_public(key)
    authorities = None if timestamp_ca is None else stamping.read_authorities(timestamp_ca)
    add_checks(checks)
    found = verifying.verify(pack, public, authorities)
    if found.core is not None and not found.altered:
        names = {subject.assessment.profile_name for subject in found.core.subjects}
        verifying.stale(found.core, _known_profiles(names, profile), found)
    if format is VerifyFormat.JSON:
        from readiness.documents.assessment import dumps

        options.put(dumps(verifying.as_json(found, pack)))
    else:
        lines = verifying.as_text(found, pack)
        options.put("\n".join(lines[:1] if quiet else lines))
    raise typer.Exit({
        verifying.State.SIGNED: Exit.READY, verifying.State.UNVOUCHED: Exit.NOT_READY, verifying.State.ALTERED: Exit.USAGE,
    }[found.state])  # fmt: skip


def _known_profiles(names: Iterable[str], given: list[str] | None) -> Mapping[str, Profile]:
    """The shipped profiles of these names, and those that were given, by their names. Raises UsageError and BadFileError."""
    from readiness.engine import check_declarations
    from readiness.profile import loader
    from readiness.profile.shipped import names as shipped_names

    shipped = [name for name in sorted(names) if name in shipped_names()]
    if not shipped and not given:
        return {}
    found = check_declarations.discover()
    known = {}
    for name_or_file in (*shipped, *(given or ())):
        loaded = loader.load(name_or_file, found)
        known[loaded.name] = loaded
    return known


def _contains_sources(saved: Assessment) -> bool:
    """Return whether findings have the sources of their limits; those of early versions do not."""
    return any(finding.source for item in saved.accelerators for finding in item.findings)


def _refuse_missing_extras(*, workbook: bool, pdf: bool, query: bool) -> None:
    """Find out before any work what is not installed. Raises UsageError."""
    if query:
        from readiness.pack import timestamp

        timestamp.refuse_missing()
    if workbook:
        from readiness.pack import workbook as of_workbook

        of_workbook.refuse_missing()
    if pdf:
        from readiness.pack import pdf as of_pdf

        of_pdf.refuse_missing()
