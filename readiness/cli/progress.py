"""Progress of a run on stderr: a live display on a terminal, plain lines elsewhere, nothing with `-q`."""

from __future__ import annotations

import datetime
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from readiness.cli.live_findings import LiveFindings, Unmet, count
from readiness.cli.options import is_colour_refused
from readiness.cli.remaining_time import Remaining
from readiness.datamodel import AcceleratorFacts, Evidence, Level, Profile, Status, Use, Waiver
from readiness.engine.runner import Observer
from readiness.host.runqueue_wait import usable_cores
from readiness.judging.host_load import in_words, measured_while_busy
from readiness.rendering import Kind, clean, cut, figure, names, roughly, simulated, visible, width, wrap

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from readiness.engine.plan import Job
    from readiness.engine.runner import Request
    from readiness.isolation.worker_process import Worker

Key = tuple[str, str]
_INDENT = " " * 9
_BAR_COLUMNS = 24
#: A text with fewer columns than this behind what its line begins with gets lines of its own.
_LEAST_COLUMNS = 20
#: What is left is reckoned anew so often, in seconds, and with many accelerators for no more than this share of the time.
_ESTIMATE_EVERY_S = 1.0
_MOST_FOR_ESTIMATES = 0.05
_TIMED = re.compile(r"^(?:s|ms|us|min)$|/s$")


class ProgressDisplay(Observer):
    """Observer that prints through rich: the same text with and without a terminal."""

    def __init__(
        self,
        profile: Profile,
        folder: Path,
        *,
        verbose: bool,
        console: RichConsole,
        moving: bool = True,
        uses: Sequence[Use] | None = None,
        waivers: Sequence[Waiver] = (),
        within_s: float | None = None,
    ) -> None:
        self.profile = profile
        self.folder = folder
        self.verbose = verbose
        self.console = console
        self.on_screen = moving and console.is_terminal
        self.moving = self.on_screen and not console.is_dumb_terminal
        self.within_s = within_s
        self.total = self.done = 0
        self.began = time.monotonic()
        self.live: Live | None = None
        self.findings = LiveFindings(profile, uses, waivers, datetime.datetime.now(datetime.UTC).date().isoformat())
        self.remaining = Remaining((), 1)
        self._estimated_end = self._next_estimate_at = 0.0  # when all will be done, and when to reckon that anew
        self._begun: dict[Key, float] = {}
        self._too_busy: set[str] = set()  # the checks of which that has been said

    def __enter__(self) -> ProgressDisplay:
        if self.moving:
            from rich.live import Live

            self.live = Live(console=self.console, refresh_per_second=8, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._show(self.findings.rest())
        if self.live is not None:
            self.live.stop()
        if self.total and self.on_screen:
            self._print("")  # what comes next on this terminal is the result

    def looking(self) -> None:
        """Show that the search for accelerators has started: it takes a few seconds."""
        if self.live is not None:
            self.live.update("looking for accelerators ...")

    def planned(self, accelerators: Sequence[AcceleratorFacts], jobs: Sequence[Job], known: Mapping[Key, Evidence]) -> None:
        """Print the accelerators under test, the number of checks, what is left out, and the journal's folder."""
        selected = [job for job in jobs if job.left_out is None]
        self.total, self.done = len(selected), len(known)
        self.findings.plan(accelerators, selected, known.keys())
        self.remaining = Remaining((job for job in selected if job.key not in known), usable_cores())
        under_test: dict[str, list[str]] = {}
        for facts in accelerators:
            under_test.setdefault(_introduced(facts), []).append(facts.id)
        who = ", ".join(f"{names(ids)} ({what})" for what, ids in under_test.items())
        checks = f"{len(selected)} check{'s' if len(selected) != 1 else ''}"
        left_out = Counter(job.cause.option for job in jobs if job.cause is not None and job.cause.option)
        away = f"; left out: {', '.join(f'{number} by {option}' for option, number in left_out.items())}" if left_out else ""
        self._print(f"{who}: {self.profile.name}, {checks}, about {roughly(self.remaining.seconds())}{away}", style="bold")
        earlier = [evidence.earlier for evidence in known.values() if evidence.earlier is not None]
        if earlier:
            self._print(f"{len(earlier)} of them are reused from the run of {earlier[0]}")
        if len(known) > len(earlier):
            self._print(f"{len(known) - len(earlier)} of them were already done")
        if self.verbose:
            self._print(f"journal: {self.folder}")

    def started(self, job: Job, attempt: int) -> None:
        """Note the start of a job; print a line for a second try."""
        self._begun[job.key] = time.monotonic()
        if attempt > 1:
            self._print(f"{_where(job)}  {job.check.id}: time limit exceeded; second try with a longer one", "yellow")

    def running(self, jobs: Sequence[tuple[Job, Worker]]) -> None:
        """Update the live display: running jobs, a bar, and the remaining time."""
        if self.live is None:
            return
        from rich.console import Group

        at_work = [(job, worker.seconds) for job, worker in jobs]
        self.live.update(Group(self._at_work(jobs), self._progress(at_work)))

    def _at_work(self, jobs: Sequence[tuple[Job, Worker]]) -> Text:
        """Return a line for each running job, as many as fit; notes get the remaining columns."""
        from rich.text import Text

        most = max(self.console.height - 4, 1)
        rows = [
            (_where(job), job.check.id, f"{worker.seconds:.0f} s" if worker.ready else "starting", clean(worker.note, 200))
            for job, worker in jobs[:most]
        ]
        first, second, third = (max((width(row[number]) for row in rows), default=0) for number in range(3))
        lines = [f"  {where:{first}}  {id:{second}}  {taken:{third}}  {note}" for where, id, taken, note in rows]
        if len(jobs) > most:
            lines.append(f"  and {len(jobs) - most} more")
        # No line is as wide as the screen: at its edge some terminals begin a new one.
        return Text("\n".join(cut(line, self.console.width - 1) for line in lines), no_wrap=True)

    def _progress(self, at_work: Sequence[tuple[Job, float]]) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        now = time.monotonic()
        if now >= self._next_estimate_at:
            self._estimated_end = now + self.remaining.seconds(at_work)
            took = time.monotonic() - now
            self._next_estimate_at = now + max(_ESTIMATE_EVERY_S, took / _MOST_FOR_ESTIMATES)
        left = max(self._estimated_end - now, 0.0)
        if self.within_s is not None:
            left = min(left, max(self.within_s - (now - self.began), 0.0))
        remains = f"about {roughly(left)} left" if self.done < self.total else ""
        parts = [f"{self.done} of {self.total}", remains, count(self.findings)]
        line = Table.grid(padding=(0, 2))
        line.add_column(width=_BAR_COLUMNS, no_wrap=True)
        line.add_column(no_wrap=True)
        bar = ProgressBar(total=max(self.total, 1), completed=self.done, width=_BAR_COLUMNS)
        line.add_row(bar, cut(", ".join(part for part in parts if part), max(self.console.width - _BAR_COLUMNS - 3, 1)))
        return line

    def finished(self, job: Job, evidence: Evidence) -> None:
        """Print one line for a finished check, and one for each requirement that it does not meet."""
        self.done += 1
        took = time.monotonic() - self._begun.pop(job.key, time.monotonic())  # more than its own time: a start has its cost
        self.remaining.finish(job, took)
        column = len(str(self.total))
        style = "" if evidence.status is Status.MEASURED else "yellow"
        self._print(
            clean(evidence.reason) if evidence.reason else "",
            first=f"[{self.done:{column}}/{self.total}] {_where(job)}  {job.check.id:26} {evidence.status.value:9}"
            f" {evidence.seconds:6.1f} s  ",
            style=style,
        )
        if self.verbose:
            for item in evidence.measurements:
                labels = " ".join(f"{key}={value}" for key, value in item.labels.items())
                self._print(clean(f"{item.name} = {figure(item.value, item.unit)}  {labels}"), first=_INDENT)
        if (disturbed := self._disturbed(job, evidence)) is not None:
            self._print(disturbed, first=_INDENT, style="yellow")
        self._show(self.findings.take(job, evidence))

    def _disturbed(self, job: Job, evidence: Evidence) -> str | None:
        """Return a warning for a check whose measured times are unreliable on a busy host; else None."""
        timed = any(_TIMED.search(measure.unit) for measure in job.check.measures.values())
        load = evidence.host_load
        disturbed = timed and evidence.measurements and measured_while_busy(evidence)
        if load is None or not disturbed or job.check.id in self._too_busy:
            return None
        self._too_busy.add(job.check.id)
        return f"this host was too busy for timing: {in_words(load)}; the times of {job.check.id} are not reliable"

    def stopping(self, reason: str, running: Sequence[Job], waiting: Sequence[Job]) -> None:
        """Print why the run ends now, and how many checks that stops."""
        numbers = {"running are stopped": len(running), "will not start": len(waiting)}
        parts = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
        self._print(f"{reason}: of the checks {parts}" if parts else reason, style="yellow")

    def _show(self, found: Sequence[Unmet]) -> None:
        for unmet in found:
            quiet = unmet.kind in (Kind.INFORMATION, Kind.WAIVED)
            style = "dim" if quiet else "red" if unmet.level is Level.MUST else "yellow"
            self._print(unmet.head, first=_INDENT, style=style)
            for line in unmet.lines:
                self._print(line, first=f"{_INDENT}  ", style=style)

    def _print(self, text: str, style: str = "", first: str = "") -> None:
        """Print one line; on a terminal wrapped between words, with the further lines indented."""
        lines = [f"{first}{text}"]
        columns = self.console.width
        rest = " " * max(len(first) - len(first.lstrip()), len(_INDENT)) + "  "
        if self.on_screen and width(first) > columns - _LEAST_COLUMNS:
            lines = [first.rstrip(), *(wrap(text, columns, first=rest) if text else [])]
        elif self.on_screen:
            lines = wrap(text, columns, first=first, rest=rest)
        for line in map(visible, lines):
            self.console.print(line.rstrip(), style=style, markup=False, highlight=False, soft_wrap=True)


def _introduced(facts: AcceleratorFacts) -> str:
    model = clean(facts.model or "unknown model")
    return f"simulated, {model}" if simulated(facts) and "simulated" not in model.casefold() else model


def _where(job: Job) -> str:
    first = clean(job.accelerators[0].id, 40)
    return first if len(job.accelerators) == 1 else f"{first}+{len(job.accelerators) - 1}"


def observer(request: Request, folder: Path, *, quiet: bool, verbose: bool, no_color: bool) -> Observer:
    """Return the observer that reports the progress of the run."""
    if quiet:
        return Observer()
    from rich.console import Console

    console = Console(stderr=True, no_color=True if is_colour_refused(no_color) else None)
    # A pipeline may ask for colours (FORCE_COLOR), which rich takes for a terminal; what moves would fill its log.
    return ProgressDisplay(
        request.profile, folder, verbose=verbose, console=console, moving=sys.stderr.isatty(), uses=request.uses,
        waivers=request.waivers, within_s=request.within_s,
    )  # fmt: skip
