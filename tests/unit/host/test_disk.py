"""Want of disk is told from all other errors, whoever wraps it, and a full file system from one with room."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from readiness.host import disk

ROOM = {"f_frsize": 4096, "f_blocks": 10**6, "f_bavail": 10**5, "f_files": 1000, "f_favail": 10}


def caught(raising: object) -> BaseException:
    with pytest.raises(BaseException) as info:
        raising()  # type: ignore[operator]
    return info.value


def wrapped(problem: Exception) -> BaseException:
    def raising() -> None:
        try:
            raise problem
        except Exception as cause:
            raise RuntimeError("the file could not be written") from cause

    return caught(raising)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_known_by_its_number_its_words_and_its_cause(number: int) -> None:
    problem = OSError(number, os.strerror(number))
    assert disk.is_disk_full(problem)
    assert disk.is_disk_full(wrapped(problem))
    assert disk.is_disk_full(RuntimeError(f"NCCL: {os.strerror(number).upper()}"))
    assert disk.is_disk_full(disk.full_error("the checkpoint"))


def test_another_error_is_none() -> None:
    for problem in (OSError(errno.EIO, "Input/output error"), wrapped(ValueError("no")), KeyError("space"), None):
        assert not disk.is_disk_full(problem)


def test_what_torch_raises_over_a_full_disk_is_known() -> None:
    """Its words say nothing of a disk; the error that led to it does."""
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        problem = caught(lambda: torch.save({"a": torch.zeros(10_000)}, full))
    assert disk.is_disk_full(problem)
    assert disk.mentions_full_disk(disk.describe(problem, "RuntimeError: unexpected pos"))


def test_circular_and_unprintable_errors_end() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no output")

    one, other = MuteError(), ValueError()
    one.__context__, other.__context__ = other, one
    assert not disk.is_disk_full(one)


@pytest.mark.parametrize(
    ("changes", "full"),
    [
        ({}, False),
        ({"f_bavail": 255}, True),
        ({"f_bavail": 256}, False),
        ({"f_blocks": 0, "f_bavail": 0}, False),  # no bound is set
        ({"f_favail": 0}, True),
        ({"f_files": 0, "f_favail": 0}, False),  # files are not counted there
    ],
)
def test_a_full_file_system_is_distinguished_from_one_without_a_bound(
    changes: dict[str, int], full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = {tmp_path: SimpleNamespace(**ROOM | changes)}
    monkeypatch.setattr(os, "statvfs", lambda folder: room.get(folder, SimpleNamespace(**ROOM)))
    assert disk.full([tmp_path]) == (str(tmp_path) if full else None)
    if full:
        with pytest.raises(OSError, match=f"{tmp_path} is full: rank 1 raised") as info:
            disk.raise_if_full("rank 1 raised", [tmp_path])
        assert info.value.errno == errno.ENOSPC
    else:
        disk.raise_if_full("rank 1 raised", [tmp_path])


def test_a_failure_that_mentions_a_full_disk_is_no_device_failure() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/shm/nccl'"):
        disk.raise_if_full("No space left on device: '/dev/shm/nccl'")


def test_a_folder_that_is_not_there_is_not_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(disk, "SHARED_MEMORY", tmp_path / "gone too")
    monkeypatch.setattr(disk, "LEAST_FREE_BYTES", 0)
    assert disk.full([tmp_path / "gone"]) is None
    monkeypatch.setattr(disk, "LEAST_FREE_BYTES", 2**63)
    assert disk.full([tmp_path / "gone"]) == str(tmp_path)
