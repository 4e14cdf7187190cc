"""What is kept between runs, and what may be thrown away."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from readiness.documents import files
from readiness.engine import run_store
from readiness.engine.journal import Journal


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_store, "folder", lambda: tmp_path)
    for number in range(run_store.RUNS_KEPT + 5):
        folder = tmp_path / "runs" / f"2026{number:04d}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        (folder / "assessment.json").write_text("{}")
    return tmp_path / "runs"


def test_the_oldest_runs_are_removed(runs: Path) -> None:
    run_store.prune_runs()
    assert sorted(path.name for path in runs.iterdir()) == [f"2026{number:04d}" for number in range(5, run_store.RUNS_KEPT + 5)]


def test_a_run_that_goes_on_is_never_removed_and_one_given_up_is(runs: Path) -> None:
    going_on, given_up = runs / "20260000", runs / "20260001"
    for folder in (going_on, given_up):
        (folder / "assessment.json").unlink()
        (folder / "journal.jsonl").write_text("")
    long_ago = time.time() - 2 * run_store.GIVEN_UP_S
    for name in ("run.json", "journal.jsonl"):
        os.utime(given_up / name, (long_ago, long_ago))
    run_store.prune_runs()
    assert going_on.exists()
    assert not given_up.exists()


def test_a_soak_that_writes_its_own_record_alone_goes_on(runs: Path) -> None:
    soak = runs / "20260000"
    (soak / "assessment.json").unlink()
    (soak / "kept").mkdir()
    (soak / "kept" / "multichip.soak-cuda_0.jsonl").write_text("")
    long_ago = time.time() - 2 * run_store.GIVEN_UP_S
    os.utime(soak / "run.json", (long_ago, long_ago))
    run_store.prune_runs()
    assert soak.exists()


def test_a_run_that_is_held_is_never_removed(runs: Path) -> None:
    held = runs / "20260000"
    lock = files.take_lock(held)
    assert lock is not None
    with lock:
        run_store.prune_runs()
        assert held.exists()
    run_store.prune_runs()
    assert not held.exists()


def test_a_run_that_was_interrupted_can_be_gone_on_with_for_a_day(runs: Path) -> None:
    interrupted = runs / "20260000"
    (interrupted / "assessment.json").write_text('{"interrupted": true}')
    run_store.prune_runs()
    assert interrupted.exists()
    long_ago = time.time() - 2 * run_store.GIVEN_UP_S
    os.utime(interrupted / "run.json", (long_ago, long_ago))
    run_store.prune_runs()
    assert not interrupted.exists()


def test_other_folders_are_left_alone(runs: Path) -> None:
    (runs / "0000-mine").mkdir()
    run_store.prune_runs()
    assert (runs / "0000-mine").exists()


def test_where_nothing_can_be_kept_runs_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    find = run_store.folder.__wrapped__
    first = find()
    assert find() == first
    assert first.parent == tmp_path
    assert first.stat().st_mode & 0o777 == 0o700
    first.chmod(0o777)  # somebody else may have put things there
    assert find() != first
    first.rename(tmp_path / "moved")
    first.symlink_to(tmp_path / "moved")
    assert find() != first


def test_people_are_shown_the_run_that_was_interrupted_and_gates_the_last_that_finished(runs: Path) -> None:
    finished, stopped, later = (runs / f"2026000{number}" for number in (1, 2, 3))
    run_store.remember_last(finished)
    assert run_store.latest_run("", "") == (finished, False)
    run_store.remember_last(stopped, interrupted=True)
    assert run_store.latest_run("", "") == (stopped, True)
    assert run_store.last_run("", "") == finished
    (stopped / "assessment.json").unlink()  # it was removed
    assert run_store.latest_run("", "") == (finished, False)
    run_store.remember_last(stopped, interrupted=True)
    run_store.remember_last(later)
    assert run_store.latest_run("", "") == (later, False)


def test_a_run_that_is_refused_before_it_begins_leaves_no_folder(tmp_path: Path) -> None:
    with Journal(tmp_path / "runs" / "new"):
        assert (tmp_path / "runs" / "new" / "lock").exists()
    assert list((tmp_path / "runs").iterdir()) == []
    (tmp_path / "own").mkdir()
    with Journal(tmp_path / "own"):  # it was there before
        pass
    assert (tmp_path / "own").is_dir()
    with Journal(tmp_path / "runs" / "begun") as journal:
        journal.save_request({})
    assert (tmp_path / "runs" / "begun" / "run.json").exists()
