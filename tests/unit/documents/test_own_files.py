"""Files that readiness keeps for itself: nobody else's are opened, whatever stands under their name."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from readiness.documents import files
from readiness.errors import BadFileError, UsageError
from readiness.probes.soak.soak_log import SoakLog

WRITING = os.O_RDWR | os.O_CREAT | os.O_APPEND


def link(file: Path) -> None:
    (file.parent / "target").write_bytes(b"precious")
    file.symlink_to(file.parent / "target")


def link_to_nothing(file: Path) -> None:
    file.symlink_to(file.parent / "target")


def second_name(file: Path) -> None:
    (file.parent / "target").write_bytes(b"precious")
    file.hardlink_to(file.parent / "target")


def open_to_all(file: Path) -> None:
    file.write_bytes(b"")
    file.chmod(0o666)


def open_to_the_group(file: Path) -> None:
    file.write_bytes(b"")
    file.chmod(0o664)


def of_another(file: Path) -> None:
    file.write_bytes(b"")
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(file, 4711, -1)


WAYS: dict[str, Callable[[Path], object]] = {
    "a symbolic link": link,
    "link, and": link_to_nothing,
    "a hard link": second_name,
    "mode 666": open_to_all,
    "mode 664": open_to_the_group,
    "belongs to user 4711": of_another,
    "not a regular file": os.mkfifo,
    "not a regular": Path.mkdir,
}


@pytest.mark.parametrize("words", WAYS)
@pytest.mark.parametrize("flags", [os.O_RDONLY, WRITING])
def test_what_is_no_file_of_ours_is_not_opened(words: str, flags: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    WAYS[words](file)
    with pytest.raises(PermissionError, match=re.escape(words)):
        files.open_own(file, flags)
    target = tmp_path / "target"
    assert not target.exists() or target.read_bytes() == b"precious"


@pytest.mark.parametrize("words", WAYS)
def test_nothing_of_ours_is_kept_or_locked_or_read_through_it(words: str, tmp_path: Path) -> None:
    for name in ("lock", "soak.jsonl"):
        (tmp_path / name).mkdir()
        WAYS[words](tmp_path / name / name)
    with pytest.raises(PermissionError, match=re.escape(words)):
        files.take_lock(tmp_path / "lock")
    with pytest.raises(PermissionError, match=re.escape(words)):
        SoakLog(tmp_path / "soak.jsonl" / "soak.jsonl")
    with pytest.raises(BadFileError, match=re.escape(words)):
        files.read_bytes(tmp_path / "lock" / "lock", largest_bytes=100, own=True)


def test_a_file_of_ours_is_opened_made_and_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "file"
    mask = os.umask(0o002)
    try:
        for _ in range(2):
            with files.open_own(file, WRITING) as stream:
                stream.read()
                stream.write(b"a line\n")
    finally:
        os.umask(mask)
    assert file.read_bytes() == b"a line\n" * 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o644, "whatever the mask: it is to be opened again"
    assert files.read_bytes(file, largest_bytes=100, own=True) == b"a line\n" * 2


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o775, True), (0o757, True), (0o1777, True), (0o755, False), (0o700, False)])
def test_a_folder_that_others_may_write_is_refused(mode: int, refused: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    if not refused:
        files.refuse_folder_of_others(folder)
        return
    with pytest.raises(UsageError, match=f"other users may write to it .mode {mode:o}") as problem:
        files.refuse_folder_of_others(folder)
    assert "chmod go-w" in (problem.value.remedy or "")


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    of_another_ = tmp_path / "folder"
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    os.chown(of_another_, 4711, -1)
    with pytest.raises(UsageError, match="it belongs to user 4711, not to user 0"):
        files.refuse_folder_of_others(of_another_)


def test_a_link_to_a_folder_is_followed_only_where_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    files.refuse_folder_of_others(tmp_path / "link")
    with pytest.raises(UsageError, match="it is not a folder"):
        files.refuse_folder_of_others(tmp_path / "link", follow=False)
