"""`readiness run`: assess this machine's accelerators."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readiness.cli import completion, options
from readiness.cli.check_folders import add_checks
from readiness.errors import Exit, InterruptedRunError, UsageError

if TYPE_CHECKING:
    from readiness.datamodel import AcceleratorFacts, Assessment
    from readiness.engine.journal import Journal
    from readiness.engine.runner import Request
    from readiness.rendering.formats import Request as Formats


def run(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", "-p", metavar="NAME|FILE", help="The profile to judge by. [default: general]",
            autocompletion=completion.profile,
        ),
    ] = None,
    use: options.Uses = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device", "-d", metavar="SPEC",
            help="cpu, cuda, cuda:0, sim:CHIP, sim:FILE (repeatable). Default: all accelerators, else the CPU.",
            autocompletion=completion.device,
        ),
    ] = None,
    expression: options.Expression = None,
    within: Annotated[
        str | None,
        typer.Option("--within", metavar="TIME", help="Time budget: choose checks by cost and stop in time: 50s, 5m, 1h."),
    ] = None,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="Run only what failed or was unknown in the last run; reuse what passed."),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="DIR", parser=options.path,
            help="Keep the journal in DIR, and continue the run that it contains.",
        ),
    ] = None,
    checks: options.ChecksFolders = None,
    exporter: options.Exporters = None,
    remote_exporter: options.RemoteExporter = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Time limit for each check, instead of its own.")
    ] = None,
    soak: Annotated[
        str | None,
        typer.Option("--soak", metavar="TIME", help="Load all chips for this long, every result checked: 60s, 24h, 7d."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of the random data. [default: a new one]")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="Another host whose accelerators take part (repeatable)."),
    ] = None,
    reach: Annotated[
        str | None,
        typer.Option(
            "--reach", metavar="COMMAND",
            help="Command that starts Python there. [default: ssh -o BatchMode=yes {host} {python}]",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="ADDRESS", help="Address of this host, in the network of all hosts."),
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option("--shared", metavar="DIR", parser=options.path, help="A folder shared by all hosts, for checkpoints."),
    ] = None,
    waivers: options.Waivers = None,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Then rehearse the same checks on simulated chips: what can they detect?"),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", metavar="FILE", parser=options.path,
            help="Compare the run with a baseline (or an earlier run): exit code 1 for a regression, 3 if undetermined.",
        ),
    ] = None,
    fail_on: options.FailOnOption = options.FailOn.MUST,
    exit_style: options.ExitStyleOption = options.ExitStyle.READINESS,
    formats: options.Formats = None,
    quiet: options.Quiet = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what each check measured, and the whole table at the end.")
    ] = False,
    no_color: options.NoColor = False,
) -> None:
    """Assess this machine's accelerators against a profile. Gives verdict and score for training and for inference."""
    from readiness.cli import progress
    from readiness.engine import runner
    from readiness.engine.journal import Journal
    from readiness.engine.run_store import new_run_folder, prune_runs

    requests = options.requests_of(formats)
    held_against = None if baseline is None else _held_against(baseline, quiet=quiet)
    add_checks(checks)
    options.use_exporters(exporter, remote_exporter)
    if rehearse and within is not None:
        raise UsageError(
            "a rehearsal cannot be given a time",
            place="--rehearse with --within",
            remedy="omit one of them, or run `readiness rehearse` separately",
        )
    requested = {
        "profile": _absolute(profile),
        "uses": [item.value for item in use or ()],
        "devices": list(device or ()),
        "expression": expression,
        "within_s": None if within is None else options.seconds(within, "--within"),
        "timeout_s": None if timeout is None else options.seconds(timeout, "--timeout"),
        "soak_s": None if soak is None else options.seconds(soak, "--soak"),
        "seed": seed,
        "failed": failed,
        "rehearse": rehearse,
        "hosts": list(host or ()),
        "reach": reach,
        "address": address,
        "shared": None if shared is None else os.path.realpath(shared),
    }
    given = [name for name in ("reach", "address", "shared") if requested[name] is not None]
    if given and not requested["hosts"]:
        raise UsageError("it needs other hosts, and none is named", place=f"--{given[0]}", remedy="name them: --host NAME")
    with Journal(resume or new_run_folder()) as journal:
        request = _request(journal, requested, waivers)
        if request.elsewhere and request.shared is None and not quiet:
            text = "recovery is assessed on this host alone: several hosts need a shared folder (--shared DIR)"
            options.put_message(f"readiness: {text}")
        observer = progress.observer(request, journal.folder, quiet=quiet, verbose=verbose, no_color=no_color)
        before = len(journal.evidence)
        with observer:
            assessment = runner.run(request, journal, observer)
        if before and journal.appended == 0 and not assessment.interrupted and not quiet:
            text = f"nothing was measured: the run that began at {assessment.started} was already complete"
            options.put_message(f"readiness: {text}")
        kept = _keep(assessment, journal.folder)
        cut_short = False
        if (journal.saved_request() or {}).get("rehearse") and not assessment.interrupted:
            assessment, cut_short = _rehearsed(request, assessment, quiet=quiet, no_color=no_color)
            kept = _keep(assessment, journal.folder)
        options.write_reports(
            assessment, requests, quiet=quiet, no_color=no_color, fail_on=fail_on,
            usual="table" if verbose else "summary", hints=_hints(journal.folder) if kept else {},
            verbose=verbose,
        )  # fmt: skip
        if assessment.interrupted and not quiet:
            further = _of_other_hosts(requested)
            options.put_message(f"readiness: interrupted; continue with: readiness run --resume {journal.folder}{further}")
    prune_runs()
    least = Exit.READY if held_against is None else held_against(assessment, requests, no_color)
    if cut_short:
        raise typer.Exit(options.interrupted(exit_style))
    options.leave(assessment, fail_on, exit_style, least=Exit.READY if fail_on is options.FailOn.NEVER else least)


def _held_against(file: Path, *, quiet: bool) -> Callable[[Assessment, Sequence[Formats], bool], Exit]:
    """Return a function from a finished run to its difference from a baseline and the exit code.

    The file is read now, before hours of measuring.
    """
    from readiness.cli.diff import known_directions, read_reference, report_difference

    directions = known_directions()
    reference = read_reference(file, directions, quiet=quiet)

    def write_reports(assessment: Assessment, requests: Sequence[Formats], no_color: bool) -> Exit:
        from readiness.comparison.changes import compare

        difference = compare(reference, assessment, directions, title="this run")
        if not quiet:
            taken = any(request.file is None for request in requests)  # stdout has a report that a program may read
            report_difference(difference, [], quiet=False, verbose=False, no_color=no_color, errors=taken)
        return difference.exit_code

    return write_reports


def _rehearsed(request: Request, assessment: Assessment, *, quiet: bool, no_color: bool) -> tuple[Assessment, bool]:
    """Return the assessment with its rehearsal, and whether the rehearsal was interrupted."""
    from dataclasses import replace

    from readiness.cli.rehearse import after
    from readiness.rehearsal.document import for_assessment

    try:
        done = after(request, assessment, quiet=quiet, no_color=no_color)
    except InterruptedRunError:
        return assessment, True
    if done is None:
        return assessment, False
    return replace(assessment, rehearsal=for_assessment(done)), done.interrupted


def _absolute(profile: str | None) -> str | None:
    """Return a profile's name or absolute path, valid from another folder."""
    return os.path.realpath(profile) if profile and (profile.endswith(".toml") or "/" in profile) else profile


def _request(journal: Journal, requested: dict[str, Any], waivers: Path | None) -> Request:
    """Return the request: from the command line, or from the journal of a run that is continued."""
    import secrets

    from readiness.datamodel import Use
    from readiness.engine import check_declarations, last_run, runner
    from readiness.engine.plan import refuse_what_fits_nothing
    from readiness.host.identity import identity
    from readiness.profile import loader as profiles
    earlier = journal.saved_request()
    if earlier is not None:
        _refuse_contradiction(requested, earlier, journal.folder)
        # A command, and whom it reaches, comes from the command line alone: a folder may have come from anybody.
        requested = earlier | {name: requested[name] for name in _HOST_OPTIONS}
    found = check_declarations.discover()
    profile = profiles.load("general" if requested["profile"] is None else requested["profile"], found)
    uses = options.uses_of(profile, [Use(use) for use in requested["uses"]])
    if requested["expression"]:
        refuse_what_fits_nothing(requested["expression"], profile, found)
    began = time.monotonic()
    elsewhere = _elsewhere(requested, journal, begun=earlier is not None)
    last = None
    if earlier is None:
        requested = requested | {
            "only": None, "sha256": profile.sha256, "elsewhere": _identities(elsewhere), "machine": identity(),
        }  # fmt: skip
        if requested["failed"]:
            last = last_run.load(profile, uses, requested)
            requested |= {"only": last.wanted(), "seed": last.seed, "soak_s": requested["soak_s"] or last.soak_s}
        elif requested["seed"] is None:
            requested["seed"] = secrets.randbelow(2**31)
    elif requested["sha256"] != profile.sha256:
        raise UsageError(
            f"the profile {profile.name} has changed since this run began",
            place=str(journal.folder),
            remedy="start a new run, or finish this one with the unchanged profile",
        )
    request = runner.Request(
        profile=profile,
        checklist=found,
        uses=uses,
        devices=tuple(requested["devices"]),
        expression=requested["expression"],
        within_s=None if requested["within_s"] is None else max(requested["within_s"] - (time.monotonic() - began), 1.0),
        timeout_s=requested["timeout_s"],
        soak_s=requested.get("soak_s"),  # a run that an earlier version began knows none
        seed=requested["seed"],
        only=None if requested["only"] is None else frozenset((device, check) for device, check in requested["only"]),
        waivers=options.read_waivers(waivers, profile),
        elsewhere=elsewhere,
        shared=None if requested.get("shared") is None else Path(requested["shared"]),
        last=last,
    )
    if earlier is None:
        journal.save_request(requested)
    journal.open()
    return request


def _elsewhere(requested: dict[str, Any], journal: Journal, *, begun: bool) -> tuple[AcceleratorFacts, ...]:
    """Return the accelerators of other hosts; a continued run must find the same ones."""
    if not requested.get("hosts"):
        return ()
    from readiness.engine.discovery import LIMIT_S
    from readiness.engine.remote_hosts import REACH, HostOptions, discover_remote

    shared = None if requested["shared"] is None else Path(requested["shared"])
    host_options = HostOptions(tuple(requested["hosts"]), requested["reach"] or REACH, requested["address"], shared)
    limit_s = LIMIT_S if requested["within_s"] is None else min(LIMIT_S, requested["within_s"] * 0.6)
    found = discover_remote(host_options, limit_s)
    if begun and _identities(found) != requested.get("elsewhere"):
        raise UsageError(
            "the other hosts no longer have the accelerators that this run started with",
            place=str(journal.folder),
            remedy="start a new run: evidence of different machines cannot be combined",
        )
    return found


def _identities(elsewhere: tuple[AcceleratorFacts, ...]) -> list[list[str | None]]:
    return [[facts.id, facts.stack, facts.model, facts.serial] for facts in elsewhere]


#: Options of a run about other hosts.
_HOST_OPTIONS = ("hosts", "reach", "address", "shared")


def _of_other_hosts(requested: dict[str, Any]) -> str:
    """Return the options about other hosts, for the command that continues the run."""
    flags = [("--host", name) for name in requested["hosts"]]
    flags += [(f"--{name}", requested[name]) for name in _HOST_OPTIONS[1:] if requested[name] is not None]
    return "".join(f" {flag} {shlex.quote(value)}" for flag, value in flags)


def _refuse_contradiction(requested: dict[str, Any], earlier: dict[str, Any], folder: Path) -> None:
    if any(earlier.get(name) and not requested[name] for name in _HOST_OPTIONS):
        raise UsageError(
            "the run in it was started with other hosts, and commands are never read from a file",
            place=f"--resume {folder}",
            remedy="repeat --host, and --reach, --address and --shared if they were given, as at the start",
        )
    for name, value in requested.items():
        if value is not None and value is not False and value != [] and value != earlier.get(name):
            raise UsageError(
                f"the run in it was started with {name} = {earlier.get(name)!r}, not {value!r}",
                place=f"--resume {folder}",
                remedy="omit the other options to continue a run, or name another folder",
            )


def _keep(assessment: Assessment, folder: Path) -> bool:
    """Save the assessment beside its journal, for `--failed`, `judge` and `report`. Return whether it was saved."""
    from readiness.documents.assessment import dumps, to_json
    from readiness.documents.files import OWN_MODE, write_atomically
    from readiness.engine.run_store import remember_last

    try:
        write_atomically(folder / "assessment.json", dumps(to_json(assessment)), mode=OWN_MODE)
    except OSError as problem:  # it is told all the same
        text = f"readiness: the assessment could not be saved in {folder}: {problem.strerror or problem}"
        options.put_message(f"{text}\n  remedy: check disk space, and write the report again with --resume {folder}")
        return False
    remember_last(folder, interrupted=assessment.interrupted)
    return True


def _hints(folder: Path) -> dict[str, str]:
    """Return where the assessment is saved and further commands."""
    file = folder.resolve() / "assessment.json"
    shown = str(file)
    with contextlib.suppress(ValueError, RuntimeError):  # elsewhere; nobody's home
        shown = f"~/{file.relative_to(Path.home())}"
    hints = {"saved": shown}
    hints["more"] = "readiness report"
    hints["explain"] = "readiness explain REQUIREMENT"
    return hints
