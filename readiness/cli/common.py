"""What several commands share: options, reading what they name, and writing what they tell."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import completion
from readiness.errors import Exit, UsageError
from readiness.model import Decision, Level, Use

if TYPE_CHECKING:
    from readiness.model import Assessment, Profile, Waiver
    from readiness.reporting import Request

EXIT_OF = {
    Decision.READY: Exit.READY,
    Decision.NOT_READY: Exit.NOT_READY,
    Decision.UNDETERMINED: Exit.UNDETERMINED,
}


class FailOn(StrEnum):
    """What makes the exit code say `not ready`."""

    MUST = "must"
    SHOULD = "should"
    NEVER = "never"

    @property
    def level(self) -> Level | None:
        """The level, None for never."""
        return {"must": Level.MUST, "should": Level.SHOULD, "never": None}[self.value]


def path(text: str) -> Path:
    """A path that was named. Raises BadParameter for an empty one: a variable that is not set does not mean this folder."""
    if not str(text):
        raise typer.BadParameter("it is empty, and names nothing")
    return Path(text)


Uses = Annotated[
    list[Use] | None, typer.Option("--use", help="Judge for this use only (repeatable). Default: those of the profile.")
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format", "-f", metavar="FORMAT[=FILE]", help="Tell it as FORMAT, into FILE (repeatable).",
        autocompletion=completion.report_format,
    ),
]
Waivers = Annotated[
    Path | None,
    typer.Option(
        "--waivers", metavar="FILE", parser=path, help="Failed requirements that somebody decided to live with."
    ),
]
ChecksFolders = Annotated[
    list[Path] | None,
    typer.Option("--checks", metavar="DIR", parser=path, help="A further folder of checks (repeatable)."),
]
FailOnOption = Annotated[
    FailOn,
    typer.Option("--fail-on", help="Exit 1 for failed musts, for failed shoulds too, or never: 0 whatever the verdict."),
]
Expression = Annotated[
    str | None,
    typer.Option(
        "-k", metavar="EXPR", help="Only checks whose id fits, e.g. 'parity and not training'.",
        autocompletion=completion.check,
    ),
]
SavedArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="SAVED", parser=path, help="An assessment that `run -f json=FILE` wrote. [default: the last run]"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="One line of at most 80 characters, and no messages.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours. NO_COLOR does the same.")]


def add_checks(folders: Sequence[Path] | None) -> None:
    """Make folders of checks known to this process and to all its workers."""
    from readiness.content import CHECKS_VARIABLE

    if not folders:
        return
    known = [folder for folder in os.environ.get(CHECKS_VARIABLE, "").split(os.pathsep) if folder]
    for folder in folders:
        if os.pathsep in str(folder):
            raise UsageError(f"the path has a {os.pathsep!r} in it", place=f"--checks {folder}", remedy="rename the folder")
        refuse_unless_folder(folder, f"--checks {folder}", "correct the path")
        if (found := os.path.realpath(folder)) not in known:
            known.append(found)
    os.environ[CHECKS_VARIABLE] = os.pathsep.join(known)


def refuse_unless_folder(folder: Path, place: str, remedy: str) -> None:
    """Raise UsageError where there is no folder of this name, or where no folder can have it."""
    try:
        there = folder.is_dir()
    except OSError as problem:  # of a name that is too long
        raise UsageError(f"it cannot be used: {problem.strerror}", place=place, remedy=remedy) from None
    if not there:
        raise UsageError("there is no such folder", place=place, remedy=remedy)


def saved_or_last(saved: Path | None, *, quiet: bool) -> Path:
    """The assessment to read: that which is named, else that of the run that was the last to end. Raises UsageError."""
    if saved is not None:
        return saved
    from readiness.state import last_run

    file = last_run("SAVED", "name an assessment that `run -f json=FILE` wrote, or do a run first") / "assessment.json"
    if not quiet:
        print(f"readiness: the last run: {file}", file=sys.stderr)
    return file


def uses_of(profile: Profile, asked: Sequence[Use] | None) -> tuple[Use, ...]:
    """The uses to judge for. Raises UsageError for one that the profile says nothing about."""
    if not asked:
        return profile.uses
    for use in asked:
        if use not in profile.uses:
            raise UsageError(
                f"the profile {profile.name} says nothing about {use}",
                place="--use",
                remedy=f"ask for {' or '.join(profile.uses)}, or choose another profile",
            )
    return tuple(use for use in profile.uses if use in asked)


def read_waivers(file: Path | None, profile: Profile) -> tuple[Waiver, ...]:
    """The waivers of a file. Raises BadFileError."""
    if file is None:
        return ()
    from readiness.waivers import load

    return load(file, profile)


def colour_for(stream_is_terminal: bool, no_color: bool) -> bool:
    """Whether to colour what goes to a stream."""
    from readiness.console import is_colour_refused

    return stream_is_terminal and not is_colour_refused(no_color) and os.environ.get("TERM") != "dumb"


def requests_of(formats: Sequence[str] | None) -> list[Request]:
    """What `-f` asks for, checked before an hour is spent measuring. Raises UsageError."""
    from readiness import reporting

    requests = reporting.parse_requests(formats or ())
    reporting.check_writable(requests)
    return requests


def tell(assessment: Assessment, requests: Sequence[Request], *, quiet: bool, no_color: bool) -> None:
    """Write every report that was asked for; the table (the line with -q) on stdout unless a report goes there.

    All are tried; the first that failed is raised afterwards (UsageError).
    """
    from readiness import reporting

    wanted = list(requests)
    if all(request.file is not None for request in requests):
        wanted.append(reporting.Request("line" if quiet else "table"))
    reporting.write_all(wanted, assessment, colour_for(sys.stdout.isatty(), no_color), sys.stdout)


def put(text: str) -> None:
    """Write data to stdout. A reader that has left (`| head`) is no fault of ours and changes no exit code."""
    from readiness.reporting import put as put_on

    put_on(text if text.endswith("\n") else text + "\n", sys.stdout)


def leave(assessment: Assessment, fail_on: FailOn) -> None:
    """End the command with the code of the worst verdict."""
    from readiness.judge import worst_exit

    if assessment.interrupted:
        raise typer.Exit(Exit.INTERRUPTED)
    raise typer.Exit(EXIT_OF[worst_exit(assessment.accelerators, fail_on.level)])
