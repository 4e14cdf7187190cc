"""`multichip.recovery`: training that dies and goes on; whatever is not brought back is found and named."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.datamodel import Evidence, Measurement, Status
from readiness.distributed import Placement, RanksOutcome
from readiness.probes.recovery import measurements, parent, rank
from readiness.probes.recovery.measurements import ResumedRun
from readiness.probes.recovery.rank import Stepped
from tests.support import cpu, run_check, value, values
from tests.support import ranks as support

SHARDED = {"mode": "fully sharded"}
PARALLEL = {"mode": "data parallel"}


class Unsharded(Cpu):
    """A stack of which fully sharded training cannot be asked: it halves the time of a test."""

    unsupported_modes: Mapping[str, str] = {"fsdp": "left out by a test"}


@pytest.fixture
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    support.few_steps(monkeypatch)


def checked(number: int = 2, stack: Any = None, **settings: Any) -> Evidence:
    facts = [dataclasses.replace(cpu().facts, id=f"cpu:{index}", index=index) for index in range(number)]
    accelerator = Accelerator(facts[0], stack or Unsharded(), seed=7, peers=facts)
    evidence = run_check("multichip.recovery", accelerator, **settings)
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def about(evidence: Evidence, name: str) -> list[str]:
    reasons = [item.about for item in evidence.measurements if item.name == name and item.about]
    assert all(len(text) < 300 for text in reasons)
    return reasons


def test_healthy_ranks_go_on_as_if_nothing_had_been() -> None:
    assert_good_as_new(checked(2, cpu().stack), 2)


@pytest.mark.slow
@pytest.mark.usefixtures("_few_steps")
def test_four_healthy_ranks_go_on_as_if_nothing_had_been() -> None:
    assert_good_as_new(checked(4, cpu().stack), 4)


def assert_good_as_new(evidence: Evidence, number: int) -> None:
    where = {"ranks": str(number), "chips": "several", "world": "all"}
    assert value(evidence, "completed", **where) == 1
    assert value(evidence, "resume_mismatches", **where, **PARALLEL) == 0
    assert value(evidence, "resume_mismatches", **where, **SHARDED) == 0
    assert set(values(evidence, "state_mismatches", **where)) == {0}
    assert max(values(evidence, "reshard_difference")) < 5e-6
    assert value(evidence, "recovery_s", **where) > 0
    assert value(evidence, "broken_refused", broken="killed while saving") == 1
    assert value(evidence, "broken_refused", broken="file cut short") == 1
    assert value(evidence, "broken_refused", broken="file missing") == 1
    (row,) = [row for row in evidence.rows if row.get("mode") == "data parallel" and "resumed_from" in row]
    assert row["resumed_from"] == [2 * parent.SAVE_EVERY] * 2  # the third one was cut short
    assert row["two_uninterrupted_runs_differ_by"] == 0
    sizes = {(labels["from"], labels["to"]) for labels in (dict(item.labels) for item in evidence.measurements) if "from" in labels}
    assert sizes == ({("2", "1"), ("1", "4")} if number == 2 else {("4", "2"), ("4", "1"), ("2", "4")})


@pytest.mark.usefixtures("_few_steps")
def test_a_lost_optimizer_state_and_a_damaged_checkpoint_that_is_accepted_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two faults that no measure confuses, in one run: loading forgets, and takes what is damaged for loaded."""
    healthy = rank._Run.load

    def forgetful_and_credulous(run: Any, folder: Path) -> None:
        try:
            healthy(run, folder)
        except CheckpointException:
            return
        if run.context.rank == 1:
            run.optimizer.state[run.plain.head.weight]["exp_avg_sq"].zero_()

    monkeypatch.setattr(rank._Run, "load", forgetful_and_credulous)
    evidence = checked(stack=cpu().stack)
    assert value(evidence, "completed") == 1
    assert max(values(evidence, "state_mismatches", **PARALLEL)) == 2  # once after each resume
    reasons = about(evidence, "state_mismatches")
    assert reasons[0].startswith("data parallel: exp_avg_sq of head.weight on rank 1 (cpu:1) differs from what was saved")
    assert [value(evidence, "resume_mismatches", **mode) > 0 for mode in (PARALLEL, SHARDED)] == [True, True]
    assert values(evidence, "broken_refused", broken="file missing") == [0]
    assert "a checkpoint with its file missing is accepted by rank 0 (cpu:0), rank 1 (cpu:1)" in about(evidence, "broken_refused")[2]


@pytest.mark.usefixtures("_few_steps")
def test_a_step_that_is_done_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = rank._Run.load

    def one_more(run: Any, folder: Path) -> None:
        healthy(run, folder)
        run.step(int(folder.name))

    monkeypatch.setattr(rank._Run, "load", one_more)
    evidence = checked(stack=cpu().stack)
    assert [value(evidence, "resume_mismatches", **mode) > 0 for mode in (PARALLEL, SHARDED)] == [True, True]
    assert max(values(evidence, "reshard_difference")) > 1e-4


@pytest.mark.parametrize(("fault", "what"), [(support.kill_oneself, "died"), (support.fail, "raised")])
def test_a_rank_that_fails_by_itself_is_named(fault: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = rank._Run.step

    def step(run: Any, number: int) -> float:
        if number == 5 and run.context.rank == 1:
            fault()
        return healthy(run, number)

    monkeypatch.setattr(rank._Run, "step", step)
    evidence = checked()
    assert value(evidence, "completed", world="all") == 0
    assert about(evidence, "completed")[0].startswith("caused by rank 1 (cpu:1)")
    (row,) = [row for row in evidence.rows if "trouble" in row]
    assert (row["trouble"], row["culprit_chips"]) == (what, "cpu:1")
    assert {item.name for item in evidence.measurements} == {"completed"}


@pytest.mark.usefixtures("_few_steps")
def test_a_hang_while_saving_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = rank._Run.save
    support.patient_until_the_fault(monkeypatch)
    monkeypatch.setattr(
        rank._Run,
        "save",
        lambda run, folder, kill_here=False: support.hang() if run.context.rank == 0 else healthy(run, folder, kill_here=kill_here),
    )
    evidence = checked(patience_s=3.0)
    assert value(evidence, "completed") == 0
    assert "saving step 3" in about(evidence, "completed")[0]


def outcome(*losses: float) -> RanksOutcome:
    return RanksOutcome((tuple(Stepped(step, loss, 0.0) for step, loss in enumerate(losses, 1)),), None, 1.0)


@pytest.mark.parametrize(
    ("resumed", "again", "mismatches"),
    [
        (2.0, None, 0),
        (2.0000001, 2.0, 1),       # two uninterrupted runs are alike
        (2.0000001, 2.0000001, 0),  # they are not, and the resumed one is no worse
        (2.1, 2.0000001, 1),
        (float("nan"), 2.0000001, 1),
        (float("nan"), float("nan"), 1),  # what is no number is never what it should be
        (2.1, float("nan"), 1),
    ],
)  # fmt: skip
def test_a_device_that_does_not_repeat_itself_is_held_to_what_it_can(
    resumed: float, again: float | None, mismatches: int
) -> None:
    reasons = ResumedRun(outcome(3.0, 2.0), (outcome(3.0, resumed),), (), None if again is None else outcome(3.0, again))
    placement = Placement((cpu().facts,))
    found = [item for item in measurements.resume_measurements(reasons, placement) if isinstance(item, Measurement)]
    assert [item.value for item in found if item.name == "resume_mismatches"] == [mismatches]


@pytest.mark.parametrize("ranks", range(2, 17))
def test_the_batch_divides_among_all_ranks_and_among_half_of_them(ranks: int, tmp_path: Path) -> None:
    parts = parent.RecoveryRun(cpu(), Placement((cpu().facts,) * ranks), tmp_path, 1.0).parts
    for count in (ranks, max(ranks // 2, 1), 1, *([4] if ranks == 2 else ())):
        assert parts % count == 0


@pytest.mark.slow
@pytest.mark.usefixtures("_few_steps")
def test_three_healthy_ranks_go_on_with_another_number() -> None:
    evidence = checked(3)
    differences = values(evidence, "reshard_difference")
    assert differences
    assert max(differences) < 5e-6
    assert values(evidence, "resume_mismatches", **SHARDED) == []  # other tests train so


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    assert rank.newest(tmp_path) == 0
    for name, complete in (("8", True), ("16", True), ("24", False), ("straight", True)):
        (tmp_path / name).mkdir()
        if complete:
            (tmp_path / name / ".metadata").touch()
    assert rank.newest(tmp_path) == 16


class WantsAChipForEachRank(Cpu):
    collective_backend = "nccl"


def test_one_chip_that_ranks_cannot_share_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_backend_available", lambda name: True)
    evidence = run_check("multichip.recovery", Accelerator(cpu().facts, WantsAChipForEachRank()))
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()


def of_the_run(mark: str) -> list[int]:
    """Every process that was started with this mark in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def names_in_shared_memory() -> set[str]:
    return {found.name for found in Path("/dev/shm").glob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("expression", ["multichip.recovery", "multichip.drills"])
def test_nothing_is_left_when_the_tool_is_killed(expression: str, tmp_path: Path) -> None:
    """Neither processes, nor files, nor shared memory with a name, nor a port that somebody listens on."""
    temporary, journal = tmp_path / "temporary", tmp_path / "run"
    temporary.mkdir()
    shared = names_in_shared_memory()
    command = [sys.executable, "-m", "readiness", "run", "--device", "cpu", "-k", expression, "--resume", str(journal), "-q"]
    tool = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    try:
        while tool.poll() is None and time.monotonic() < deadline:
            everybody = of_the_run(str(temporary))
            begun = len(everybody) >= 5 if expression == "multichip.drills" else any(temporary.glob("readiness-of-*/saved/8"))
            if begun:
                break
            time.sleep(0.02)
        assert tool.poll() is None
        assert begun, everybody
    finally:
        tool.send_signal(signal.SIGKILL)
        tool.wait()
    assert support.wait_for_end(everybody) == []
    deadline = time.monotonic() + 60
    while (of_the_run(str(temporary)) or any(temporary.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert of_the_run(str(temporary)) == []
    assert not any(temporary.iterdir())
    assert not [name for name in names_in_shared_memory() - shared if "readiness" in name]


def test_training_is_killed_twice_and_resumes_from_the_second_save() -> None:
    assert 2 * parent.SAVE_EVERY < parent.KILL_AT_STEP < parent.KILL_DURING_SAVE_AT_STEP == 3 * parent.SAVE_EVERY < parent.STEPS
