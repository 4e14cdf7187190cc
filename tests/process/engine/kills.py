"""Runs of real checks, some with ranks, that are killed at random moments and go on: `python -m tests.process.engine.kills`.

Each kill takes the tool alone or every process of it at once, as a power cut does. After each, nothing that was on disk may
be lost, and no process and no file outside the run's folder may be left; no assessment may say more than the journal holds.
A run that has come to its end must have each check once, and the verdict of a run that was never killed. `--kills` says how
many there are in all, over as many runs as it takes; the seed is told, and repeats the moments.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.paths import ROOT

#: The variable by which the processes of a run are known, whoever became their parent.
MARK = "READINESS_TESTS_KILLS"
#: What a run does: check, measure, limit. The soak lasts for as long as it is told, and counts on.
REQUIRED = (
    ("driver.random", "reproducibility_failures", "at_most = 0"),
    ("driver.copies", "wrong_bytes", "at_most = 0"),
    ("parity.matmul", "bound_ratio", "at_most = 1e9"),
    ("parity.reductions", "bound_ratio", "at_most = 1e9"),
    ("multichip.world", "chips", "at_least = 1"),
    ("multichip.data_parallel", "completed", "equals = 1"),
    ("multichip.integrity", "completed", "equals = 1"),
    ("multichip.soak", "faults", "at_most = 0"),
)
_GONE_S = 30.0
Records = list[dict[str, Any]]


@dataclass(slots=True)
class Figures:
    """What came of all runs. `lost`, `left` and `untrue` say in words what should not have been."""

    kills: int = 0
    runs: int = 0
    sessions: int = 0
    kept: int = 0
    repeated: int = 0
    killed_in: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    gone_after_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost, left or told without proof."""
        return not (self.lost or self.left or self.untrue)

    def __str__(self) -> str:
        """As a person reads it."""
        lines = [
            f"{self.kills} kills in {self.runs} runs, {self.sessions} sessions; "
            f"{self.kept} pieces of evidence were on disk at a kill and are kept; {self.repeated} were recorded twice",
            f"killed during: {', '.join(f'{what} {count}' for what, count in self.killed_in.most_common())}",
            f"all processes were gone {self.gone_after_s:.1f} s after a kill at the latest",
        ]
        for name in ("lost", "left", "untrue"):
            found: list[str] = getattr(self, name)
            lines.append(f"{name}: {'nothing' if not found else ''}")
            lines += [f"  {what}" for what in found]
        return "\n".join(lines)


class Run:
    """One run's folder, and the command line that begins it or goes on with it."""

    def __init__(self, folder: Path, required: Sequence[tuple[str, str, str]], soak_s: float, seed: int) -> None:
        self.folder = folder
        self.required = required
        self.mark = secrets.token_hex(8)
        for name in ("tmp", "state"):
            (folder / name).mkdir()
        self.profile = folder / "profile.toml"
        text = 'schema = "readiness.profile/1"\nname = "kills"\ntitle = "Runs that are killed"\n'
        for check, measure, limit in required:
            text += f'[[require]]\nid = "{check}"\ncheck = "{check}"\nmeasure = "{measure}"\n{limit}\n'
        self.profile.write_text(text)
        self.options = ["--profile", str(self.profile), "--device", "cpu", "--soak", f"{soak_s}s", "--seed", str(seed)]

    @property
    def run(self) -> Path:
        """Its journal's folder."""
        return self.folder / "run"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin, or go on: the same command does both."""
        environment = os.environ | {
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: self.mark, "TMPDIR": str(self.folder / "tmp"),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }  # fmt: skip
        command = [sys.executable, "-P", "-m", "readiness", "run", "--resume", str(self.run), *self.options, *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def records(self) -> Records:
        """What is on disk, without half a line."""
        with contextlib.suppress(FileNotFoundError):
            content = (self.run / "journal.jsonl").read_bytes()
            return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
        return []

    def processes(self) -> list[psutil.Process]:
        """All that live."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def kill(self, process: subprocess.Popen[str], *, all_at_once: bool) -> float:
        """Kill the tool, or everything; seconds until nothing was there any more."""
        victims = self.processes() if all_at_once else []
        process.kill()
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                victim.kill()
        began = time.monotonic()
        process.communicate()
        while self.processes() and time.monotonic() - began < _GONE_S:
            time.sleep(0.02)
        return time.monotonic() - began

    def left_in_temporary_files(self) -> list[str]:
        """What is there though no process is. Python tries a folder with an empty file of eight letters: a kill may fall there."""
        files = (self.folder / "tmp").rglob("*")
        return [str(file) for file in files if len(file.name) != 8 or file.stat().st_size]


def evidence(records: Records) -> list[str]:
    """Each piece as a text that does not change."""
    return [json.dumps(record["evidence"], sort_keys=True) for record in records if record["kind"] == "evidence"]


def _ended_by_itself(process: subprocess.Popen[str], run: Run, chance: random.Random, longest_s: float) -> bool:
    """Wait for a moment to kill it; True where it came to its end before.

    A moment of its start, or one that begins when so much more was on disk: most of a session of a busy machine is its start.
    """
    more = chance.choice((0, 0, 1, 1, 2, 3))
    wanted = len(evidence(run.records())) + more
    deadline = time.monotonic() + 10 * longest_s
    while more and len(evidence(run.records())) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=chance.uniform(0.0, longest_s / 4 if more else longest_s))
        return True
    return False


def kills(
    figures: Figures, run: Run, chance: random.Random, number: int, longest_s: float, expected: int = 0
) -> Iterator[str]:
    """Kill a run so often, or until it has come to its end; then let it. What is wrong is noted among the figures."""
    figures.runs += 1
    seen: list[str] = []
    for turn in range(number):
        process = run.start("-q")
        figures.sessions += 1
        if _ended_by_itself(process, run, chance, longest_s):
            process.communicate()
            break
        gone_s = run.kill(process, all_at_once=turn % 2 == 1)
        figures.kills += 1
        figures.gone_after_s = max(figures.gone_after_s, gone_s)
        if gone_s >= _GONE_S:
            figures.left.append(f"processes {[one.pid for one in run.processes()]}, {gone_s:.0f} s after kill {figures.kills}")
        figures.left += run.left_in_temporary_files()
        records = run.records()
        now = evidence(records)
        figures.lost += [f"kill {figures.kills}: {piece[:200]}" for piece in seen if piece not in now]
        figures.kept += len(now)
        figures.killed_in["start" if not records else f"check {len(now) + 1}"] += 1
        seen = now
        if (run.run / "assessment.json").exists() and len(now) < len(run.required):
            figures.untrue.append(f"kill {figures.kills}: an assessment of {len(now)} pieces of evidence")
        yield f"kill {figures.kills}: {len(now)} of {len(run.required)} checks on disk"
    file = run.folder / "final.json"
    process = run.start("-f", f"json={file}", "-q")
    figures.sessions += 1
    _, errors = process.communicate(timeout=600)
    if process.returncode != expected:
        lines = [f"{item['check']} {item['status']}: {item['reason']}" for item in map(json.loads, evidence(run.records()))]
        figures.untrue.append(f"exit code {process.returncode}, not {expected}: {errors[-500:]}\n    " + "\n    ".join(lines))
    _look_at_the_end(figures, run, seen, file)
    yield f"run {figures.runs}: exit code {process.returncode}"


def _look_at_the_end(figures: Figures, run: Run, seen: Sequence[str], file: Path) -> None:
    records = run.records()
    now = evidence(records)
    figures.lost += [f"at the end: {piece[:200]}" for piece in seen if piece not in now]
    times = Counter(record["evidence"]["check"] for record in records if record["kind"] == "evidence")
    figures.repeated += sum(times.values()) - len(times)
    wanted = {check for check, _, _ in run.required}
    if times.keys() != wanted:
        figures.lost.append(f"evidence of {sorted(wanted ^ times.keys())} at the end")
    with contextlib.suppress(FileNotFoundError):
        (assessed,) = json.loads(file.read_text())["accelerators"]
        measured = {item["check"] for item in assessed["evidence"] if item["status"] == "measured"}
        ready = [use for use, verdict in assessed["verdicts"].items() if verdict["verdict"] == "ready"]
        if ready and not wanted <= measured:
            figures.untrue.append(f"ready for {ready} without {sorted(wanted - measured)}")
    known = {"assessment.json", "journal.jsonl", "lock", "run.json", "kept"}
    figures.left += [str(found) for found in run.run.iterdir() if found.name not in known]
    figures.left += [str(found) for found in run.run.glob("kept/*") if found.suffix not in (".jsonl", ".checkpoint")]
    figures.left += run.left_in_temporary_files()
    if there := run.processes():
        figures.left.append(f"processes {there} at the end")


def main() -> int:
    """Kill until there were enough, and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--a-run", type=int, default=8, help="kills in one run at most")
    parser.add_argument("--soak", type=float, default=10.0, help="seconds")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds of a session before a kill, at most")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    lines = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {lines.seed}")
    chance, figures = random.Random(lines.seed), Figures()
    while figures.kills < lines.kills:
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            run = Run(Path(folder), REQUIRED, lines.soak, lines.seed)
            number = min(lines.a_run, lines.kills - figures.kills)
            for line in kills(figures, run, chance, number, lines.longest):
                print(line, flush=True)
    print(figures)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
