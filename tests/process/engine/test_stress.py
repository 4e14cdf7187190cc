"""A part of the stress of `tests.process.engine.stress`, and a disk that takes no more, without a file system of its own."""

from __future__ import annotations

import collections
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from readiness.errors import Exit
from tests.process.engine import stress
from tests.process.engine.test_resume import STEPS, Tool


def played(totals: stress.Totals) -> None:
    assert totals.wrong == []
    assert totals.resumed.total() == totals.disturbed.total() > 0


@pytest.mark.parametrize(
    ("number", "target"), [(signal.SIGKILL, "prepared"), (signal.SIGTERM, "all"), (signal.SIGSTOP, "prepared"), (signal.SIGHUP, "worker")]
)
def test_a_signal_at_a_random_moment_loses_nothing_and_makes_no_verdict(number: int, target: str) -> None:
    totals = stress.Totals()
    stress.disturbed_by_signals([number], [target], random.Random(number), totals)
    played(totals)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", stress.SIGNALS, ids=lambda number: number.name)
def test_every_signal_to_the_command_line(number: signal.Signals) -> None:
    assert len(stress.SIGNALS) >= 22
    totals = stress.Totals()
    stress.disturbed_by_signals([number], ["tool"], random.Random(22 + number), totals)
    played(totals)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("unshare") is None, reason="file systems of its own take a mount namespace")
def test_four_full_disks() -> None:
    code = (
        "import random, sys; from tests.process.engine import stress; totals = stress.Totals(); "
        "stress.disturbed_by_full_disks(stress.DISKS, random.Random(4), totals); sys.exit('\\n'.join(totals.wrong) or 0)"
    )
    allowed = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("this user may have no mount namespace")
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", [3_000, 5_000, 8_000])
def test_a_journal_that_finds_no_more_room_ends_the_run_and_nothing_is_lost(room: int, tmp_path: Path) -> None:
    """As on a full disk: no file of this run grows beyond so many bytes."""
    tool = Tool(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        process = tool.first("-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (Exit.USAGE, ""), errors
    assert "the journal cannot be written: File too large" in errors
    assert "remedy: check disk space and permissions, and continue with --resume" in errors
    before = stress.Scenario(tool, "no room", stress.Totals()).recorded()
    assert len(before) < len(STEPS)
    assert {record["status"] for record in before.values()} <= {"measured"}
    final = tool.finish("-q", "-f", f"json={tmp_path / 'a.json'}")
    assert (final.returncode, final.stderr) == (Exit.READY, "")
    (accelerator,) = json.loads((tmp_path / "a.json").read_text())["accelerators"]
    evidence = {item["check"]: item for item in accelerator["evidence"]}
    assert collections.Counter(item["status"] for item in evidence.values()) == {"measured": len(STEPS)}
    assert {check: evidence[check] for check in before} == before
