"""`readiness rehearse`: which planted defects of simulated chips the checks detect."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readiness.cli import completion, options
from readiness.cli.check_folders import add_checks
from readiness.errors import Exit, UsageError
from readiness.host.runqueue_wait import usable_cores

if TYPE_CHECKING:
    from readiness.datamodel import Assessment
    from readiness.engine.runner import Request as RunRequest
    from readiness.rehearsal import Rehearsal

_LARGEST_SEED = 2**31 - 1


def rehearse(
    profile: Annotated[
        str,
        typer.Option(
            "--profile", "-p", metavar="NAME|FILE", help="The profile: its checks are rehearsed, its bounds judge.",
            autocompletion=completion.profile,
        ),
    ] = "general",
    chip: Annotated[
        list[str] | None,
        typer.Option(
            "--chip", metavar="NAME|FILE|GLOB",
            help="Simulated chips (repeatable). Default: all chips with one planted defect.",
            autocompletion=completion.chip,
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=0, max=10_000, help="Number of runs on healthy chips, each with its own seed.")
    ] = 3,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=_LARGEST_SEED, help="The first seed. [default: a new one]")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Run all checks on every chip with a defect, not only the checks that claim it.")
    ] = False,
    expression: options.Expression = None,
    checks: options.ChecksFolders = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Time limit for each check, instead of its own.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, max=256, help="Number of parallel jobs. [default: the usable cores]")
    ] = None,
    kinds: Annotated[
        bool, typer.Option("--kinds", help="List the kinds of defects and the checks that claim them; run nothing.")
    ] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", metavar="FORMAT[=FILE]", help="table, json, markdown or html, into FILE (repeatable).",
            autocompletion=completion.rehearsal_format,
        ),
    ] = None,
    quiet: options.Quiet = False,
    no_color: options.NoColor = False,
) -> None:
    """Try the checks on simulated chips with planted defects.

    Does every check catch the defects that it claims, without false alarms?

    Exit codes: 0 yes, 1 a claimed defect was missed or a healthy chip failed, 3 nothing could be rehearsed, no chosen
    check has met any of the defects, or what would show one of them could not be measured. These are rehearsals of
    reported trouble, not measurements of a product.
    """
    import secrets

    from readiness import rehearsal
    from readiness.engine import check_declarations
    from readiness.profile import loader as profiles
    from readiness.rehearsal import formats as rehearsal_formats
    from readiness.rehearsal.seeded_faults import selection

    add_checks(checks)
    if kinds:
        _print_kinds(formats)
        return
    requests = rehearsal_formats.requests(formats or ())
    found = check_declarations.discover()
    chosen = profiles.load(profile, found)
    first = secrets.randbelow(2**31) if seed is None else seed
    request = rehearsal.Request(
        profile=chosen,
        checklist=found,
        selection=selection(chip or ()),
        uses=chosen.uses,
        seed=first,
        seeds=tuple((first + number) % 2**31 for number in range(seeds)),
        full=full,
        expression=expression,
        timeout_s=None if timeout is None else options.seconds(timeout, "--timeout"),
        jobs=jobs or usable_cores(),
    )
    done = _rehearse(request, quiet=quiet, no_color=no_color)
    colour = options.colour_for(sys.stdout.isatty(), no_color)
    rehearsal_formats.write_all(requests, done, quiet=quiet, colour=colour, stdout=sys.stdout)
    raise typer.Exit(Exit.INTERRUPTED if done.interrupted else done.result.exit())


def after(request: RunRequest, assessment: Assessment, *, quiet: bool, no_color: bool) -> Rehearsal | None:
    """Rehearse for `run --rehearse`: the checks that ran, the planted defects that they claim, one healthy run.

    None where nothing ran.
    """
    from readiness import rehearsal
    from readiness.rehearsal.plan import only_claimed
    from readiness.rehearsal.seeded_faults import selection

    ran = {item.check for one in assessment.accelerators for item in one.evidence if item.attempts}
    if not ran:
        return None
    wanted = rehearsal.Request(
        profile=request.profile,
        checklist=request.checklist,
        selection=selection(),
        uses=request.uses,
        seed=request.seed,
        seeds=(request.seed,),
        timeout_s=request.timeout_s,
        jobs=usable_cores(),
    )
    return _rehearse(only_claimed(wanted, ran), quiet=quiet, no_color=no_color)


def _rehearse(request: Any, *, quiet: bool, no_color: bool) -> Rehearsal:
    from readiness import rehearsal
    from readiness.cli.options import is_colour_refused
    from readiness.rehearsal import progress

    title = f"rehearsal of {request.profile.name}, {len(request.selection.faults)} planted defects"
    with progress.observer(title, quiet=quiet, no_color=is_colour_refused(no_color)) as observer:
        return rehearsal.rehearse(request, observer)


def _print_kinds(formats: list[str] | None) -> None:
    """Print the kinds of defects as a table or as JSON: who claims them, and the planted chips, with what these expect."""
    from readiness.engine import check_declarations
    from readiness.rehearsal.seeded_faults import selection
    from readiness.simulator.faults import kinds as known

    if formats not in (None, [], ["table"], ["json"]):
        raise UsageError("kinds are shown as a table or as json", place="--kinds", remedy="omit -f, or use -f json")
    found = check_declarations.discover().values()
    planted = selection().faults
    rows: list[dict[str, Any]] = [
        {
            "kind": name,
            "summary": kind.summary,
            "severity": kind.severity,
            "unit": kind.unit,
            "claimed_by": [check.id for check in found if name in check.catches],
            "planted": [
                {"chip": fault.name, "expected": list(fault.defect.expected)} for fault in planted if fault.kind.name == name
            ],
        }
        for name, kind in known().items()
    ]
    if formats == ["json"]:
        from readiness.documents.assessment import dumps

        options.put(dumps({"kinds": rows}))
        return
    from readiness.rendering import figure, wrap

    lines = []
    for row in rows:
        severity = "" if row["unit"] == "1" else f"  ({figure(row['severity'])} {row['unit']})"
        lines.append(f"{row['kind']}{severity}")
        lines += wrap(row["summary"], 100, first="  ")
        lines += wrap(f"claimed by {', '.join(row['claimed_by']) or 'no check'}", 100, first="  ", rest="    ")
        expected = [f"{one['chip']} ({', '.join(one['expected']) or 'whoever claims it'})" for one in row["planted"]]
        lines += wrap(f"planted in {', '.join(expected) or 'no chip'}", 100, first="  ", rest="    ")
    options.put("\n".join(lines))
