"""`readiness judge`: decide again over saved evidence, without hardware."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import common

if TYPE_CHECKING:
    from readiness.checklist import Check
    from readiness.model import Assessment, Profile


def judge(
    saved: Annotated[Path, typer.Argument(metavar="SAVED", help="An assessment that `run -f json=FILE` wrote.")],
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME|FILE", help="What is required. [default: as it was]")
    ] = None,
    use: common.Uses = None,
    checks: common.ChecksFolders = None,
    waivers: common.Waivers = None,
    fail_on: common.FailOnOption = common.FailOn.MUST,
    formats: common.Formats = None,
    quiet: common.Quiet = False,
    no_color: common.NoColor = False,
) -> None:
    """Judge saved evidence under a profile, on any machine. What that profile asks and nobody measured is unknown."""
    import datetime

    from readiness import checklist
    from readiness import profile as profiles
    from readiness.rejudge import rejudge

    requests = common.requests_of(formats)
    common.add_checks(checks)
    evidence = common.read_saved(saved, quiet=quiet)
    found = checklist.discover()
    chosen = profiles.load(profile, found) if profile is not None else _as_it_was(evidence, saved, found)
    uses = common.uses_of(chosen, use)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    judged = rejudge(
        evidence, chosen, uses, waivers=common.read_waivers(waivers, chosen), today=today,
        basis=profiles.basis_of(chosen, found),
    )  # fmt: skip
    common.tell(judged, requests, quiet=quiet, no_color=no_color)
    common.leave(judged, fail_on)


def _as_it_was(evidence: Assessment, saved: Path, found: Mapping[str, Check]) -> Profile:
    """The shipped profile under which it was judged. Raises UsageError: a name in a file leads to no other file."""
    from readiness import profile as profiles
    from readiness.errors import UsageError

    name = evidence.profile_name
    if name in profiles.names():
        chosen = profiles.load(name, found)
        if chosen.sha256 == evidence.profile_sha256:
            return chosen
        what = f"it was judged under a profile {name} that demanded something else than the one which is shipped here"
    else:
        what = f"it was judged under {name!r}, which is no shipped profile"
    raise UsageError(what, place=str(saved), remedy="name the profile: --profile NAME|FILE")

