"""`readiness fleet`: the assessments of many hosts in one database, and the picture of the whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import options
from readiness.enums import Use
from readiness.errors import BadFileError, Exit, UsageError

if TYPE_CHECKING:
    from readiness.fleet.fleet_summary import Fleet
    from readiness.fleet.store import Expected

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Merge the assessments of many hosts, and report on them.\n\n"
    "They stand in one database; the report says who is ready and what is odd.",
)  # fmt: skip
_SUFFIXES = {
    "table": ".txt", "html": ".html", "json": ".json", "openmetrics": ".prom", "xlsx": ".xlsx",
    "parquet": ".parquet",
}  # fmt: skip
_LARGEST_LIST_BYTES = 64 * 2**20


class Scheduler(StrEnum):
    """Schedulers whose commands can be printed."""

    SLURM = "slurm"
    KUBERNETES = "kubernetes"


Database = Annotated[
    Path, typer.Argument(metavar="FLEET", parser=options.path, help="The database that `fleet merge` wrote.")
]


@app.command("merge")
def merge(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", parser=options.path, help="Folders with the hosts' files, or such files."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FLEET", parser=options.path, help="The database; made or added to.")
    ],
    expect: Annotated[
        Path | None,
        typer.Option(
            "--expect", metavar="FILE", parser=options.path,
            help="Hosts that should report, one in a line; a state and a reason may follow: `node-7 drained disk`.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages.")] = False,
) -> None:
    """Add the files of hosts to a fleet's database.

    They are what `run -f json=DIR/%h.json` or `-f host=DIR/%h.json` wrote, in any order, again and again; files that
    have not changed are left alone. Exits 0, also where some files are no host's: these are named, here and in every
    report.
    """
    from readiness.fleet import merge as merging
    from readiness.fleet import store

    expected = [] if expect is None else list(expected_hosts(expect))
    paths = merging.found_files(places)
    if not paths and not expected:
        raise UsageError(
            "no JSON file is in there", place=str(places[0]), remedy="name the folder in which the hosts' files are"
        )
    connection = store.open_store(output, create=True)
    try:
        store.expect(connection, expected)
        merged = merging.merge(connection, paths, on_progress=_progress(len(paths), quiet))
    finally:
        connection.close()
    if quiet:
        return
    options.put_message(
        f"readiness: {merged.added} new, {merged.known} known and unchanged, {len(merged.broken)} no host's"
    )
    for number, (path, problem) in enumerate(merged.broken.items()):
        if number == 10:
            rest = len(merged.broken) - number
            options.put_message(f"readiness: and {rest} more: `readiness fleet report -v {output}` lists them")
            break
        options.put_message(f"readiness: {path}: {problem}")


@app.command("run")
def run(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", parser=options.path, help="Where results go; again to go on.")
    ],
    run_options: Annotated[
        list[str] | None, typer.Argument(metavar="-- OPTIONS", help="Options of `readiness run`, behind two dashes.")
    ] = None,
    address: Annotated[
        str, typer.Option("--address", metavar="ADDRESS", help="A Ray cluster: local, auto or HOST:PORT.")
    ] = "local",
    limit: Annotated[str, typer.Option("--limit", metavar="TIME", help="Time limit of each host's run.")] = "1h",
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="TIME", help="Wait so long for nodes that join after the others.")
    ] = None,
    expect: Annotated[
        Path | None, typer.Option("--expect", metavar="FILE", parser=options.path, help="Hosts that should report.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line for each use, and no messages.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="What each host says.")] = False,
    no_color: options.NoColor = False,
) -> None:
    """Assess every node of a Ray cluster (extra `fleet`).

    Runs `readiness run` on each once, and reports the fleet.
    A node that dies, hangs or never joins is a finding and costs nobody else anything. With the same DIR, only hosts
    without a result run again, and go on where their journal ends. Exits as `fleet report` does.
    """
    from readiness.fleet import coordinator, store
    from readiness.fleet import merge as merging
    from readiness.fleet.ray_engine import RayEngine

    arguments = list(run_options or ())
    refuse_options(arguments)
    limit_s = options.seconds(limit, "--limit")
    wait_s = 0.0 if wait is None else options.seconds(wait, "--wait")
    expected = [] if expect is None else list(expected_hosts(expect))
    folder = coordinator.Folder(output, arguments)
    engine = RayEngine(address)

    def show_event(host: str, text: str) -> None:
        if verbose or (not quiet and text.partition(":")[0] in ("started", "done", "failed")):
            options.put_message(f"readiness: {host}: {text}")

    try:
        results = coordinator.run(
            engine, folder, arguments, limit_s=limit_s, wait_s=wait_s, on_event=show_event,
            expected=[one.host for one in expected if one.state == "expected"],
        )  # fmt: skip
    finally:
        engine.close()
    set_aside = [one for one in expected if one.state != "expected"]
    folder.expect(results, set_aside)
    database = output / "fleet.sqlite"
    connection = store.open_store(database, create=True)
    try:
        store.expect(connection, list(expected_hosts(output / "expected.txt")))
        merging.merge(connection, merging.found_files([output / "hosts"]))
    finally:
        connection.close()
    report(database, None, None, quiet, verbose, no_color)


_OWN_OPTIONS = ("--resume", "-f", "--format", "-q", "--quiet")


def refuse_options(arguments: list[str], own_options: tuple[str, ...] = _OWN_OPTIONS, command: str = "fleet run") -> None:
    """Raises UsageError for options that `run` does not have, or that a fleet's command sets itself."""
    from typer.main import get_command

    from readiness.cli import run as run_command

    for own in own_options:
        if any(argument.partition("=")[0] == own for argument in arguments):
            raise UsageError(f"{own} is set by `{command}` itself", place=f"{command} --", remedy="leave it out")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command("run")(run_command.run)
    get_command(alone).make_context("run", [*arguments])  # it empties the list


@app.command("report")
def report(
    database: Database,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", metavar="FORMAT[=FILE]",
            help="table, html, json, openmetrics, xlsx or parquet (all figures), into FILE (repeatable).",
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME", help="Of which profile. [default: that of most hosts]")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line for each use.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every list to its end.")] = False,
    no_color: options.NoColor = False,
) -> None:
    """Show which hosts are ready, odd, or did not report.

    Odd is what lies far from its like.
    Exits 0 if every host is ready for every use, 1 if any is not, 3 if any is undetermined or did not report.
    """
    from readiness import __version__
    from readiness.documents.assessment import dumps
    from readiness.fleet import page, reports, workbook
    from readiness.rendering import formats as rendering_formats
    from readiness.rendering.formats import columns

    wanted = options.document_requests(formats, _SUFFIXES, "fleet.xlsx")
    fleet = _read(database, profile)
    for request in wanted:
        content: str | bytes
        if request.format == "parquet":
            assert request.file is not None
            _export(database, fleet, request.file)
            continue
        if request.format == "xlsx":
            content = workbook.render(fleet, __version__)
        elif request.format == "html":
            content = page.render(fleet, __version__)
        elif request.format == "json":
            content = dumps(reports.as_json(fleet, __version__)) + "\n"
        elif request.format == "openmetrics":
            content = reports.openmetrics(fleet, __version__)
        elif quiet:
            content = "".join(f"{use.value}: {reports.counts(fleet, use)}\n" for use in fleet.uses)
        else:
            to_terminal = request.file is None
            content = reports.table(
                fleet, colour=to_terminal and options.colour_for(sys.stdout.isatty(), no_color), verbose=verbose,
                width=(columns(sys.stdout) if to_terminal else None) or rendering_formats.WIDEST,
            )  # fmt: skip
        rendering_formats.deliver(request, content)
    raise typer.Exit(_exit_code(fleet))


@app.command("hosts")
def hosts(
    database: Database,
    use: Annotated[Use, typer.Option("--use", help="For which use.")] = Use.TRAINING,
    failed: Annotated[bool, typer.Option("--failed", help="All other hosts of the fleet instead of those that are ready.")]
    = False,
    drain: Annotated[
        Scheduler | None,
        typer.Option("--drain", help="Commands that take hosts that are not ready out of service. They are only printed."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME", help="Of which profile. [default: that of most hosts]")
    ] = None,
) -> None:
    """Print the names of the hosts that are ready for a use. One in a line, for a scheduler."""
    from readiness.fleet import reports

    if drain is not None and failed:
        raise UsageError("a list and commands at once", place="--drain", remedy="leave --failed out")
    fleet = _read(database, profile)
    if drain is not None:
        text = reports.drain_commands(fleet, use, drain.value)
    else:
        text = reports.failed_list(fleet, use) if failed else reports.ready_list(fleet, use)
    if text:
        options.put(text)


def _read(database: Path, profile: str | None) -> Fleet:
    import sqlite3

    from readiness.cli.diff import known_directions
    from readiness.fleet import fleet_summary, store

    connection = store.open_store(database, create=False)
    try:
        return fleet_summary.read(connection, known_directions(), profile)
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as problem:
        raise BadFileError(
            f"the database is damaged: {problem}", place=str(database),
            remedy="merge the hosts' files anew into another file",
        ) from problem  # fmt: skip
    finally:
        connection.close()


def _export(database: Path, fleet: Fleet, file: Path) -> None:
    from readiness.fleet import export, store

    connection = store.open_store(database, create=False)
    try:
        export.write(connection, fleet, file)
    except OSError as problem:
        raise UsageError(
            f"it cannot be written: {problem.strerror or problem}", place=str(file),
            remedy="name a file in a folder in which you may write",
        ) from None  # fmt: skip
    finally:
        connection.close()


def _exit_code(fleet: Fleet) -> Exit:
    from readiness.datamodel import Decision

    worst = {host.worst for host in fleet.hosts}
    if Decision.NOT_READY in worst:
        return Exit.NOT_READY
    return Exit.UNDETERMINED if Decision.UNDETERMINED in worst else Exit.READY


def expected_hosts(file: Path) -> Iterator[Expected]:
    from readiness.documents import files
    from readiness.fleet.store import Expected
    from readiness.host.identity import host_name

    text = files.read_bytes(file, largest_bytes=_LARGEST_LIST_BYTES).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split(maxsplit=2)
        if not words:
            continue
        if host_name(words[0]) != words[0]:
            raise BadFileError(
                f"{words[0][:60]!r} is no name of a host", place=f"{file}:{number}", remedy="write one name in a line"
            )
        yield Expected(words[0], words[1][:100] if len(words) > 1 else "expected", words[2][:300] if len(words) > 2 else "")


def _progress(total: int, quiet: bool) -> Callable[[int], None]:
    """Return what shows on a terminal how many files are done."""
    shown = not quiet and sys.stderr.isatty()

    def show(done: int) -> None:
        if not shown:
            return
        end = "\n" if done >= total else ""
        print(f"\rreadiness: {done} of {total} files", end=end, file=sys.stderr, flush=True)

    return show
