"""Scratch folders: gone at the end of the block, and gone however the process ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from readiness.host.temp_dirs import purge, temp_dir


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def is_empty_within(folder: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not list(folder.iterdir())


def test_a_folder_is_there_and_then_gone(temporary: Path) -> None:
    with temp_dir() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("content")
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_an_error_leaves_nothing(temporary: Path) -> None:
    def fail() -> None:
        with temp_dir() as folder:
            (folder / "file").touch()
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert list(temporary.iterdir()) == []


def child(ready: int) -> None:
    """A process that makes a folder, says so, and never comes to the end; it has a child that holds what it held."""
    try:
        with temp_dir() as folder:
            (folder / "file").touch()
            grandchild = os.fork()
            if grandchild == 0:
                time.sleep(1)
                os._exit(0)
            os.write(ready, b"r")
            time.sleep(1000)
    finally:
        os._exit(1)


def test_nothing_is_left_by_a_process_that_is_killed(temporary: Path) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        child(writer)
    os.close(writer)
    assert os.read(reader, 1) == b"r"
    os.close(reader)
    assert len(list(temporary.iterdir())) == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert is_empty_within(temporary, 120)


def test_what_a_process_left_can_be_swept_by_another(temporary: Path) -> None:
    (temporary / f"readiness-of-{os.getpid()}-abc").mkdir()
    (temporary / "readiness-of-1-abc").mkdir()
    purge(os.getpid())
    assert [left.name for left in temporary.iterdir()] == ["readiness-of-1-abc"]
