"""`readiness fleet links`: the hosts of a fleet tried in pairs and groups, until the host or link that fails is named."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import options
from readiness.cli.fleet import Database, expected_hosts, refuse_options
from readiness.errors import Exit, UsageError

if TYPE_CHECKING:
    import sqlite3

    from readiness.fleet.links.attribution import Plan
    from readiness.fleet.links.summary import LinksSummary
    from readiness.fleet.links.trials import Start

_OWN_OPTIONS = (
    "--host", "--reach", "--resume", "-f", "--format", "-q", "--quiet", "--rehearse", "--failed", "--exit-style", "--soak",
)  # fmt: skip


def links(
    database: Database,
    run_options: Annotated[
        list[str] | None, typer.Argument(metavar="-- OPTIONS", help="Options of `readiness run`, behind two dashes.")
    ] = None,
    hosts: Annotated[
        Path | None,
        typer.Option(
            "--hosts", metavar="FILE", parser=options.path,
            help="The hosts, one in a line. [default: all of the database but those set aside]",
        ),
    ] = None,
    reach: Annotated[
        str | None,
        typer.Option(
            "--reach", metavar="COMMAND",
            help="Command that starts Python on a host, here and there. [default: ssh -o BatchMode=yes {host} {python}]",
        ),
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="Start runs by this Ray cluster: auto or HOST:PORT.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, max=1000, help="Rounds in which every host is paired. [default: 5]")
    ] = None,
    group: Annotated[
        int, typer.Option("--group", min=0, max=64, help="Hosts of a group to try after pairs; 0: pairs alone.")
    ] = 8,
    limit: Annotated[str, typer.Option("--limit", metavar="TIME", help="Time limit of each trial.")] = "15m",
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=4096, help="So many trials of a round at a time.")] = 64,
    again: Annotated[bool, typer.Option("--again", help="Begin anew: what was tried before is dropped.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line, and no messages.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every list to its end.")] = False,
    no_color: options.NoColor = False,
) -> None:
    """Find the host or the link that fails among many.

    Hosts are tried in pairs, then in groups, then all together.

    A trial is `readiness run --host` on one of its hosts, with the checks of several chips. Every result is kept in the
    database at once: a command that was killed goes on. Exits 1 if a host, a link or a group is named, 3 if anything is
    unknown, 0 if all that was tried is right.
    """
    from readiness.engine.remote_hosts import REACH
    from readiness.fleet import store
    from readiness.fleet.links import attribution, summary, trials
    from readiness.rendering import formats

    arguments = list(run_options or ())
    refuse_options(arguments, _OWN_OPTIONS, "fleet links")
    limit_s = options.seconds(limit, "--limit")
    command = REACH if reach is None else reach
    connection = store.open_store(database, create=hosts is not None)
    try:
        names = _hosts(connection, hosts)
        screening_rounds = attribution.SCREENING_ROUNDS if rounds is None else rounds
        plan = attribution.Plan(names, screening_rounds, group)
        _refuse_reach(names, command)
        if _begin(connection, plan, arguments, again):
            with _starter(command, ray) as start:
                trials.run(
                    connection, start, reach=command, limit_s=limit_s, at_once=at_once,
                    on_event=None if quiet else lambda text: options.put_message(f"readiness: {text}"),
                )  # fmt: skip
        between = summary.read(connection)
    finally:
        connection.close()
    assert between is not None
    formats.put(_text(between, quiet=quiet, verbose=verbose, no_color=no_color), sys.stdout)
    raise typer.Exit(_exit_code(between))


def _hosts(connection: sqlite3.Connection, file: Path | None) -> tuple[str, ...]:
    """Return the hosts to try, and have the database expect them. Raises UsageError for fewer than two."""
    from readiness.fleet import store

    set_aside = {
        host for host, state in connection.execute("SELECT host, state FROM expected") if state not in ("expected", "failed")
    }
    if file is None:
        known = {host for (host,) in connection.execute("SELECT host FROM run UNION SELECT host FROM expected")}
        names = sorted(known - set_aside)
    else:
        named = list(expected_hosts(file))
        names = sorted({one.host for one in named if one.state == "expected"})
        known = {host for (host,) in connection.execute("SELECT host FROM expected")}
        store.expect(connection, [one for one in named if one.host not in known])
    if len(names) < 2:
        raise UsageError(
            f"{len(names)} host{'' if len(names) == 1 else 's'} to try", place="--hosts" if file else "fleet links",
            remedy="name two at least, one in a line: --hosts FILE",
        )  # fmt: skip
    return tuple(names)


def _refuse_reach(names: Sequence[str], reach: str) -> None:
    from readiness.engine.remote_hosts import HostOptions

    for start in range(0, len(names), 64):
        HostOptions(tuple(names[start : start + 64]), reach, "127.0.0.1").hosts()


def _begin(connection: sqlite3.Connection, plan: Plan, arguments: Sequence[str], again: bool) -> bool:
    """Return whether there is something to do; begin where nothing was begun. Raises UsageError for another plan."""
    from readiness.fleet.links import trial_store

    known = None if again else trial_store.campaign(connection)
    if known is None:
        trial_store.begin(connection, plan, arguments)
        return True
    if (known.plan, known.arguments) != (plan, tuple(arguments)):
        raise UsageError(
            f"other hosts or options were tried before: {len(known.plan.hosts)} hosts, "
            f"{' '.join(known.arguments) or 'no options'}", place="fleet links",
            remedy="ask for the same, or begin anew: --again",
        )  # fmt: skip
    if known.finished:
        options.put_message("readiness: every round is made; `--again` begins anew")
    return not known.finished


@contextlib.contextmanager
def _starter(reach: str, ray: str | None) -> Iterator[Start]:
    """Yield what starts runs: a command for each host, or a Ray cluster, which is left at the end."""
    from readiness.engine.remote_hosts import HostOptions
    from readiness.fleet.links.remote_client import RemoteRun

    def start(host: str, arguments: Sequence[str], limit_s: float) -> RemoteRun:
        (reached,) = HostOptions((host,), reach, "127.0.0.1").hosts()
        return RemoteRun(host, reached.command, arguments, limit_s)

    if ray is None:
        yield start
        return
    from readiness.fleet.links.ray_start import RayStart

    by_ray = RayStart(ray)
    try:
        yield by_ray
    finally:
        by_ray.close()


def _text(between: LinksSummary, *, quiet: bool, verbose: bool, no_color: bool) -> str:
    from readiness import rendering
    from readiness.fleet.links import reports, summary
    from readiness.rendering import formats

    if quiet:
        return summary.in_short(between) + "\n"
    paint = rendering.painter(options.colour_for(sys.stdout.isatty(), no_color))
    width = formats.columns(sys.stdout) or formats.WIDEST
    return "\n".join(reports.lines(between, paint, width, None if verbose else 12)) + "\n"


def _exit_code(between: LinksSummary) -> Exit:
    from readiness.fleet.links import summary

    styles = {style for style, _ in summary.sentences(between)}
    if "bad" in styles:
        return Exit.NOT_READY
    return Exit.UNDETERMINED if "open" in styles else Exit.READY
