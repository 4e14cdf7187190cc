"""`readiness baseline`: whole runs of sound accelerators as a file that later runs are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from readiness.cli import fleet_files, options


def baseline(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", parser=options.path, help="Assessments of whole runs.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", parser=options.path, help="Where the baseline goes.")
    ],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages.")] = False,
) -> None:
    """Make a baseline of at least three whole runs.

    The runs are under one profile; it has the median and the spread between them, by model.

    Repeats inside one run share its bias, so one run has no spread. Runs on busy and idle hosts make a baseline that holds
    on both. `readiness diff BASELINE NEW` and `readiness run --baseline` hold a run against it.
    """
    from readiness import __version__
    from readiness.cli.diff import known_directions
    from readiness.comparison.baseline import made_of
    from readiness.documents.assessment import dumps
    from readiness.rendering import formats as rendering_formats
    from readiness.rendering.formats import Request

    request = Request("json", output)
    rendering_formats.check_writable([request])
    runs = fleet_files.assessments(runs)
    read = [(file, options.read_saved(file, quiet=quiet)) for file in runs]
    document, notes = made_of(read, known_directions(), __version__)
    rendering_formats.deliver(request, dumps(document) + "\n")
    if not quiet:
        for note in notes:
            options.put_message(f"readiness: {note}")
        for model in document["models"]:
            name = model["model"] or model["vendor"] or "unknown model"
            size = f"{len(model['requirements'])} requirements, {len(model['measures'])} values"
            options.put_message(f"readiness: {name}: {model['runs']} runs, {size}")
