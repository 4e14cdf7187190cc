"""Progress of a rehearsal on stderr: a bar on a terminal, plain lines elsewhere, nothing with `-q`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from readiness.datamodel import Evidence, Status
from readiness.isolation.worker_process import Worker
from readiness.rehearsal.document import NOTICE
from readiness.rehearsal.executor import Observer
from readiness.rehearsal.plan import HOST, Task
from readiness.rendering import clean, duration, names

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class RichProgress(Observer):
    """Progress display that uses rich: the same text with and without a terminal."""

    def __init__(self, title: str, console: Console, *, moving: bool = True) -> None:
        self.title = title
        self.console = console
        self.moving = moving
        self.total = self.done = 0
        self.bar: Progress | None = None

    def __enter__(self) -> RichProgress:
        if self.moving and self.console.is_terminal and not self.console.is_dumb_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            text = TextColumn("{task.description}", markup=False)
            self.bar = Progress(
                BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), text, console=self.console, transient=True
            )
            self.bar.start()
            self.bar.add_task("starting", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def planned(self, tasks: Sequence[Task], jobs: int) -> None:
        """Print the number of checks, and that none of them measures a product."""
        self.total = len(tasks)
        seconds = sum(task.job.check.typical_s for task in tasks if task.job.check.alone)
        seconds += sum(task.job.check.typical_s for task in tasks if not task.job.check.alone) / jobs
        self._print(f"{self.title}: {self.total} checks, {jobs} at once, about {duration(seconds)} and more", style="bold")
        self._print(f"these are {NOTICE}")
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], total=self.total)

    def running(self, tasks: Sequence[tuple[Task, Worker]]) -> None:
        """Show the running tasks on a terminal."""
        if self.bar is not None:
            text = "; ".join(f"{task.job.check.id} on {_where(task)}" for task, _ in tasks)
            self.bar.update(self.bar.task_ids[0], description=clean(text, 60), completed=self.done)

    def finished(self, task: Task, evidence: Evidence) -> None:
        """Print one line for a finished check."""
        self.done += 1
        width = len(str(self.total))
        reason = f"  {clean(evidence.reason, 200)}" if evidence.reason else ""
        self._print(
            f"[{self.done:{width}}/{self.total}] {_where(task):32} {evidence.check:26} {evidence.status.value:9}"
            f" {evidence.seconds:6.1f} s{reason}",
            style="" if evidence.status is Status.MEASURED else "yellow",
        )

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _where(task: Task) -> str:
    """Return the machine of a task: `the host's CPU`, `healthy sim:0, seed 7` or `nan sim:0`."""
    if task.machine == HOST:
        return "the host's CPU"
    ids = names([facts.id for facts in task.job.accelerators])
    if task.fault_kind is None:
        return f"healthy {ids}, seed {task.seed}"
    return clean(f"{task.machine.removeprefix('planted ')} {ids}", 60)


def observer(title: str, *, quiet: bool, no_color: bool) -> Observer:
    """Return the observer that reports the progress of the rehearsal."""
    if quiet:
        return Observer()
    from rich.console import Console

    console = Console(stderr=True, no_color=True if no_color else None)
    return RichProgress(title, console, moving=sys.stderr.isatty())  # as in readiness.cli.progress
