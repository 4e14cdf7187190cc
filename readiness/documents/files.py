"""Files: strict and bounded reading of input, atomic writing, locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from readiness.errors import BadFileError, UsageError
from readiness.host.gc_pause import without_collection


def read_bytes(file: Path, *, largest_bytes: int, own: bool = False) -> bytes:
    """Read a regular file of bounded size, on request only this user's own (`open_own`). Raises BadFileError."""
    try:
        if not own and not file.is_file():
            what = "this is not a file" if file.exists() else "there is no such file"
            raise BadFileError(what, place=str(file), remedy="correct the path")
        with open_own(file, os.O_RDONLY) if own else file.open("rb") as stream:
            content = stream.read(largest_bytes + 1)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        reason = getattr(problem, "strerror", None) or problem
        remedy = "replace it by a file of your own, or name another folder" if own else "correct the path"
        raise BadFileError(f"it cannot be read: {reason}", place=repr(str(file)), remedy=remedy) from None
    if len(content) > largest_bytes:
        raise BadFileError(
            f"it is larger than {largest_bytes // 2**10} KiB, the maximum for such a file",
            place=str(file),
            remedy="give the intended file",
        )
    return content


def read_json(file: Path, *, largest_bytes: int, own: bool = False) -> Any:
    """Read a JSON file strictly: no NaN, no infinity, no repeated key. Raises BadFileError with the line."""
    return json_of(read_bytes(file, largest_bytes=largest_bytes, own=own), str(file))


def json_of(content: bytes, place: str) -> Any:
    """Parse the content of a JSON file, as `read_json` does. Raises BadFileError with the line."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise BadFileError(
            f"it is not UTF-8 text (byte {problem.start})", place=place, remedy="give a JSON file"
        ) from None
    try:
        return parse_json(text)
    except json.JSONDecodeError as problem:
        raise BadFileError(
            f"not JSON: {problem.msg} (column {problem.colno})",
            place=f"{place}:{problem.lineno}",
            remedy="give the unchanged file; it may be truncated",
        ) from None
    except RecursionError:
        raise BadFileError(
            "not JSON: it is nested too deeply", place=place, remedy="give the unchanged file"
        ) from None
    except ValueError as problem:
        line = _line_of(problem, text)
        at = place if line is None else f"{place}:{line}"
        raise BadFileError(f"not JSON: {problem}", place=at, remedy="give the unchanged file") from None


#: A text of JSON may hold so many values: as many as an assessment of the largest size, and few enough for memory.
MOST_VALUES = 16_000_000
#: No number of a document has so many digits.
_LONG_NUMBER = re.compile(r"[0-9]{400}")
#: What such a number is in every 40th character: a search of a large file takes a fortieth of the time.
_SAMPLE_STEP, _SAMPLED_NUMBER = 40, re.compile(r"[0-9]{10}")


class _RefusedError(ValueError):
    """Refused JSON, with the position of the literal or key."""

    def __init__(self, what: str, literal: str) -> None:
        super().__init__(what)
        self.literal = literal


def parse_json(content: str) -> Any:
    """Parse JSON text strictly. Raises ValueError (JSONDecodeError where the place is known) or RecursionError."""
    values = sum(map(content.count, ",[{"))  # at most: texts may hold these characters too
    if values > MOST_VALUES:
        raise ValueError(f"it has about {values:,} values; the maximum is {MOST_VALUES:,}")
    sampled = _SAMPLED_NUMBER.search(content[::_SAMPLE_STEP]) is not None
    long = _whole_number if sampled and _LONG_NUMBER.search(content) else None  # such digits may also stand in a text
    with without_collection():
        return json.loads(
            content, parse_constant=_no_constant, object_pairs_hook=_no_duplicates, parse_float=_finite, parse_int=long
        )


def _no_constant(constant: str) -> Any:
    raise _RefusedError(f"{constant} is not a JSON number", constant)


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) == len(pairs):
        return keys
    names = [name for name, _ in pairs]
    twice = next(name for position, name in enumerate(names) if name in names[:position])
    raise _RefusedError(f"the key {twice[:100]!r} occurs twice in one object", json.dumps(twice, ensure_ascii=False))


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _RefusedError(f"{digits[:40]} is too large for a number", digits)
    return number


def _whole_number(digits: str) -> int:
    if len(digits) > 400:
        raise _RefusedError(f"a number of {len(digits)} digits", digits)
    return int(digits)


def _line_of(problem: ValueError, text: str) -> int | None:
    """Return the line of what was refused; for a repeated key, the line of the second."""
    if not isinstance(problem, _RefusedError):
        return None
    wanted = re.escape(problem.literal)
    if problem.literal.startswith('"'):
        return None if len(text) > _LARGEST_WALKED else _line_of_second(text, problem.literal)
    found = re.match(rf'(?:"(?:[^"\\]++|\\.)*+"|(?!{wanted})[^"])*+({wanted})', text, re.DOTALL)
    return None if found is None else text.count("\n", 0, found.start(1)) + 1


#: Larger texts are not walked through for the line of a mistake.
_LARGEST_WALKED = 2**24
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"(?:\s*+:)?|[{}]', re.DOTALL)


def _line_of_second(text: str, literal: str) -> int | None:
    objects: list[bool] = []  # whether each object that is open has such a key
    for token in _TOKEN.finditer(text):
        first, last = token[0][0], token[0][-1]
        if first == "{":
            objects.append(False)
        elif not objects:
            return None  # past what could be parsed: the key is written in another way
        elif first == "}":
            objects.pop()
        elif last == ":" and token[0][:-1].rstrip() == literal:
            if objects[-1]:
                return text.count("\n", 0, token.start()) + 1
            objects[-1] = True
    return None


#: The mode of what only this user may write, before the user's mask.
OWN_MODE = 0o644
_LINK, _NO_FILE = "it is a symbolic link, and links are not followed", "it is not a regular file"


def open_own(file: Path, flags: int) -> IO[bytes]:
    """Open a file that readiness keeps for itself, with flags of `os.open`: a regular file owned by this user.

    Its folder may have come from somebody else. A link is not followed, a pipe is not waited for, and what others own, may
    write or have under another name is refused, before anything in it is read or changed. Raises OSError.
    """
    try:
        descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, OWN_MODE)
    except OSError as problem:
        if problem.errno in (errno.ELOOP, errno.EMLINK):
            raise PermissionError(errno.EPERM, _LINK, str(file)) from None
        if problem.errno in (errno.ENXIO, errno.EISDIR):
            raise PermissionError(errno.EPERM, _NO_FILE, str(file)) from None
        raise
    try:
        found = os.fstat(descriptor)
        if (refusal := _irregular(found) or _writable(found)) is not None:
            raise PermissionError(errno.EPERM, refusal, str(file))
        return os.fdopen(descriptor, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "r+b")
    except BaseException:
        os.close(descriptor)
        raise


def refuse_folder_of_others(folder: Path, *, follow: bool = True) -> None:
    """Refuse a folder of another user, or one that others may write: its content would be trusted.

    A link to a folder is one if told to `follow` it. Raises UsageError, and OSError where there is none.
    """
    found = folder.stat(follow_symlinks=follow)
    if not stat.S_ISDIR(found.st_mode):
        refusal: str | None = "it is not a folder"
    else:
        refusal = _of_others(found) or _writable(found)
    if refusal is not None:
        raise UsageError(
            f"{refusal}: other users may have put files there",
            place=str(folder),
            remedy=f"name a folder of your own, or check its content and take it over: chown, and chmod go-w {folder}",
        )


def refuse_file_of_others(file: Path) -> None:
    """Refuse anything but a regular file owned by this user. Raises UsageError."""
    if (refusal := _irregular(file.lstat())) is not None:
        raise UsageError(refusal, place=str(file), remedy="remove it, or name another folder")


def _irregular(found: os.stat_result) -> str | None:
    if stat.S_ISLNK(found.st_mode):
        return _LINK
    if not stat.S_ISREG(found.st_mode):
        return _NO_FILE
    return _of_others(found) or ("it has another name elsewhere (a hard link)" if found.st_nlink > 1 else None)


def _of_others(found: os.stat_result) -> str | None:
    own = os.geteuid()
    return None if found.st_uid == own else f"it belongs to user {found.st_uid}, not to user {own}, who runs readiness"


def _writable(found: os.stat_result) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    return f"other users may write to it (mode {mode:o})" if mode & (stat.S_IWGRP | stat.S_IWOTH) else None


#: As many links as Linux follows.
_MOST_LINKS = 40


def written_through(file: Path) -> Path:
    """Return the file to write for a name that may be a link: its target, for a link stays a link.

    A link or a pipe that another user has put into a folder that everybody may write, such as /tmp, is refused: this user
    would overwrite a file of his own, or wait for ever. Linux does the same where fs.protected_symlinks and protected_fifos
    are set, but not for a program that resolves links by itself. Raises OSError.
    """
    if file.name in ("", ".."):
        return Path(os.path.realpath(file))
    for _ in range(_MOST_LINKS):
        folder = Path(os.path.realpath(file.parent))
        file = folder / file.name
        try:
            found = file.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return file
        if not stat.S_ISREG(found.st_mode):
            _refuse_planted(file, found, folder.stat())
        if not stat.S_ISLNK(found.st_mode):
            return file
        file = folder / file.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(file))


def _refuse_planted(file: Path, found: os.stat_result, folder: os.stat_result) -> None:
    if folder.st_mode & stat.S_IWOTH and found.st_uid not in (os.geteuid(), folder.st_uid):
        what = f"user {found.st_uid} has put something else than a file into a folder that everybody may write"
        raise PermissionError(errno.EACCES, what, str(file))


def write_atomically(file: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a file whole or not at all: a reader never sees half of it. Raises OSError.

    What cannot be written, halves of surrogate pairs from a path or a variable that is no UTF-8, becomes a question mark.
    """
    write_bytes_atomically(file, text.encode("utf-8", "replace"), mode=mode)


def write_bytes_atomically(file: Path, content: bytes | Iterable[bytes], *, mode: int = 0o666) -> None:
    """Write bytes, or parts of them one by one, to a file whole or not at all. Raises OSError, and what the parts raise."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent or ".", prefix=f".{file.name}.")
    try:
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(descriptor, mode & ~mask)
        with os.fdopen(descriptor, "wb") as stream:
            stream.writelines([content] if isinstance(content, bytes) else content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_halves(file: Path) -> None:
    """Remove temporary files that a killed atomic write left, and nothing else.

    What cannot be removed stays: it is in nobody's way.
    """
    for half in file.parent.glob(f".{file.name}.????????"):
        if re.fullmatch("[a-z0-9_]{8}", half.suffix[1:]):  # as tempfile names them
            with contextlib.suppress(OSError):
                half.unlink()


def take_lock(folder: Path) -> IO[bytes] | None:
    """Lock a folder by a file in it until the result is closed; None if another process has the lock. Raises OSError."""
    lock = open_own(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        lock.close()
        if problem.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise  # a file system without locks (Lustre without `flock`) is nobody at work
    return lock
