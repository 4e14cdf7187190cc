"""A run that is killed at any moment goes on with --resume: nothing finished is lost, nothing is done twice."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from readiness.datamodel import Assessment, Status
from readiness.engine.journal import Journal
from readiness.errors import BadFileError, Exit, UsageError
from tests.support.command_line import CODE, CODE_WITHOUT_TORCH
from tests.support.command_server import command_server
from tests.support.engine import MANY, evidence_of, leftovers, run, use_checks, write_profile
from tests.support.paths import ROOT

STEPS = [f"many.step{number}" for number in range(12)]


class Tool:
    """The command line in a process of its own, as a user starts it."""

    def __init__(self, folder: Path, code: str = CODE_WITHOUT_TORCH) -> None:
        self.folder = folder
        self.code = code
        self.profile = write_profile(folder / "test.toml", STEPS)
        (folder / "tmp").mkdir()
        #: While it is there, no more than one check comes to its end.
        self.held = folder / "held"
        self.environment = os.environ | {
            "MANY_HELD": str(self.held),
            "MANY_TRACE": str(folder / "trace"),
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder / "tmp"),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", self.code, *self._run(*arguments)],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def first(self, *arguments: str) -> subprocess.Popen[str]:
        return self.start("--profile", str(self.profile), *arguments)

    def finish(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Go on to the end, undisturbed: its start is not tried, so that it is forked."""
        server, given = command_server(torch=self.code is CODE), self._run(*arguments)
        assert server.can(given, self.environment)
        return server.run(self.code, given, self.environment, 120)

    def finish_first(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.finish("--profile", str(self.profile), *arguments)

    def _run(self, *arguments: str) -> list[str]:
        return ["run", "--checks", str(MANY), "--resume", str(self.folder / "run"), *arguments]

    def begun(self) -> Path:
        """Its journal, as soon as there is evidence in it."""
        journal = self.folder / "run" / "journal.jsonl"
        while not journal.exists() or '"kind": "evidence"' not in journal.read_text():
            time.sleep(0.01)
        return journal


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments(tmp_path: Path) -> None:
    tool = Tool(tmp_path)
    chance = random.Random(20261123)
    kills = 0
    process = tool.first()
    while kills < 20:
        try:
            # Most of a session is start-up: moments are drawn over all of it and over the first checks.
            process.wait(timeout=chance.uniform(0.05, 1.2))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            # Before a kill could fall on run.json, the run has not begun: it is asked for again as at first.
            process = tool.start() if (tmp_path / "run" / "run.json").exists() else tool.first()
        else:
            process.communicate()
            break
    output, errors = process.communicate(timeout=120)
    assert kills == 20 or process.returncode == 0
    final = tool.finish("-f", f"json={tmp_path / 'a.json'}")
    assert final.returncode == Exit.READY, final.stderr
    document = json.loads((tmp_path / "a.json").read_text())
    (accelerator,) = document["accelerators"]
    assert sorted(item["check"] for item in accelerator["evidence"]) == sorted(STEPS)
    assert {item["status"] for item in accelerator["evidence"]} == {"measured"}
    journal = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    recorded = [record["evidence"]["check"] for record in journal if record["kind"] == "evidence"]
    assert sorted(recorded) == sorted(STEPS)
    # A check may have run again only where a kill fell between its end and its record on disk.
    traces = collections.Counter((tmp_path / "trace").read_text().split())
    assert sum(traces.values()) - len(STEPS) <= kills
    deadline = time.monotonic() + 120
    while leftovers(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers(str(tmp_path)) == []
    # Python itself tries whether it may write there, with an empty file of eight letters: a kill may fall on that.
    left = [file for file in (tmp_path / "tmp").iterdir() if len(file.name) != 8 or file.stat().st_size]
    assert left == []
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["assessment.json", "journal.jsonl", "lock", "run.json"]


def test_interrupt_leaves_a_valid_partial_assessment_and_can_go_on(tmp_path: Path) -> None:
    tool = Tool(tmp_path)
    tool.held.touch()
    process = tool.first("-f", f"json={tmp_path / 'partial.json'}")
    tool.begun()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    tool.held.unlink()
    assert process.returncode == Exit.INTERRUPTED, errors
    assert "--resume" in errors
    document = json.loads((tmp_path / "partial.json").read_text())
    assert document["interrupted"] is True
    (accelerator,) = document["accelerators"]
    statuses = collections.Counter(item["status"] for item in accelerator["evidence"])
    assert statuses["measured"] >= 1
    assert statuses["skipped"] >= 1
    assert statuses.total() == len(STEPS)
    assert accelerator["verdicts"]["training"]["verdict"] == "undetermined"
    second = tool.finish("-q")
    assert (second.returncode, second.stderr) == (Exit.READY, "")
    assert len(second.stdout.splitlines()) == 1


@pytest.mark.parametrize("order", ["tool first", "tool last", "a moment apart"])
def test_a_signal_to_all_processes_of_a_run_leaves_nothing_broken(order: str, tmp_path: Path) -> None:
    """As systemd and schedulers stop a job: what a check was doing then is no evidence, and is done again."""
    patient = "from readiness.engine import runner; runner._SIGNALS_SPREAD_S = 60.0; "  # we may be slow to send the next one
    tool = Tool(tmp_path, patient + CODE_WITHOUT_TORCH)
    tool.held.touch()
    process = tool.first("-q")
    journal = tool.begun()
    everybody = [pid for pid in leftovers(str(tmp_path)) if pid != process.pid]
    for pid in [process.pid, *everybody] if order == "tool first" else [*everybody, process.pid]:
        if order == "a moment apart" and pid == process.pid:
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    tool.held.unlink()
    assert process.returncode == Exit.INTERRUPTED, errors
    statuses = {json.loads(line)["evidence"]["status"] for line in journal.read_text().splitlines() if '"kind": "evidence"' in line}
    assert statuses == {"measured"}
    second = tool.finish("-q")
    assert (second.returncode, second.stderr) == (Exit.READY, "")


def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> tuple[Path, Path, Assessment]:
    """A run of the first steps in the folder `run`: its profile, its journal and its assessment."""
    use_checks(monkeypatch, MANY)
    monkeypatch.setenv("MANY_TRACE", str(tmp_path / "trace"))
    profile = write_profile(tmp_path / "test.toml", STEPS[:steps])
    return profile, tmp_path / "run" / "journal.jsonl", run(tmp_path / "run", profile)


def test_evidence_of_another_machine_and_of_other_settings_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, journal, _ = finished(tmp_path, monkeypatch, 2)
    text = journal.read_text()
    journal.write_text(text.replace('"settings": {}', '"settings": {"earlier": 1}', 1))
    run(tmp_path / "run", profile)
    assert (tmp_path / "trace").read_text().split() == ["0", "1", "0"], "measured again, as it is asked for now"
    records = [json.loads(line) for line in text.splitlines()]
    (found,) = [record for record in records if record["kind"] == "found"]
    elsewhere = {**found, "machine": {"name": "node-b", "boot": "b" * 36, "id": "c" * 32}}
    journal.write_text("".join(json.dumps(elsewhere if record is found else record) + "\n" for record in records))
    with pytest.raises(UsageError, match="it began on node-b"):
        run(tmp_path / "run", profile)
    container = {**found, "machine": {**found["machine"], "name": "another-container"}}
    journal.write_text("".join(json.dumps(container if record is found else record) + "\n" for record in records))
    run(tmp_path / "run", profile)  # the same machine, in a container that was made anew


def test_a_finished_run_is_only_reported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, journal, first = finished(tmp_path, monkeypatch, 2)
    second = run(tmp_path / "run", profile)
    assert (tmp_path / "trace").read_text().split() == ["0", "1"]
    assert second.accelerators[0].findings == first.accelerators[0].findings
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    assert second.seconds > max(record["at"] for record in records) > 0  # that of before counts, too


def test_another_machine_cannot_finish_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, journal, _ = finished(tmp_path, monkeypatch, 1)
    journal.write_text(journal.read_text().replace('"torch": "', '"torch": "1.'))
    with pytest.raises(UsageError, match="no longer"):
        run(tmp_path / "run", profile)


def test_a_torn_last_line_is_dropped_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, journal, _ = finished(tmp_path, monkeypatch, 3)
    content = journal.read_bytes()
    journal.write_bytes(content[:-40])
    assert evidence_of(run(tmp_path / "run", profile), STEPS[2]).status is Status.MEASURED
    assert (tmp_path / "trace").read_text().split() == ["0", "1", "2", "2"]
    journal.write_bytes(b"nonsense\n" + content)
    with pytest.raises(BadFileError, match=r"(?s)journal.jsonl:1: .*remedy"):
        run(tmp_path / "run", profile)


def test_two_tools_cannot_work_on_one_run(tmp_path: Path) -> None:
    with Journal(tmp_path / "run"), pytest.raises(UsageError, match="another readiness uses this run"):
        Journal(tmp_path / "run")


def test_files_of_the_users_stay(tmp_path: Path) -> None:
    mine = [tmp_path / name for name in (".eslintrc.json.bak", ".run.json.backup", ".assessment.json.Old12345", "x.json.abc12345")]
    half = tmp_path / ".assessment.json.abc12_45"
    for file in (*mine, half):
        file.write_text("")
    Journal(tmp_path).close()
    assert [file for file in (*mine, half) if file.exists()] == mine


def test_options_that_contradict_the_run_are_refused(tmp_path: Path) -> None:
    tool = Tool(tmp_path)
    assert tool.finish_first("--seed", "5", "-k", "step1").returncode == Exit.UNDETERMINED
    second = tool.finish("--seed", "6")
    assert second.returncode == Exit.USAGE
    assert "seed = 5" in second.stderr
    assert "remedy" in second.stderr
