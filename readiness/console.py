"""How a run goes, on stderr: a living display on a terminal, plain lines elsewhere, nothing with `-q`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readiness import judge
from readiness.model import AcceleratorFacts, Evidence, Level, Outcome, Profile, Status
from readiness.telling import clean, measured, names, simulated

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.live import Live

    from readiness.plan import Job
    from readiness.worker_process import Worker


class Silent:
    """Says nothing. Base of the others."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put away."""

    def looking(self) -> None:
        """See `readiness.runner.Observer`."""

    def planned(self, accelerators: Sequence[AcceleratorFacts], jobs: Sequence[Job], done: int) -> None:
        """See `readiness.runner.Observer`."""

    def started(self, job: Job, attempt: int) -> None:
        """See `readiness.runner.Observer`."""

    def running(self, jobs: Sequence[tuple[Job, Worker]]) -> None:
        """See `readiness.runner.Observer`."""

    def finished(self, job: Job, evidence: Evidence) -> None:
        """See `readiness.runner.Observer`."""


class Told(Silent):
    """Says what happens through rich: the same words with and without a terminal."""

    def __init__(self, profile: Profile, folder: Path, *, verbose: bool, console: RichConsole, moving: bool = True) -> None:
        self.profile = profile
        self.folder = folder
        self.verbose = verbose
        self.console = console
        self.moving = moving
        self.total = self.done = self.problems = 0
        self.began = time.monotonic()
        self.live: Live | None = None
        self.bar: Any = None

    def __enter__(self) -> Told:
        if self.moving and self.console.is_terminal and not self.console.is_dumb_terminal:
            from rich.live import Live

            self.live = Live(console=self.console, refresh_per_second=8, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def looking(self) -> None:
        """Starting and looking take a few seconds: say so."""
        if self.live is not None:
            self.live.update("looking for accelerators ...")

    def planned(self, accelerators: Sequence[AcceleratorFacts], jobs: Sequence[Job], done: int) -> None:
        """Who is under test, how much there is to do, and where the journal is."""
        self.total, self.done = len(jobs), done
        under_test: dict[str, list[str]] = {}
        for facts in accelerators:
            under_test.setdefault(_introduced(facts), []).append(facts.id)
        who = ", ".join(f"{names(ids)} ({what})" for what, ids in under_test.items())
        seconds = sum(job.typical_s for job in jobs)
        about = f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"
        self._say(f"{who}: {self.profile.name}, {len(jobs)} check{'s' if len(jobs) != 1 else ''}, {about}", style="bold")
        if done:
            self._say(f"{done} of them were done before")
        if self.verbose:
            self._say(f"journal: {self.folder}")

    def started(self, job: Job, attempt: int) -> None:
        """A second try is worth a line."""
        if attempt > 1:
            self._say(f"{_where(job)}  {job.check.id}: no end within its limit; once more with a longer one", style="yellow")

    def running(self, jobs: Sequence[tuple[Job, Worker]]) -> None:
        """What runs, on what, how long."""
        if self.live is None:
            return
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for job, worker in jobs:
            seconds = f"{worker.seconds:.0f} s" if worker.ready else "starting"
            table.add_row("  ", _where(job), job.check.id, seconds, clean(worker.note)[:50])
        found = f", {self.problems} not met so far" if self.problems else ""
        table.add_row("", "", f"{self.done} of {self.total} done{found}", f"{time.monotonic() - self.began:.0f} s", "")
        self.live.update(table)

    def finished(self, job: Job, evidence: Evidence) -> None:
        """One line a check, and one for each requirement that it shows to be unmet."""
        self.done += 1
        width = len(str(self.total))
        style = "" if evidence.status is Status.MEASURED else "yellow"
        reason = f"  {clean(evidence.reason)}" if evidence.reason else ""
        self._say(
            f"[{self.done:{width}}/{self.total}] {_where(job)}  {job.check.id:26} {evidence.status.value:9}"
            f" {evidence.seconds:6.1f} s{reason}",
            style=style,
        )
        if self.verbose:
            for item in evidence.measurements:
                labels = clean(" ".join(f"{key}={value}" for key, value in item.labels.items()))
                self._say(f"         {item.name} = {item.value:.6g} {item.unit}  {labels}")
        for line, level in self._unmet(job, evidence):
            self.problems += 1
            self._say(f"         not met: {line}", style="red" if level is Level.MUST else "yellow")

    def _unmet(self, job: Job, evidence: Evidence) -> list[tuple[str, Level]]:
        result = judge.judge(self.profile, job.accelerators[0], [evidence], chips=len(job.accelerators))
        lines: dict[str, tuple[str, Level]] = {}
        for finding in result.findings:
            if finding.check == evidence.check and finding.outcome is Outcome.FAIL:
                lines[finding.requirement] = f"{finding.requirement} ({finding.level}): {measured(finding)}", finding.level
        return list(lines.values())

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _introduced(facts: AcceleratorFacts) -> str:
    model = clean(facts.model or "unknown model")
    return f"simulated, {model}" if simulated(facts) and "simulated" not in model.casefold() else model


def _where(job: Job) -> str:
    first = job.accelerators[0].id
    return first if len(job.accelerators) == 1 else f"{first}+{len(job.accelerators) - 1}"


def observer(profile: Profile, folder: Path, *, quiet: bool, verbose: bool, no_color: bool) -> Silent:
    """Who tells how the run goes."""
    if quiet:
        return Silent()
    from rich.console import Console

    console = Console(stderr=True, no_color=True if is_colour_refused(no_color) else None)
    # A pipeline may ask for colours (FORCE_COLOR), which rich takes for a terminal; what moves would fill its log.
    return Told(profile, folder, verbose=verbose, console=console, moving=sys.stderr.isatty())


def is_colour_refused(no_color: bool) -> bool:
    """Whether the user wants no colours: `--no-color`, or a NO_COLOR that is not empty."""
    return no_color or bool(os.environ.get("NO_COLOR"))
