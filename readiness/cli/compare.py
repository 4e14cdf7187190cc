"""`readiness compare`: machines side by side, for somebody who must choose one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from readiness.cli import completion, fleet_files, options
from readiness.errors import UsageError

_SUFFIXES = {"table": ".txt", "html": ".html", "markdown": ".md", "xlsx": ".xlsx", "json": ".json"}


def compare(
    saved: Annotated[
        list[Path],
        typer.Argument(metavar="A B...", parser=options.path, help="Assessments of two machines or more, or a fleet."),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", metavar="FORMAT[=FILE]", help="table, html, markdown, xlsx or json, into FILE (repeatable).",
            autocompletion=completion.comparison_format,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line for each use, and no messages.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="All different requirements, every value.")] = False,
    no_color: options.NoColor = False,
) -> None:
    """Compare machines: which is ready for what, and why.

    Machines stand side by side for training and for inference, best verdicts first.

    Judge them under one profile before: verdicts under different ones answer different questions. Exits 0.
    """
    from readiness import __version__
    from readiness.cli.diff import known_directions
    from readiness.comparison import machine_page, machine_reports, machine_workbook, machines
    from readiness.documents.assessment import dumps
    from readiness.rendering import formats as rendering_formats
    from readiness.rendering.formats import columns

    saved = fleet_files.assessments(saved)
    if len(saved) < 2:
        raise UsageError("one assessment is nothing to compare", place="compare", remedy="name two or more")
    wanted = options.document_requests(formats, _SUFFIXES, "machines.xlsx")
    read = [options.read_saved(file, quiet=quiet) for file in saved]
    comparison = machines.compare(list(zip(names(saved), read, strict=True)), known_directions())
    for request in wanted:
        to_terminal = request.file is None
        if request.format == "xlsx":
            rendering_formats.deliver(request, machine_workbook.render(comparison, __version__))
            continue
        if request.format == "html":
            text = machine_page.render(comparison, __version__)
        elif request.format == "markdown":
            text = machine_reports.markdown(comparison, __version__)
        elif request.format == "json":
            text = dumps(machine_reports.as_json(comparison, __version__)) + "\n"
        elif quiet:
            text = "".join(f"{use}: {sentences[0]}\n" for use, sentences in comparison.answers.items() if sentences)
        else:
            text = machine_reports.table(
                comparison, colour=to_terminal and options.colour_for(sys.stdout.isatty(), no_color), verbose=verbose,
                width=(columns(sys.stdout) if to_terminal else None) or rendering_formats.WIDEST,
            )  # fmt: skip
        rendering_formats.deliver(request, text)


def names(files: Sequence[Path]) -> list[str]:
    """Return the machines' names: their files without the ending, with as many folders as distinguish them."""
    parts = [(*file.parent.absolute().parts, file.stem) for file in files]
    for depth in range(1, max(map(len, parts)) + 1):
        found = ["/".join(part[-depth:]) for part in parts]
        if len(set(found)) == len(found):
            return found
    return [f"{file.stem} ({number})" for number, file in enumerate(files, 1)]
