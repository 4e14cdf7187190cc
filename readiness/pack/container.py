"""A pack as a folder or as a zip archive, written whole or not at all, and read strictly.

An archive is stored without compression, in one order, with fixed times and without anything between the files: the same
files give the same bytes on every machine, and no change of a single bit is left unseen. Other archives are refused, so that
links, duplicates, names that climb out of the folder and bombs of compression have no way in.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from readiness.documents.files import write_bytes_atomically
from readiness.errors import BadFileError, UsageError

#: A pack of more is refused before it is read.
LARGEST_PACK_BYTES = 2**30
MOST_FILES = 5000
#: Names of files within a pack: nothing that a file system, a shell or a page reads in another way.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,120}){0,3}")
#: Files that every pack has; a folder without all of them is none.
_MARKS = ("manifest.json", "pack.json", "statement.json", "assessments")
_ZIP, _ZIP_END, _FARTHEST_END = b"PK\x03\x04", b"PK\x05\x06", 2**16 + 22
_MODE = 0o100644 << 16
_VERSION, _STORED = 20, 0
_DATE = 0x21  # 1980-01-01, the first day of the format
_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")

Files = Mapping[str, bytes]


class AlteredError(BadFileError):
    """A pack is not as it was written. `name` is the file in it, empty where it is the pack itself."""

    def __init__(self, what: str, *, place: Path, name: str = "", remedy: str = "") -> None:
        self.name = name
        super().__init__(
            what, place=f"{place}, {name}" if name else str(place),
            remedy=remedy or "ask whoever made the pack for another copy",
        )


def write(target: Path, files: Files) -> None:
    """Write a pack: a zip archive where the name ends so, else a folder that must not exist. Raises UsageError."""
    try:
        if is_archive(target):
            write_bytes_atomically(Path(os.path.realpath(target)), archive(files))
        else:
            _write_folder(target, files)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise UsageError(
            f"the pack cannot be written: {reason}", place=str(target),
            remedy="name a new file or folder where you may write",
        ) from None


def refuse_target(target: Path) -> None:
    """Find out before any work that a pack cannot be written there. Raises UsageError."""
    where = Path(os.path.realpath(target))
    if is_archive(target):
        if where.exists() and not where.is_file():
            raise UsageError("it is no file", place=str(target), remedy="name another file that ends in .zip")
    elif os.path.lexists(target):
        raise UsageError(
            "it is there already, and a pack is never mixed with other files", place=str(target),
            remedy="name a new folder, or a file that ends in .zip",
        )
    if not where.parent.is_dir():
        raise UsageError("its folder does not exist", place=str(target), remedy="create it first, or correct the path")
    if not os.access(where.parent, os.W_OK):
        raise UsageError("its folder cannot be written", place=str(target), remedy="name one where you may write")


def is_archive(target: Path) -> bool:
    """Return whether a pack of this name is a zip archive."""
    return target.suffix.lower() == ".zip"


def _write_folder(target: Path, files: Files) -> None:
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for name, content in files.items():
            file = temporary / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        os.sync()
        temporary.rename(target)  # fails where somebody has put something there meanwhile
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def archive(files: Files) -> bytes:
    """The one zip archive of these files."""
    body, index = bytearray(), bytearray()
    for name, content in sorted(files.items()):
        encoded, crc, size = name.encode("ascii"), zlib.crc32(content), len(content)
        index += _CENTRAL.pack(
            b"PK\x01\x02", _VERSION, 3, _VERSION, 0, 0, 0, 0, _DATE, crc, size, size,
            len(encoded), 0, 0, 0, 0, _MODE, len(body),
        ) + encoded
        body += _LOCAL.pack(b"PK\x03\x04", _VERSION, 0, 0, 0, 0, _DATE, crc, size, size, len(encoded), 0) + encoded + content
    end = _END.pack(b"PK\x05\x06", 0, 0, len(files), len(files), len(index), len(body), 0)
    return bytes(body + index + end)


def read(place: Path) -> dict[str, bytes]:
    """All files of a pack by name. Raises AlteredError for one that is not as it was, BadFileError where there is none."""
    try:
        mode = os.stat(place).st_mode  # noqa: PTH116 - which raises ValueError for a path that is none
    except (OSError, ValueError) as problem:
        reason = "there is no such file or folder" if _is_missing(problem) else getattr(problem, "strerror", None) or problem
        raise BadFileError(str(reason), place=str(place), remedy="correct the path") from None
    if stat.S_ISDIR(mode):
        if not any(os.path.lexists(place / name) for name in _MARKS):
            raise _no_pack("the folder has none of the files of one", place)
        return _read_folder(place)
    if not stat.S_ISREG(mode):
        raise BadFileError("it is neither a file nor a folder", place=str(place), remedy="correct the path")
    return _read_archive(place)


def _no_pack(why: str, place: Path) -> BadFileError:
    return BadFileError(
        f"this is no acceptance pack: {why}", place=str(place),
        remedy="give the folder or the zip archive that `readiness pack -o` wrote",
    )


def _is_missing(problem: Exception) -> bool:
    return isinstance(problem, OSError) and problem.errno in (errno.ENOENT, errno.ENOTDIR)


def _read_folder(place: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    total = 0
    for entry, name in _walk(place, ""):
        if not NAME.fullmatch(name):
            raise AlteredError("no file of a pack has such a name", place=place, name=ascii(name))
        if len(found) >= MOST_FILES:
            raise AlteredError(f"it holds more than {MOST_FILES} files", place=place)
        if not entry.is_file(follow_symlinks=False):
            raise AlteredError("it is not a regular file", place=place, name=name)
        total += entry.stat(follow_symlinks=False).st_size
        _refuse_large(total, place)
        try:
            with os.fdopen(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
                found[name] = stream.read(LARGEST_PACK_BYTES)
        except OSError as problem:
            raise AlteredError(f"it cannot be read: {problem.strerror}", place=place, name=name) from None
    return found


def _walk(folder: Path, above: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield every file below a folder, and every link, pipe and empty folder."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as problem:
        raise AlteredError(f"it cannot be read: {problem.strerror}", place=folder) from None
    for entry in entries:
        name = f"{above}{entry.name}"
        if not entry.is_dir(follow_symlinks=False):
            yield entry, name
        elif name.count("/") > 3 or not os.listdir(entry.path):  # noqa: PTH208 - a name is enough
            raise AlteredError("no pack has such a folder in it", place=folder, name=ascii(name))
        else:
            yield from _walk(Path(entry.path), f"{name}/")


def _refuse_large(size: int, place: Path) -> None:
    if size > LARGEST_PACK_BYTES:
        raise AlteredError(f"it is larger than {LARGEST_PACK_BYTES >> 20} MiB, the most a pack may have", place=place)


_OTHER = "unpack it yourself where you trust it, and verify the folder"


def _read_archive(place: Path) -> dict[str, bytes]:
    try:
        _refuse_large(place.stat().st_size, place)
        whole = place.read_bytes()
    except OSError as problem:
        raise BadFileError(f"it cannot be read: {problem.strerror}", place=str(place), remedy="correct the path") from None
    if not whole.startswith(_ZIP) and _ZIP_END not in whole[-_FARTHEST_END:]:  # of an altered one, one of the two is left
        raise _no_pack("it is neither a folder nor a zip archive", place)
    found: dict[str, bytes] = {}
    for name, start, size in _entries(whole, place):
        if not NAME.fullmatch(name):
            raise AlteredError("no file of a pack has such a name", place=place, name=ascii(name), remedy=_OTHER)
        if name in found:
            raise AlteredError("it stands in the archive twice", place=place, name=name, remedy=_OTHER)
        found[name] = whole[start : start + size]
    if archive(found) != whole:
        name = _first_difference(found, whole)
        raise AlteredError("the archive is not as it was written", place=place, name=name, remedy=_OTHER)
    return found


def _entries(whole: bytes, place: Path) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each file, by the index at the end. Nothing is unpacked."""
    if len(whole) < _END.size or whole[-_END.size : -_END.size + 4] != b"PK\x05\x06":
        raise AlteredError("it is no zip archive, or its end is not as it was written", place=place, remedy=_OTHER)
    total = 0
    *_, count, _, length, at, _ = _END.unpack(whole[-_END.size :])
    if count > MOST_FILES or at + length + _END.size != len(whole):
        raise AlteredError("the index of the archive is not as it was written", place=place, remedy=_OTHER)
    for _ in range(count):
        if at + _CENTRAL.size > len(whole) or whole[at : at + 4] != b"PK\x01\x02":
            raise AlteredError("the index of the archive is not as it was written", place=place, remedy=_OTHER)
        fields = _CENTRAL.unpack_from(whole, at)
        method, start = fields[6], fields[-1]
        packed, size, name_length, extra, comment = fields[10:15]
        name = whole[at + _CENTRAL.size : at + _CENTRAL.size + name_length].decode("ascii", "backslashreplace")
        if method != _STORED or packed != size:
            raise AlteredError("it is compressed, and nothing in a pack is", place=place, name=ascii(name), remedy=_OTHER)
        if (total := total + size) > len(whole):
            raise AlteredError("its files overlap", place=place, name=ascii(name), remedy=_OTHER)
        yield name, start + _LOCAL.size + name_length, size
        at += _CENTRAL.size + name_length + extra + comment


def _first_difference(found: Files, whole: bytes) -> str:
    """The file in whose part of the archive the first difference lies; empty where it is none of them."""
    position = 0
    for name, content in sorted(found.items()):
        part = archive({name: content})
        length = _LOCAL.size + len(name) + len(content)
        if whole[position : position + length] != part[:length]:
            return name
        position += length
    return ""
