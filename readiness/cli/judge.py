"""`readiness judge`: judge saved evidence again, without hardware."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import completion, options
from readiness.cli.check_folders import add_checks

if TYPE_CHECKING:
    from readiness.check_registry import Check
    from readiness.datamodel import Assessment, Profile


def judge(
    saved: options.SavedArgument = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", "-p", metavar="NAME|FILE", help="The profile to judge by. [default: that of the assessment]",
            autocompletion=completion.profile,
        ),
    ] = None,
    use: options.Uses = None,
    checks: options.ChecksFolders = None,
    waivers: options.Waivers = None,
    fail_on: options.FailOnOption = options.FailOn.MUST,
    exit_style: options.ExitStyleOption = options.ExitStyle.READINESS,
    formats: options.Formats = None,
    quiet: options.Quiet = False,
    verbose: options.Whole = False,
    no_color: options.NoColor = False,
) -> None:
    """Judge saved evidence under a profile, on any machine. What that profile requires but was not measured is unknown."""
    import datetime

    from readiness.engine import check_declarations
    from readiness.engine.run_store import profile_of_run
    from readiness.judging.rejudge import rejudge
    from readiness.profile import loader as profiles

    requests = options.requests_of(formats)
    add_checks(checks)
    file = options.saved_or_last(saved, quiet=quiet, finished=True)
    evidence = options.read_saved(file, quiet=quiet)
    found = check_declarations.discover()
    if profile is None:
        chosen = _as_it_was(evidence, file, found, run_profile=None if saved is not None else profile_of_run(file.parent))
    else:
        chosen = profiles.load(profile, found)
    uses = options.uses_of(chosen, use)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    judged = rejudge(
        evidence, chosen, uses, waivers=options.read_waivers(waivers, chosen), today=today,
        basis=profiles.basis_of(chosen, found),
    )  # fmt: skip
    options.write_reports(judged, requests, quiet=quiet, no_color=no_color, fail_on=fail_on, verbose=verbose)
    options.leave(judged, fail_on, exit_style)


def _as_it_was(evidence: Assessment, saved: Path, found: Mapping[str, Check], *, run_profile: str | None) -> Profile:
    """Return the profile of the assessment: the one given to that run by this user, else the shipped one.

    Raises UsageError: a name in a file that somebody handed over leads to no other file.
    """
    from readiness.errors import UsageError
    from readiness.profile import loader as profiles
    from readiness.profile import shipped

    name = evidence.profile_name
    if run_profile is not None or name in shipped.names():
        chosen = profiles.load(run_profile or name, found)
        if chosen.sha256 == evidence.profile_sha256:
            return chosen
        which = "the one which is shipped here" if run_profile is None else f"{run_profile} does now"
        what = f"it was judged under a profile {name} with other requirements than {which}"
    else:
        what = f"it was judged under {name!r}, which is not a shipped profile"
    raise UsageError(what, place=str(saved), remedy="name the profile: --profile NAME|FILE")

