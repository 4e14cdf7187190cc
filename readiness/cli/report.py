"""`readiness report`: tell a saved assessment in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from readiness.cli import common


def report(
    saved: Annotated[Path, typer.Argument(metavar="SAVED", help="An assessment that `run -f json=FILE` wrote.")],
    formats: common.Formats = None,
    quiet: common.Quiet = False,
    no_color: common.NoColor = False,
) -> None:
    """Tell a saved assessment as it was judged. Exits 0 whatever the verdict: `judge` has the exit codes."""
    requests = common.requests_of(formats)
    common.tell(common.read_saved(saved, quiet=quiet), requests, quiet=quiet, no_color=no_color)
