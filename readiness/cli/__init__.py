"""The command line: typer wiring, one file per command. No logic lives here and nothing here imports torch."""

from __future__ import annotations

import typer

from readiness.cli import (
    baseline,
    compare,
    devices,
    diff,
    explain,
    fit,
    fleet,
    fleet_links,
    judge,
    listing,
    pack,
    rehearse,
    report,
    run,
    schema,
    trace,
)

app = typer.Typer(
    name="readiness",
    help="Can this accelerator train our model, can it serve it, and if not, what stands in the way?\n\n"
    "Exit codes: 0 ready, 1 not ready, 2 usage or bad file, 3 undetermined, 70 internal fault, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("judge")(judge.judge)
app.command("report")(report.report)
app.command("pack")(pack.pack)
app.command("verify")(pack.verify)
app.command("compare")(compare.compare)
app.command("diff")(diff.diff)
app.command("baseline")(baseline.baseline)
app.command("devices")(devices.devices)
app.command("list")(listing.listing)
app.command("explain")(explain.explain)
app.command("fit")(fit.fit)
app.command("rehearse")(rehearse.rehearse)
app.command("schema")(schema.schema)
app.command("trace")(trace.trace)
fleet.app.command("links")(fleet_links.links)
app.add_typer(fleet.app, name="fleet")


def _version(requested: bool) -> None:
    if requested:
        from readiness import __version__

        typer.echo(f"readiness {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass
