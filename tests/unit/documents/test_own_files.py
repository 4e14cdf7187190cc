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
from tests.support.other_users import planted

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
def test_a_foreign_file_is_not_opened(words: str, flags: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    WAYS[words](file)
    with pytest.raises(PermissionError, match=re.escape(words)):
        files.open_own(file, flags)
    target = tmp_path / "target"
    assert not target.exists() or target.read_bytes() == b"precious"


@pytest.mark.parametrize("words", WAYS)
def test_nothing_is_kept_locked_or_read_through_a_link(words: str, tmp_path: Path) -> None:
    for name in ("lock", "soak.jsonl"):
        (tmp_path / name).mkdir()
        WAYS[words](tmp_path / name / name)
    with pytest.raises(PermissionError, match=re.escape(words)):
        files.take_lock(tmp_path / "lock")
    with pytest.raises(PermissionError, match=re.escape(words)):
        SoakLog(tmp_path / "soak.jsonl" / "soak.jsonl")
    with pytest.raises(BadFileError, match=re.escape(words)):
        files.read_bytes(tmp_path / "lock" / "lock", largest_bytes=100, own=True)


def test_an_own_file_is_created_opened_and_appended_to(tmp_path: Path) -> None:
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


def test_a_link_to_a_folder_is_followed_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    files.refuse_folder_of_others(tmp_path / "link")
    with pytest.raises(UsageError, match="it is not a folder"):
        files.refuse_folder_of_others(tmp_path / "link", follow=False)


@pytest.mark.parametrize("mode", [0o1777, 0o777])
@pytest.mark.parametrize("way", ["a link", "a link to nothing", "a pipe"])
def test_what_another_user_put_where_everybody_may_write_is_not_written_through(way: str, mode: int, tmp_path: Path) -> None:
    file = planted(tmp_path, way, mode)
    with pytest.raises(PermissionError, match="user 4711 has put something else than a file into a folder that everybody"):
        files.written_through(file)
    (tmp_path / "own").symlink_to(file)
    with pytest.raises(PermissionError, match="user 4711"):
        files.written_through(tmp_path / "own")
    os.chown(file, 0, -1, follow_symlinks=False)
    assert files.written_through(file) == (file if way == "a pipe" else file.readlink())


def test_links_are_written_through_to_their_end_and_no_further(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one").symlink_to("../two")
    (tmp_path / "two").symlink_to(tmp_path / "folder" / "three")
    (tmp_path / "there").symlink_to("folder")
    assert files.written_through(tmp_path / "there" / "one") == tmp_path / "folder" / "three"
    assert files.written_through(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        files.written_through(tmp_path / "loop")


def test_halves_that_cannot_be_removed_are_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".run.json.abcdefgh").mkdir()
    (tmp_path / ".run.json.12345678").write_text("{")
    (tmp_path / ".run.json.of-users").write_text("{")
    files.remove_halves(tmp_path / "run.json")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".run.json.abcdefgh", ".run.json.of-users"]
