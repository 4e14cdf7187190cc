"""`readiness judge`: decide again over saved evidence, without hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from readiness.cli import common


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

    from readiness import assessment, checklist
    from readiness import judge as judging
    from readiness import profile as profiles

    requests = common.requests_of(formats)
    common.add_checks(checks)
    evidence = assessment.read(saved)
    chosen = profiles.load(profile or evidence.profile_name, checklist.discover())
    uses = common.uses_of(chosen, use)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    judged = judging.rejudge(evidence, chosen, uses, waivers=common.read_waivers(waivers, chosen), today=today)
    common.tell(judged, requests, quiet=quiet, no_color=no_color)
    common.leave(judged, fail_on)
