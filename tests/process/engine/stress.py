"""Signals and full disks at random moments of a run: nothing lost, nothing left, no verdict from nothing.

`python -m tests.process.engine.stress [ROUNDS] [SEED]` sends each of the signals below to the command line, to the prepared process,
to a worker and to all of them, and fills each of four disks while a run is at work, torch imported; a smaller part of it is a
test, without torch. Filling disks takes a mount namespace (`unshare`), as root or where users may have their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from readiness.errors import Exit
from readiness.missing_evidence import OWN_FAULTS
from tests.process.engine.test_resume import STEPS, Tool
from tests.support.command_line import CODE, CODE_WITHOUT_TORCH
from tests.support.engine import leftovers

TARGETS = ("tool", "prepared", "worker", "all")
SIGNALS = tuple(sorted(number for number in signal.Signals if number < signal.SIGRTMIN))
#: What somebody sends to a process as if it had made a mistake cannot be told from the mistake: such a crash is a crash.
HARMLESS = tuple(number for number in SIGNALS if number not in OWN_FAULTS)
DISKS = ("temporary files", "the run's folder", "shared memory", "the report")
_DISK_BYTES = 6 * 2**20
#: Longer than any of the checks, and so short that one that was stopped is tried again soon.
_TIMEOUT = ("--timeout", "4")
_KNOWN = {"run.json", "journal.jsonl", "lock", "assessment.json", "kept"}


@dataclass(slots=True)
class Totals:
    """What came of all rounds: exit codes of the runs that were disturbed, and of those that went on; what was not right."""

    disturbed: Counter[str] = field(default_factory=Counter)
    resumed: Counter[str] = field(default_factory=Counter)
    measured: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Scenario:
    """One run that is disturbed and gone on with, and what must hold of both."""

    tool: Tool
    what: str
    totals: Totals
    options: tuple[str, ...] = ()

    def play(self, disturb: Callable[[subprocess.Popen[str]], object], restore: Callable[[], object] = lambda: None) -> None:
        """Start it, disturb it, see how it ends; put right what was disturbed, and go on until it has come to its end."""
        process = self.tool.first(*_TIMEOUT, *self.options)
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            disturb(process)
        code = self._end(process)
        self.totals.disturbed[_named(code)] += 1
        self._expect(code in (*_HONEST, Exit.USAGE, Exit.INTERRUPTED) or code < 0, f"it left with {_named(code)}")
        before = self.recorded()
        restore()
        self._nothing_left(set())
        final = self.folder / "final.json"
        # Before a signal could fall on run.json, the run has not begun: it is asked for again as at first.
        begun = (self.folder / "run" / "run.json").exists()
        code = self._finish(begun, *_TIMEOUT, *self.options, "-f", f"json={final}")
        self.totals.resumed[_named(code)] += 1
        self._expect(code in _HONEST, f"gone on with, it left with {_named(code)}")
        self._nothing_left({file.name for file in (self.folder / "run").iterdir()} - _KNOWN)
        if code in _HONEST:
            self._compare(before, json.loads(final.read_text()), code)

    @property
    def folder(self) -> Path:
        return self.tool.folder

    def recorded(self) -> dict[str, Any]:
        """The evidence that is on disk, by check."""
        journal = self.folder / "run" / "journal.jsonl"
        content = journal.read_bytes() if journal.exists() else b""
        records = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
        return {record["evidence"]["check"]: record["evidence"] for record in records if record["kind"] == "evidence"}

    def _compare(self, before: dict[str, Any], document: dict[str, Any], code: int) -> None:
        (accelerator,) = document["accelerators"]
        evidence = {item["check"]: item for item in accelerator["evidence"]}
        self._expect(sorted(evidence) == sorted(STEPS), "checks are missing")
        self._expect(all(evidence[check] == record for check, record in before.items()), "evidence was lost or changed")
        statuses = Counter(item["status"] for item in evidence.values())
        self.totals.measured[statuses["measured"]] += 1
        self._expect(statuses.keys() <= {"measured", "error", "skipped"}, f"statuses {dict(statuses)}")
        self._expect((code == Exit.READY) is (statuses["measured"] == len(STEPS)), f"{_named(code)} from {dict(statuses)}")

    def _nothing_left(self, files: set[str]) -> None:
        deadline = time.monotonic() + 20
        while (left := leftovers(str(self.folder))) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._expect(not left, f"processes are left: {left}")
        # Python itself tries whether it may write there, with an empty file of eight letters: a signal may fall on that.
        files |= {file.name for file in (self.folder / "tmp").iterdir() if len(file.name) != 8 or file.stat().st_size}
        self._expect(not files, f"files are left: {files}")

    def _end(self, process: subprocess.Popen[str]) -> int:
        try:
            _, self.errors = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            _, self.errors = process.communicate()
            self._expect(False, "it did not end")
        return process.returncode

    def _finish(self, begun: bool, *arguments: str) -> int:
        try:
            done = (self.tool.finish if begun else self.tool.finish_first)(*arguments)
        except subprocess.TimeoutExpired:
            self._expect(False, "gone on with, it did not end")
            return -signal.SIGKILL
        self.errors = done.stderr
        return done.returncode

    errors: str = ""

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.totals.wrong.append(f"{self.what}: {otherwise}\n{self.errors[-2000:]}")


_HONEST = (Exit.READY, Exit.UNDETERMINED)


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else str(Exit(code)) if code in set(Exit) else str(code)


def at_a_random_moment(tool: Tool, chance: random.Random) -> None:
    """Wait: half of the time for any moment of a run, else for one between its checks."""
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0.0, 2.0 if tool.code is CODE_WITHOUT_TORCH else 6.0))
        return
    journal = tool.folder / "run" / "journal.jsonl"
    records = chance.randrange(1, len(STEPS))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count('"kind": "evidence"') >= records:
            break
        time.sleep(0.005)
    time.sleep(chance.uniform(0.0, 0.1))


def send(number: int, target: str, tool: Tool, process: subprocess.Popen[str], chance: random.Random) -> None:
    """A signal to some of a run's processes at a random moment; those that it stops go on after a while."""
    at_a_random_moment(tool, chance)
    whole = psutil.Process(process.pid)
    prepared = whole.children()
    workers = [worker for child in prepared for worker in child.children()]
    meant = {"tool": [whole], "prepared": prepared, "worker": workers[:1], "all": [whole, *prepared, *workers]}[target]
    chance.shuffle(meant)
    for one in meant:
        with contextlib.suppress(psutil.Error):
            one.send_signal(number)
    if number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        time.sleep(chance.uniform(0.1, 8.0))
        for one in meant:
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGCONT)


def fill(disk: Path, tool: Tool, chance: random.Random) -> None:
    """Take all room of a file system at a random moment, to the last byte."""
    at_a_random_moment(tool, chance)
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(size))


def disturbed_by_signals(
    numbers: Sequence[int], targets: Sequence[str], chance: random.Random, totals: Totals, code: str = CODE_WITHOUT_TORCH
) -> None:
    """One scenario for each signal and target. `code` is how the command line is started."""
    for number in numbers:
        for target in targets:
            with _folder() as folder:
                tool = Tool(folder, code)
                scenario = Scenario(tool, f"{signal.Signals(number).name} to {target}", totals)
                scenario.play(lambda process: send(number, target, tool, process, chance))  # noqa: B023 - called at once
            print(".", end="", file=sys.stderr, flush=True)


def disturbed_by_full_disks(
    disks: Sequence[str], chance: random.Random, totals: Totals, code: str = CODE_WITHOUT_TORCH
) -> None:
    """One scenario for each disk. Must be called where file systems may be mounted that nobody else sees."""
    for disk in disks:
        with _folder() as folder:
            tool = Tool(folder, code)
            (folder / "run").mkdir()
            (folder / "out").mkdir()
            places = {
                "temporary files": folder / "tmp", "the run's folder": folder / "run", "the report": folder / "out",
                "shared memory": Path("/dev/shm"),
            }  # fmt: skip
            place = places[disk]
            # Of its own a tmpfs lets everybody write, and the run's folder would be refused before there is a run to disturb.
            options = f"size={_DISK_BYTES},mode=0700"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
            try:
                reports = ("-f", f"json={folder / 'out' / 'a.json'}", "-f", "line")
                scenario = Scenario(tool, f"{disk} full", totals, reports)
                scenario.play(
                    lambda process: fill(place, tool, chance),  # noqa: B023 - called at once
                    lambda: (place / "filler").unlink(missing_ok=True),  # noqa: B023
                )
            finally:
                subprocess.run(["umount", "-l", str(place)], check=True)
        print(".", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="readiness-stress-") as folder:
        yield Path(folder)


def main(arguments: Sequence[str]) -> int:
    """All of it, so many rounds; 1 where anything was not right."""
    rounds, seed = (int(text) for text in (*arguments, *("1", "7")[len(arguments) :]))
    if os.environ.get("READINESS_STRESS_INSIDE") is None:
        unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
        command = [*unshare, sys.executable, "-m", "tests.process.engine.stress", *arguments]
        return subprocess.run(command, env=os.environ | {"READINESS_STRESS_INSIDE": "1"}, check=False).returncode
    chance, totals = random.Random(seed), Totals()
    for _ in range(rounds):
        disturbed_by_signals(SIGNALS, ("tool", "prepared"), chance, totals, CODE)
        disturbed_by_signals(HARMLESS, ("worker", "all"), chance, totals, CODE)
        disturbed_by_full_disks(DISKS, chance, totals, CODE)
    print(f"\ndisturbed runs, by exit code: {dict(totals.disturbed)}\nthe same, gone on with: {dict(totals.resumed)}")
    print(f"checks measured in the end, of {len(STEPS)}: {dict(totals.measured)}\nnot right: {len(totals.wrong)}")
    for wrong in totals.wrong:
        print(f"- {wrong}")
    return int(bool(totals.wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
