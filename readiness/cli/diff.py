"""`readiness diff`: a run against an earlier one, or against a baseline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import completion, fleet_files, options
from readiness.errors import UsageError

if TYPE_CHECKING:
    from readiness.comparison.changes import Difference
    from readiness.comparison.reference import Directions, Reference
    from readiness.rendering.formats import Request

RetestOption = Annotated[
    str | None,
    typer.Option(
        "--retest", metavar="PERCENT",
        help="The rule of contracts, e.g. 90: each value of performance reaches so much of the accepted one.",
    ),
]


def diff(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", parser=options.path, help="An earlier run, a baseline, or FLEET:HOST.")
    ],
    new: Annotated[
        Path, typer.Argument(metavar="NEW", parser=options.path, help="The run to hold against it, or FLEET:HOST.")
    ],
    tolerance: Annotated[
        str,
        typer.Option("--tolerance", metavar="PERCENT", help="What a speed may lose where no spread between runs is known."),
    ] = "10",
    retest: RetestOption = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", metavar="FORMAT[=FILE]", help="table, markdown or json, into FILE (repeatable).",
            autocompletion=completion.difference_format,
        ),
    ] = None,
    quiet: options.Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every change, one by one.")] = False,
    no_color: options.NoColor = False,
) -> None:
    """Report what got worse or better between two runs.

    Exit codes: 0 nothing worse, 1 a regression, 3 undetermined.

    A baseline of several whole runs (`readiness baseline`) tells a slower chip from a busy host; one run against one cannot.
    """
    from readiness.comparison import changes

    wanted = difference_requests(formats)
    allowed, rule = percent(tolerance, "--tolerance"), None if retest is None else percent(retest, "--retest")
    directions = known_directions()
    old, new = fleet_files.assessment(old, "OLD"), fleet_files.assessment(new, "NEW")
    reference = read_reference(old, directions, quiet=quiet)
    assessment = options.read_saved(new, quiet=quiet)
    difference = changes.compare(reference, assessment, directions, title=new.name, tolerance=allowed, retest=rule)
    report_difference(difference, wanted, quiet=quiet, verbose=verbose, no_color=no_color)
    raise typer.Exit(difference.exit_code)


def percent(text: str, flag: str) -> float:
    """A share written in per cent: 90, 90%, 2.5. Raises UsageError."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise UsageError(f"{text[:40]!r} is no share", place=flag, remedy="write per cent, like 90")
    return value / 100


def known_directions() -> Directions:
    """Return the direction in which each measurement of a shipped check gets better.

    Those of others say so in a baseline alone.
    """
    from readiness import check_registry
    from readiness.comparison.comparable_values import directions

    return directions(check_registry.shipped())


def read_reference(file: Path, directions: Directions, *, quiet: bool) -> Reference:
    """A baseline or a run, whichever the file is. Raises BadFileError."""
    from readiness.comparison import baseline, reference
    from readiness.documents import files

    document = files.read_json(file, largest_bytes=baseline.LARGEST_FILE_BYTES)
    if baseline.is_baseline(document):
        from dataclasses import replace

        return replace(baseline.from_json(document, str(file)), title=f"the baseline {file.name}")
    return reference.of_run(options.read_saved(file, quiet=quiet), directions, file.name)


_SUFFIXES = {"table": ".txt", "markdown": ".md", "json": ".json"}


def difference_requests(formats: list[str] | None) -> list[Request]:
    """Parse the values of `-f`. Raises UsageError."""
    from readiness.rendering import formats as rendering_formats

    requests = rendering_formats.parse_requests(formats or (), _SUFFIXES)
    rendering_formats.check_writable(requests)
    return requests


def report_difference(
    difference: Difference, requests: list[Request], *, quiet: bool, verbose: bool, no_color: bool, errors: bool = False
) -> None:
    """Write every report of a difference; by itself the table, with -q its answer, on stdout (`errors`: on stderr)."""
    from readiness import __version__
    from readiness.comparison import change_reports
    from readiness.documents.assessment import dumps
    from readiness.rendering import cut
    from readiness.rendering import formats as rendering_formats
    from readiness.rendering.formats import Request, columns

    stream = sys.stderr if errors else sys.stdout
    wanted = list(requests)
    if all(request.file is not None for request in requests):
        wanted.append(Request("table"))
    for request in wanted:
        target = None if request.file is not None else stream
        colour = target is not None and options.colour_for(target.isatty(), no_color)
        width = (columns(stream) if target is not None else None) or rendering_formats.WIDEST
        if request.format == "json":
            text = dumps(change_reports.as_json(difference, __version__)) + "\n"
        elif request.format == "markdown":
            text = change_reports.markdown(difference, __version__)
        elif quiet:
            text = cut(change_reports.answer(difference), 80) + "\n"
        else:
            text = change_reports.table(difference, colour=colour, width=width, verbose=verbose)
        rendering_formats.deliver(request, text, stream)

