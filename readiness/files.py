"""Reading what people and other programs hand in, strictly and within bounds; writing whole or not at all; locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from readiness.errors import BadFileError


def read_bytes(file: Path, *, largest_bytes: int) -> bytes:
    """The content of a regular file of bounded size. Raises BadFileError with the remedy."""
    try:
        if not file.is_file():
            what = "this is not a file" if file.exists() else "there is no such file"
            raise BadFileError(what, place=str(file), remedy="correct the path")
        with file.open("rb") as stream:
            content = stream.read(largest_bytes + 1)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        raise BadFileError(f"it cannot be read: {problem}", place=repr(str(file)), remedy="correct the path") from None
    if len(content) > largest_bytes:
        raise BadFileError(
            f"it is larger than {largest_bytes // 2**10} KiB, the most such a file may have",
            place=str(file),
            remedy="give the file that was meant",
        )
    return content


def read_json(file: Path, *, largest_bytes: int) -> Any:
    """A JSON file read strictly: no NaN, no infinity, no key twice. Raises BadFileError with the line."""
    try:
        content = read_bytes(file, largest_bytes=largest_bytes).decode("utf-8")
        return parse_json(content)
    except UnicodeDecodeError as problem:
        raise BadFileError(
            f"it is not UTF-8 text (byte {problem.start})", place=str(file), remedy="give a JSON file"
        ) from None
    except json.JSONDecodeError as problem:
        raise BadFileError(
            f"not JSON: {problem.msg} (column {problem.colno})",
            place=f"{file}:{problem.lineno}",
            remedy="give the file as it was written; it may have been cut short",
        ) from None
    except (ValueError, RecursionError) as problem:
        what = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise BadFileError(f"not JSON: {what}", place=str(file), remedy="give the file as it was written") from None


def parse_json(content: str) -> Any:
    """JSON text read strictly. Raises ValueError (JSONDecodeError where the place is known) or RecursionError."""

    def no_constant(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON number")

    def no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for name, value in pairs:
            if name in keys:
                raise ValueError(f"the key {name!r} stands twice in one object")
            keys[name] = value
        return keys

    return json.loads(content, parse_constant=no_constant, object_pairs_hook=no_duplicates)


def write_atomically(file: Path, text: str) -> None:
    """Write a file whole or not at all: a reader never sees half of it. Raises OSError.

    What cannot be written, halves of surrogate pairs from a path or a variable that is no UTF-8, becomes a question mark.
    """
    write_bytes_atomically(file, text.encode("utf-8", "replace"))


def write_bytes_atomically(file: Path, content: bytes) -> None:
    """The same for what is no text. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent or ".", prefix=f".{file.name}.")
    try:
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(descriptor, 0o666 & ~mask)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_halves(file: Path) -> None:
    """Remove what a kill kept from being put in the place of a file that is written atomically, and nothing else."""
    for half in file.parent.glob(f".{file.name}.????????"):
        if re.fullmatch("[a-z0-9_]{8}", half.suffix[1:]):  # as tempfile names them
            half.unlink(missing_ok=True)


def take_lock(folder: Path) -> IO[bytes] | None:
    """Hold a folder by a file in it, until what is returned is closed; None where another process does. Raises OSError."""
    lock = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        lock.close()
        if problem.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise  # a file system without locks (Lustre without `flock`) is nobody at work
    return lock
