"""Options, readers and report writers that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import completion
from readiness.enums import Level, Use
from readiness.errors import Exit, UsageError

if TYPE_CHECKING:
    from readiness.datamodel import Assessment, Profile, Waiver
    from readiness.rendering.formats import Request

#: A table is no wider than that, however wide the terminal; so many blanks stand between its columns, and beside a heading.
_WIDEST_TABLE, _GAP = 150, 2
#: A column that gives way keeps so many places, also beside a long id.
_LEAST_COLUMN = 20


class FailOn(StrEnum):
    """Condition for the exit code `not ready`."""

    MUST = "must"
    SHOULD = "should"
    NEVER = "never"

    @property
    def level(self) -> Level | None:
        """The level, None for never."""
        return {"must": Level.MUST, "should": Level.SHOULD, "never": None}[self.value]


class ExitStyle(StrEnum):
    """Convention of a command's exit codes."""

    READINESS = "readiness"
    NAGIOS = "nagios"


def use_exporters(places: list[str] | None, remote: bool) -> None:
    """Have health be read from these exporters too, in this process and its workers. Raises UsageError."""
    if places:
        from readiness.accelerators.readers import prometheus

        prometheus.use(places, remote=remote)


def path(text: str) -> Path:
    """Parse a path. Raises BadParameter for an empty one: an unset variable does not mean the current folder."""
    if not str(text):
        raise typer.BadParameter("it is empty")
    return Path(text)


Uses = Annotated[
    list[Use] | None, typer.Option("--use", help="Judge for this use only (repeatable). Default: the uses of the profile.")
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format", "-f", metavar="FORMAT[=FILE]", help="Write the report as FORMAT, to FILE (repeatable).",
        autocompletion=completion.report_format,
    ),
]
Waivers = Annotated[
    Path | None,
    typer.Option(
        "--waivers", metavar="FILE", parser=path, help="Waivers: failed requirements that you accept."
    ),
]
ChecksFolders = Annotated[
    list[Path] | None,
    typer.Option("--checks", metavar="DIR", parser=path, help="An additional folder of checks (repeatable)."),
]
Exporters = Annotated[
    list[str] | None,
    typer.Option(
        "--exporter", metavar="URL|FILE", help="Ask an exporter of metrics that runs here about health too (repeatable)."
    ),
]
RemoteExporter = Annotated[
    bool, typer.Option("--remote-exporter", help="Also where its address is another host's.")
]
FailOnOption = Annotated[
    FailOn,
    typer.Option("--fail-on", help="Exit 1 for failed musts, for failed shoulds as well, or never (always 0)."),
]
ExitStyleOption = Annotated[
    ExitStyle,
    typer.Option(
        "--exit-style", help="Exit codes of readiness, or of a Nagios plugin: 0 OK, 1 warning, 2 critical, 3 unknown."
    ),
]
Expression = Annotated[
    str | None,
    typer.Option(
        "-k", metavar="EXPR", help="Only checks whose id matches, e.g. 'parity and not training'.",
        autocompletion=completion.check,
    ),
]
SavedArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="SAVED", parser=path, help="An assessment that `run -f json=FILE` wrote. [default: the last run]"
    ),
]
ReportFailOn = Annotated[
    FailOn,
    typer.Option(
        "--fail-on", help="What formats for pipelines count as a failure: failed musts, failed shoulds as well, or nothing."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="One line of at most 80 characters, and no messages.")]
Whole = Annotated[bool, typer.Option("--verbose", "-v", help="Every list to its end: nothing is folded to a count.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours. NO_COLOR does the same.")]


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str, flag: str) -> float:
    """A length of time like 50, 50s, 1.5m, 2h. Raises UsageError."""
    number = text.rstrip("smindh")
    unit = text[len(number) :]
    try:
        value = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        value = -1.0
    if not 0 < value <= 366 * 86400:
        raise UsageError(f"{text!r} is not a duration", place=flag, remedy="write it like 50s, 5m or 2h")
    return value


def saved_or_last(saved: Path | None, *, quiet: bool, finished: bool) -> Path:
    """Return the assessment to read: the named one, else that of the last run, or of the last that finished.

    Raises UsageError.
    """
    if saved is not None:
        return saved
    from readiness.engine.run_store import last_run, latest_run

    remedy = "name an assessment that `run -f json=FILE` wrote, or start a run first"
    folder, interrupted = (last_run("SAVED", remedy), False) if finished else latest_run("SAVED", remedy)
    file = folder / "assessment.json"
    if not quiet:
        print(f"readiness: the last run{', which was interrupted' if interrupted else ''}: {file}", file=sys.stderr)
    return file


def uses_of(profile: Profile, requested: Sequence[Use] | None) -> tuple[Use, ...]:
    """Return the uses to judge for. Raises UsageError for one that the profile does not cover."""
    if not requested:
        return profile.uses
    for use in requested:
        if use not in profile.uses:
            raise UsageError(
                f"the profile {profile.name} does not cover {use}",
                place="--use",
                remedy=f"choose {' or '.join(profile.uses)}, or another profile",
            )
    return tuple(use for use in profile.uses if use in requested)


def read_waivers(file: Path | None, profile: Profile) -> tuple[Waiver, ...]:
    """Read the waivers of a file. Raises BadFileError."""
    if file is None:
        return ()
    from readiness.documents.waivers import load

    return load(file, profile)


def read_saved(file: Path, *, quiet: bool) -> Assessment:
    """Read a saved assessment; notes about it go to stderr. Raises BadFileError for contradictions."""
    import gc

    from readiness import __version__
    from readiness.documents import assessment

    saved = assessment.read(file)
    gc.freeze()  # it may hold millions of values, and none of them is garbage before the end
    if not quiet:
        for note in assessment.notes(saved, __version__):
            print(f"readiness: {file}: {note}", file=sys.stderr)
    return saved


def is_colour_refused(no_color: bool) -> bool:
    """Return whether colours are off: `--no-color`, or a NO_COLOR that is not empty."""
    return no_color or bool(os.environ.get("NO_COLOR"))


def colour_for(stream_is_terminal: bool, no_color: bool) -> bool:
    """Return whether output to a stream is coloured."""
    return stream_is_terminal and not is_colour_refused(no_color) and os.environ.get("TERM") != "dumb"


def requests_of(formats: Sequence[str] | None) -> list[Request]:
    """Parse and check the `-f` options before any measurement. Raises UsageError."""
    from readiness.rendering import formats as rendering_formats

    requests = rendering_formats.parse_requests(formats or ())
    rendering_formats.check_writable(requests)
    return requests


_BINARY = {"xlsx": "a workbook", "parquet": "a Parquet file"}


def document_requests(formats: Sequence[str] | None, suffixes: Mapping[str, str], workbook: str) -> list[Request]:
    """Parse the `-f` options of a command with formats of its own; a table to stdout where nothing else goes there.

    `workbook` is the example of a file for one. Raises UsageError, before anything is read.
    """
    from readiness.rendering import formats as rendering_formats

    requests = rendering_formats.parse_requests(formats or (), suffixes)
    for format, what in _BINARY.items():
        if any(request.format == format and request.file is None for request in requests):
            file = Path(workbook).with_suffix(f".{format}")
            raise UsageError(f"{what} is no text", place=f"-f {format}", remedy=f"name a file: -f {format}={file}")
    rendering_formats.check_writable(requests)
    if all(request.file is not None for request in requests):
        requests.append(rendering_formats.Request("table"))
    return requests


def write_reports(
    assessment: Assessment,
    requests: Sequence[Request],
    *,
    quiet: bool,
    no_color: bool,
    fail_on: FailOn = FailOn.MUST,
    usual: str = "table",
    hints: Mapping[str, str] | None = None,
    verbose: bool = False,
) -> None:
    """Write every requested report; the `usual` one (the line with -q) to stdout unless a report goes there.

    `hints` are further commands, by subject. All reports are tried; the first failure is raised afterwards
    (UsageError). With `verbose` no long list is folded.
    """
    from readiness.rendering import formats as rendering_formats

    wanted = list(requests)
    if all(request.file is not None for request in requests):
        wanted.append(rendering_formats.Request("line" if quiet else usual))
    colour = colour_for(sys.stdout.isatty(), no_color)
    further = {"fail_on": fail_on.level, "hints": hints or {}, "verbose": verbose}
    rendering_formats.write_all(wanted, assessment, colour, sys.stdout, **further)


def put(text: str) -> None:
    """Write data to stdout without control sequences: documentation and titles come from files.

    A reader that has exited (`| head`) changes no exit code.
    """
    from readiness.rendering import visible
    from readiness.rendering.formats import put as put_on

    put_on(visible(text).rstrip("\n") + "\n", sys.stdout)


def widths(rows: Sequence[Sequence[object]], heading: Sequence[object] = ()) -> list[int | None] | None:
    """The largest width of each column of a table (`maxcolwidths`), so that it fits the terminal: the widest gives way.

    None where it fits, and where there is no terminal.
    """
    from readiness.rendering.formats import columns

    most = columns(sys.stdout, widest=_WIDEST_TABLE)
    if most is None or not rows:
        return None
    found = [max(len(str(cell)) for cell in cells) for cells in zip(*rows, strict=True)]
    if heading:  # tabulate leaves blanks beside a heading
        found = [max(width, len(str(name)) + _GAP) for width, name in zip(found, heading, strict=True)]
    over = sum(found) + _GAP * (len(found) - 1) - most
    if over <= 0:
        return None
    widest = found.index(max(found))
    return [max(width - over, _LEAST_COLUMN) if number == widest else None for number, width in enumerate(found)]


def put_message(text: str) -> None:
    """Write a message to stderr; its content may come from a file."""
    from readiness.rendering import message

    print(message(text), file=sys.stderr)


def interrupted(style: ExitStyle) -> int:
    """The exit code of what somebody stopped."""
    from readiness.judging.nagios_status import NagiosStatus

    return NagiosStatus.UNKNOWN if style is ExitStyle.NAGIOS else Exit.INTERRUPTED


def leave(
    assessment: Assessment, fail_on: FailOn, style: ExitStyle = ExitStyle.READINESS, *, least: Exit = Exit.READY
) -> None:
    """End the command with the code of the worst verdict; where that is ready, with `least`."""
    from readiness.judging.judge import exit_code
    from readiness.judging.nagios_status import NagiosStatus, nagios_status

    if style is ExitStyle.NAGIOS:
        found = nagios_status(assessment, fail_on.level)
        of_least = {Exit.NOT_READY: NagiosStatus.CRITICAL, Exit.UNDETERMINED: NagiosStatus.UNKNOWN}.get(least)
        raise typer.Exit(found if of_least is None or found is NagiosStatus.CRITICAL else of_least)
    code = exit_code(assessment, fail_on.level)
    if code is Exit.INTERRUPTED:
        raise typer.Exit(code)
    raise typer.Exit(least if code is Exit.READY or least is Exit.NOT_READY else code)
