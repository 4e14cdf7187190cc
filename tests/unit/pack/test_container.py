"""Folders and archives: the same bytes each time, whole or not at all, and nothing hostile is let in."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from readiness.errors import BadFileError, UsageError
from readiness.pack import container
from readiness.pack.container import AlteredError

FILES = {"manifest.json": b"{}\n", "assessments/a.json": b"[]" * 1000, "attachments/empty.bin": b""}


def test_an_archive_is_one_that_others_read_and_has_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    whole = container.archive(FILES)
    assert whole == container.archive(dict(reversed(FILES.items())))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())
        assert all(stat.S_ISREG(entry.external_attr >> 16) for entry in archive.infolist())
    container.write(tmp_path / "p.zip", FILES)
    assert container.read(tmp_path / "p.zip") == FILES


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    container.write(tmp_path / "p", FILES)
    assert container.read(tmp_path / "p") == FILES
    assert [file.name for file in tmp_path.iterdir()] == ["p"]


def test_nothing_is_left_where_it_cannot_be_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    monkeypatch.setattr(Path, "replace", full)
    for name in ("p", "p.zip"):
        with pytest.raises(UsageError, match="No space left"):
            container.write(tmp_path / name, FILES)
    assert [file.name for file in tmp_path.iterdir()] == []


def test_a_target_that_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.zip").mkdir()
    for name in ("there", "link", "folder.zip", "missing/p", "missing/p.zip"):
        with pytest.raises(UsageError):
            container.refuse_target(tmp_path / name)
    container.refuse_target(tmp_path / "new")
    container.refuse_target(tmp_path / "new.zip")


# ------------------------------------------------------------------------------------------------------ hostile archives


def made(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def named(name: str, content: bytes = b"x", **changes: int) -> bytes:
    """An archive as ours, with one file of any name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        for key, value in changes.items():
            setattr(entry, key, value)
        archive.writestr(entry, content)
    return buffer.getvalue()


def twice() -> bytes:
    whole = container.archive({"a": b"1", "b": b"2"})
    return whole.replace(b"b\x00", b"a\x00") if b"b\x00" in whole else whole.replace(b"b", b"a")


def overlapping() -> bytes:
    """Many files that are one and the same place in the archive."""
    whole = container.archive({f"f{number:04}": b"y" * 10_000 for number in range(50)})
    first = container.archive({"f0000": b"y" * 10_000})
    index = whole.index(b"PK\x01\x02")
    body = first[: first.index(b"PK\x01\x02")]
    entries = bytearray(whole[index:-22])
    for start in range(0, len(entries), 46 + 5):
        entries[start + 42 : start + 46] = bytes(4)
    end = bytearray(whole[-22:])
    end[12:20] = len(entries).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    return body + bytes(entries) + bytes(end)


def compressed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(50_000_000))
    return buffer.getvalue()


GOOD = container.archive(FILES)
HOSTILE = {
    "climbs": named("../../etc/passwd"),
    "absolute": named("/etc/passwd"),
    "backslash": named("a\\..\\b"),
    "drive": named("C:/x"),
    "dot": named("a/./b"),
    "hidden": named(".ssh/config"),
    "empty name": named(""),
    "newline": named("a\nb"),
    "not ascii": named("größe"),
    "bidirectional": named("a\u202eb"),
    "too deep": named("a/b/c/d/e/f"),
    "link": named("link", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16),
    "folder": named("folder/", b""),
    "compressed bomb": compressed(),
    "written by another program": made(**{"manifest.json": b"{}"}),
    "twice": twice(),
    "overlapping": overlapping(),
    "something before": b"#!/bin/sh\n" + GOOD,
    "something behind": GOOD + b"\n",
    "a comment": GOOD[:-2] + b"\x05\x00hello",
    "cut short": GOOD[:-10],
    "half": GOOD[: len(GOOD) // 2],
    "an index that is none": GOOD[:-10] + b"\xff" * 8 + b"\x00\x00",
    "too many files": container.archive({f"f{number}": b"" for number in range(container.MOST_FILES + 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_unpacked(name: str, tmp_path: Path) -> None:
    place = tmp_path / "p.zip"
    place.write_bytes(HOSTILE[name])
    with pytest.raises(AlteredError) as problem:
        container.read(place)
    assert problem.value.exit_code == 2
    assert [file.name for file in tmp_path.iterdir()] == ["p.zip"]


@pytest.mark.parametrize("content", [b"", b"hello" * 100, b"{}", b"\x89PNG\r\n"])
def test_what_was_never_a_pack_is_none_and_not_an_altered_one(content: bytes, tmp_path: Path) -> None:
    for place in (tmp_path / "p.zip", tmp_path / "p.txt"):
        place.write_bytes(content)
        with pytest.raises(BadFileError, match="no acceptance pack") as problem:
            container.read(place)
        assert not isinstance(problem.value, AlteredError)
        assert "readiness pack -o" in str(problem.value)
    with pytest.raises(BadFileError, match="none of the files of one") as problem:
        container.read(tmp_path)
    assert not isinstance(problem.value, AlteredError)


def test_a_pack_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "LARGEST_PACK_BYTES", 1000)
    container.write(tmp_path / "p", FILES)
    (tmp_path / "p.zip").write_bytes(GOOD)
    for name in ("p", "p.zip"):
        with pytest.raises(AlteredError, match="larger"):
            container.read(tmp_path / name)


# ------------------------------------------------------------------------------------------------------- hostile folders


def test_a_hostile_folder_is_refused(tmp_path: Path) -> None:
    def link(folder: Path) -> None:
        (folder / "link").symlink_to("/etc/passwd")

    def link_to_a_folder(folder: Path) -> None:
        (folder / "link").symlink_to("/etc")

    def pipe(folder: Path) -> None:
        os.mkfifo(folder / "pipe")

    def hidden(folder: Path) -> None:
        (folder / ".hidden").write_text("x")

    def odd(folder: Path) -> None:
        (folder / "a\nb").write_text("x")

    def empty(folder: Path) -> None:
        (folder / "empty").mkdir()

    def deep(folder: Path) -> None:
        (folder / "a/b/c/d/e").mkdir(parents=True)
        (folder / "a/b/c/d/e/f").write_text("x")

    for number, spoil in enumerate((link, link_to_a_folder, pipe, hidden, odd, empty, deep)):
        place = tmp_path / str(number)
        container.write(place, FILES)
        spoil(place)
        with pytest.raises(AlteredError):
            container.read(place)


def test_what_is_no_pack_is_a_mistake_in_the_path(tmp_path: Path) -> None:
    for name in ("nothing", "x" * 300, "a\0b"):
        with pytest.raises(BadFileError) as problem:
            container.read(tmp_path / name)
        assert not isinstance(problem.value, AlteredError)
    with pytest.raises(BadFileError, match="neither"):
        container.read(Path(os.devnull))
