"""`readiness run`: assess this machine's accelerators."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readiness.cli import common, completion
from readiness.errors import Exit, InterruptedRunError, UsageError

if TYPE_CHECKING:
    from readiness.journal import Journal
    from readiness.model import AcceleratorFacts, Assessment
    from readiness.runner import Request


def run(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", "-p", metavar="NAME|FILE", help="What is required. [default: general]",
            autocompletion=completion.profile,
        ),
    ] = None,
    use: common.Uses = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device", "-d", metavar="SPEC",
            help="cpu, cuda, cuda:0, sim:CHIP, sim:FILE (repeatable). Default: all accelerators, else the CPU.",
            autocompletion=completion.device,
        ),
    ] = None,
    expression: common.Expression = None,
    within: Annotated[
        str | None, typer.Option("--within", metavar="TIME", help="Choose checks by their cost, end by then: 50s, 5m, 1h.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only the checks behind what failed or stayed unknown in the last run.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="DIR", parser=common.path,
            help="Keep the journal there, and go on with the run that it holds.",
        ),
    ] = None,
    checks: common.ChecksFolders = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Time limit of each check in place of its own.")
    ] = None,
    soak: Annotated[
        str | None,
        typer.Option("--soak", metavar="TIME", help="Load all chips for so long, every result checked: 60s, 24h, 7d."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Repeat a run's random data. [default: a new one]")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="A further host, whose accelerators join in (repeatable)."),
    ] = None,
    reach: Annotated[
        str | None,
        typer.Option(
            "--reach", metavar="COMMAND", help="What starts Python there. [default: ssh -o BatchMode=yes {host} {python}]"
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Of this host, in the network of all hosts.")
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option("--shared", metavar="DIR", parser=common.path, help="A folder that all hosts see, for checkpoints."),
    ] = None,
    waivers: common.Waivers = None,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Then rehearse the same checks on simulated chips: what could they see that day?"),
    ] = False,
    fail_on: common.FailOnOption = common.FailOn.MUST,
    formats: common.Formats = None,
    quiet: common.Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what each check measured, on stderr.")] = False,
    no_color: common.NoColor = False,
) -> None:
    """Assess this machine's accelerators against a profile: a verdict and a score for training and for inference."""
    from readiness import console, runner
    from readiness.journal import Journal
    from readiness.state import new_run_folder, prune_runs

    requests = common.requests_of(formats)
    common.add_checks(checks)
    if rehearse and within is not None:
        raise UsageError(
            "a rehearsal takes its own time, which nobody can grant before",
            place="--rehearse with --within",
            remedy="leave one of them out, or run `readiness rehearse` by itself",
        )
    asked = {
        "profile": _absolute(profile),
        "uses": [item.value for item in use or ()],
        "devices": list(device or ()),
        "expression": expression,
        "within_s": None if within is None else seconds(within, "--within"),
        "timeout_s": None if timeout is None else seconds(timeout, "--timeout"),
        "soak_s": None if soak is None else seconds(soak, "--soak"),
        "seed": seed,
        "failed": failed,
        "rehearse": rehearse,
        "hosts": list(host or ()),
        "reach": reach,
        "address": address,
        "shared": None if shared is None else os.path.realpath(shared),
    }
    told = [name for name in ("reach", "address", "shared") if asked[name] is not None]
    if told and not asked["hosts"] and resume is None:
        raise UsageError("it is about other hosts, and none is named", place=f"--{told[0]}", remedy="name them: --host NAME")
    with Journal(resume or new_run_folder()) as journal:
        request = _request(journal, asked, waivers)
        if request.elsewhere and request.shared is None and not quiet:
            text = "recovery is assessed on this host alone: over several it takes a folder that all see (--shared DIR)"
            print(f"readiness: {text}", file=sys.stderr)
        observer = console.observer(request.profile, journal.folder, quiet=quiet, verbose=verbose, no_color=no_color)
        before = len(journal.evidence)
        with observer:
            assessment = runner.run(request, journal, observer)
        if before and journal.appended == 0 and not assessment.interrupted and not quiet:
            text = f"nothing was measured now: this run, which began at {assessment.started}, had come to its end"
            print(f"readiness: {text}", file=sys.stderr)
        _keep(assessment, journal.folder)
        cut_short = False
        if (journal.asked() or {}).get("rehearse") and not assessment.interrupted:
            assessment, cut_short = _rehearsed(request, assessment, quiet=quiet, no_color=no_color)
            _keep(assessment, journal.folder)
        common.tell(assessment, requests, quiet=quiet, no_color=no_color)
        if assessment.interrupted and not quiet:
            print(f"readiness: interrupted; go on with: readiness run --resume {journal.folder}", file=sys.stderr)
    prune_runs()
    if cut_short:
        raise typer.Exit(Exit.INTERRUPTED)
    common.leave(assessment, fail_on)


def _rehearsed(request: Request, assessment: Assessment, *, quiet: bool, no_color: bool) -> tuple[Assessment, bool]:
    """The assessment with what its checks could see that day, and whether somebody stopped the rehearsal."""
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
    """A profile as it can be found again from another folder."""
    return os.path.realpath(profile) if profile and (profile.endswith(".toml") or "/" in profile) else profile


def _request(journal: Journal, asked: dict[str, Any], waivers: Path | None) -> Request:
    """What to run: as asked now, or as the journal says that it was asked when the run began."""
    import secrets

    from readiness import declarations, runner
    from readiness import profile as profiles
    from readiness.model import Use
    from readiness.plan import refuse_what_fits_nothing
    from readiness.state import failed_of_last_run

    earlier = journal.asked()
    if earlier is not None:
        _refuse_contradiction(asked, earlier, journal.folder)
        asked = earlier
    found = declarations.discover()
    profile = profiles.load("general" if asked["profile"] is None else asked["profile"], found)
    uses = common.uses_of(profile, [Use(use) for use in asked["uses"]])
    if asked["expression"]:
        refuse_what_fits_nothing(asked["expression"], profile, found)
    began = time.monotonic()
    elsewhere = _elsewhere(asked, journal, begun=earlier is not None)
    if earlier is None:
        asked = asked | {"seed": secrets.randbelow(2**31) if asked["seed"] is None else asked["seed"]}
        asked["only"] = sorted(failed_of_last_run(profile)) if asked["failed"] else None
        asked["sha256"] = profile.sha256
    elif asked["sha256"] != profile.sha256:
        raise UsageError(
            f"the profile {profile.name} has changed since this run began",
            place=str(journal.folder),
            remedy="begin a new run, or finish it with the profile as it was",
        )
    request = runner.Request(
        profile=profile,
        checklist=found,
        uses=uses,
        devices=tuple(asked["devices"]),
        expression=asked["expression"],
        within_s=None if asked["within_s"] is None else max(asked["within_s"] - (time.monotonic() - began), 1.0),
        timeout_s=asked["timeout_s"],
        soak_s=asked.get("soak_s"),  # a run that an earlier version began knows none
        seed=asked["seed"],
        only=None if asked["only"] is None else frozenset((accelerator, check) for accelerator, check in asked["only"]),
        waivers=common.read_waivers(waivers, profile),
        elsewhere=elsewhere,
        shared=None if asked.get("shared") is None else Path(asked["shared"]),
    )
    if earlier is None:
        asked["elsewhere"] = _identities(elsewhere)
        journal.ask(asked)
    journal.open()
    return request


def _elsewhere(asked: dict[str, Any], journal: Journal, *, begun: bool) -> tuple[AcceleratorFacts, ...]:
    """The accelerators of other hosts: of a run that was begun the same ones as then."""
    if not asked.get("hosts"):
        return ()
    from readiness.discovery import LIMIT_S
    from readiness.hosts import REACH, Joining, join

    shared = None if asked["shared"] is None else Path(asked["shared"])
    joining = Joining(tuple(asked["hosts"]), asked["reach"] or REACH, asked["address"], shared)
    found = join(joining) if asked["within_s"] is None else join(joining, min(LIMIT_S, asked["within_s"] * 0.6))
    if begun and _identities(found) != asked["elsewhere"]:
        raise UsageError(
            "the other hosts no longer have the accelerators that this run began with",
            place=str(journal.folder),
            remedy="begin a new run: evidence of different machines makes no assessment",
        )
    return found


def _identities(elsewhere: tuple[AcceleratorFacts, ...]) -> list[list[str | None]]:
    return [[facts.id, facts.stack, facts.model, facts.serial] for facts in elsewhere]


def _refuse_contradiction(asked: dict[str, Any], earlier: dict[str, Any], folder: Path) -> None:
    for name, value in asked.items():
        if value is not None and value is not False and value != [] and value != earlier.get(name):
            raise UsageError(
                f"the run that it holds was begun with {name} = {earlier.get(name)!r}, not {value!r}",
                place=f"--resume {folder}",
                remedy="leave the other options out when a run goes on, or name another folder",
            )


def _keep(assessment: Assessment, folder: Path) -> None:
    """Leave the assessment beside its journal, for `--failed`, `judge` and `report`."""
    from readiness.assessment import dumps, to_json
    from readiness.files import write_atomically
    from readiness.state import remember_last

    try:
        write_atomically(folder / "assessment.json", dumps(to_json(assessment)))
    except OSError as problem:  # it is told all the same
        text = f"readiness: the assessment could not be kept in {folder}: {problem.strerror or problem}"
        print(f"{text}\n  remedy: free it, and tell the run again with --resume {folder}", file=sys.stderr)
        return
    if not assessment.interrupted:
        remember_last(folder)


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str, flag: str) -> float:
    """A length of time like 50, 50s, 1.5m, 2h. Raises UsageError."""
    number = text.rstrip("smindh")
    unit = text[len(number) :]
    try:
        value = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        value = -1.0
    if not 0 < value <= 366 * 86400:
        raise UsageError(f"{text!r} is no length of time", place=flag, remedy="write it like 50s, 5m or 2h")
    return value
