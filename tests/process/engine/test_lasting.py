"""A check that lasts: told for how long, cut off, recounted, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from readiness.datamodel import Outcome, Status
from readiness.errors import Exit
from tests.support.command_line import CODE_WITHOUT_TORCH
from tests.support.engine import evidence_of, run, use_checks, write_profile
from tests.support.paths import CHECKS, ROOT

LASTING = CHECKS / "lasting"


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_checks(monkeypatch, LASTING)
    return write_profile(tmp_path / "test.toml", ["lasting.steps"])


def kept(folder: Path) -> Path:
    return folder / "kept" / "lasting.steps-cpu_0.jsonl"


def test_without_its_time_it_is_left_out_and_unknown(tmp_path: Path, profile: Path) -> None:
    assessment = run(tmp_path / "run", profile)
    evidence = evidence_of(assessment, "lasting.steps")
    assert (evidence.status, evidence.attempts) == (Status.SKIPPED, 0)
    assert "--soak" in (evidence.reason or "")
    assert {finding.outcome for finding in assessment.accelerators[0].findings} == {Outcome.UNKNOWN}
    assert not (tmp_path / "run" / "kept").exists()


def test_with_it_it_is_measured_and_its_limit_follows(tmp_path: Path, profile: Path) -> None:
    evidence = evidence_of(run(tmp_path / "run", profile, soak_s=5.0, expression="lasting"), "lasting.steps")
    assert (evidence.status, evidence.measurements[0].value) == (Status.MEASURED, 5)
    assert evidence.settings["seconds"] == 5.0
    # --timeout is for checks that end by themselves: what lasts gets its time on top of it.
    evidence = evidence_of(run(tmp_path / "second", profile, soak_s=150.0, timeout_s=2.0, expression="lasting"), "lasting.steps")
    assert (evidence.status, evidence.measurements[0].value) == (Status.MEASURED, 150)


def test_a_process_that_dies_loses_nothing_of_what_it_kept(tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTING_DIES", "3")
    assessment = run(tmp_path / "run", profile, soak_s=50.0, expression="lasting")
    evidence = evidence_of(assessment, "lasting.steps")
    assert evidence.status is Status.CRASHED
    assert evidence.measurements[0].value == 3
    assert evidence.rows[0]["proves"] == "3 steps"
    assert {finding.outcome for finding in assessment.accelerators[0].findings} == {Outcome.FAIL}


def test_what_an_error_ended_is_gone_on_with(tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTING_FAILS", "3")
    evidence = evidence_of(run(tmp_path / "run", profile, soak_s=5.0, expression="lasting"), "lasting.steps")
    assert (evidence.status, evidence.measurements[0].value) == (Status.ERROR, 3)
    monkeypatch.delenv("LASTING_FAILS")
    for _ in range(2):  # the second time there is nothing left to do
        evidence = evidence_of(run(tmp_path / "run", profile, soak_s=5.0, expression="lasting"), "lasting.steps")
        assert (evidence.status, evidence.measurements[0].value) == (Status.MEASURED, 5)
    assert len({json.loads(line)["pid"] for line in kept(tmp_path / "run").read_text().splitlines()}) == 2


def test_a_failed_recount_is_reported(tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path / "run").parent.mkdir(parents=True)
    kept(tmp_path / "run").write_text("nonsense\n")
    monkeypatch.setenv("LASTING_DIES", "3")
    evidence = evidence_of(run(tmp_path / "run", profile, soak_s=50.0, expression="lasting"), "lasting.steps")
    assert evidence.measurements == ()
    assert "what it had saved cannot be read" in (evidence.reason or "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_goes_on_counting(tmp_path: Path, profile: Path, number: signal.Signals) -> None:
    held = tmp_path / "held"  # while it is there, no more than the first steps are done
    held.touch()
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(ROOT), "LASTING_HELD": str(held)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-c", CODE_WITHOUT_TORCH, "run", "--checks", str(LASTING), "--resume", str(tmp_path / "run"), *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    process = start("--profile", str(profile), "--soak", "300s", "-k", "lasting", "-f", f"json={tmp_path / 'a.json'}")
    file = kept(tmp_path / "run")
    while not file.exists() or len(file.read_text().splitlines()) < 3:
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=120)
    held.unlink()
    done = len(file.read_text().splitlines())
    assert 3 <= done < 300
    if number is signal.SIGINT:  # what it had found by then is told, and proves no more than it did
        assert process.returncode == Exit.INTERRUPTED
        (item,) = json.loads((tmp_path / "a.json").read_text())["accelerators"]
        (evidence,) = [entry for entry in item["evidence"] if entry["check"] == "lasting.steps"]
        assert (evidence["status"], evidence["measurements"][0]["value"]) == ("skipped", done)
        assert evidence["rows"][0]["proves"] == f"{done} steps"
        assert item["verdicts"]["training"]["verdict"] == "undetermined"
    again = start("-f", f"json={tmp_path / 'a.json'}")
    output, errors = again.communicate(timeout=120)
    assert again.returncode == Exit.READY, errors
    steps = [json.loads(line) for line in file.read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(300))
    assert len({step["pid"] for step in steps}) == 2
