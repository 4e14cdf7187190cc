"""`readiness report`: write a saved assessment in another format."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import completion, options
from readiness.errors import UsageError

if TYPE_CHECKING:
    from readiness.datamodel import Assessment


def report(
    saved: options.SavedArgument = None,
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows", metavar="CHECK", help="Show the detail rows of a check, as a table or with -f json.",
            autocompletion=completion.check,
        ),
    ] = None,
    fail_on: options.ReportFailOn = options.FailOn.MUST,
    exit_style: options.ExitStyleOption = options.ExitStyle.READINESS,
    formats: options.Formats = None,
    quiet: options.Quiet = False,
    verbose: options.Whole = False,
    no_color: options.NoColor = False,
) -> None:
    """Report a saved assessment as it was judged. Exits 0 whatever the verdict: for exit codes by verdict use `judge`.

    With --exit-style nagios it exits as a plugin does, 0 only where the verdict is ready.
    """
    if rows is not None:
        if formats not in (None, [], ["table"], ["json"]):
            raise UsageError("rows are shown as a table or as json", place="--rows", remedy="omit -f, or use -f json")
        found = options.read_saved(options.saved_or_last(saved, quiet=quiet, finished=False), quiet=quiet)
        _print_rows(found, rows, as_json=formats == ["json"])
        return
    requests = options.requests_of(formats)
    found = options.read_saved(options.saved_or_last(saved, quiet=quiet, finished=False), quiet=quiet)
    options.write_reports(found, requests, quiet=quiet, no_color=no_color, fail_on=fail_on, verbose=verbose)
    if exit_style is options.ExitStyle.NAGIOS:
        options.leave(found, fail_on, exit_style)


def _print_rows(assessment: Assessment, check: str, *, as_json: bool) -> None:
    from readiness.rendering import rows
    from readiness.rendering.charts import shows_blocks
    from readiness.rendering.formats import columns

    found = rows.of_check(assessment, check)
    if not found:
        known: list[str] = rows.checks(assessment)
        near = get_close_matches(check, known, n=1) or [id for id in known if check in id][:1]
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"the assessment has no evidence of a check {check[:100]!r}",
            place="--rows",
            remedy=f"{hint}it has evidence of {', '.join(known)}" if known else "give an assessment with measurements",
        )
    if as_json:
        import json

        options.put(json.dumps(rows.as_json(found), indent=1))
        return
    options.put(rows.as_text(found, columns(sys.stdout), blocks=shows_blocks(sys.stdout.encoding)))
