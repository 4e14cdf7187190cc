"""The host's disks: whether one is full, and whether an error says so. Want of disk tells nothing about an accelerator."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

#: A file system with less than this left takes no file of any size any more.
LEAST_FREE_BYTES = 2**20
#: Where libraries share memory between processes: full, it ends them by SIGBUS.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing is written there

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
_WORDS = tuple(os.strerror(number).lower() for number in _NUMBERS)


def full(folders: Iterable[Path] = ()) -> str | None:
    """The first of these folders, of that for temporary files and of shared memory whose file system is full; else None."""
    with contextlib.suppress(FileNotFoundError):  # no folder takes temporary files: the one that was full has been named
        folders = (*folders, Path(tempfile.gettempdir()))
    for folder in (*folders, SHARED_MEMORY):
        with contextlib.suppress(OSError):
            room = os.statvfs(folder)
            # One without a bound counts no blocks, and many count no files.
            no_room = room.f_blocks and room.f_bavail * room.f_frsize < LEAST_FREE_BYTES
            if no_room or (room.f_files and not room.f_favail):
                return str(folder)
    return None


def is_want(problem: BaseException | None) -> bool:
    """Return whether an error, or its cause, says that a disk is full or a quota is used up."""
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        if (isinstance(problem, OSError) and problem.errno in _NUMBERS) or says_want(_text(problem)):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def says_want(text: str) -> bool:
    """Return whether a library's message, without the error number, says so."""
    return any(words in text.lower() for words in _WORDS)


def want(what: str) -> OSError:
    """The error that says that a disk is full, for whoever has found out by other means."""
    said = os.strerror(errno.ENOSPC)
    return OSError(errno.ENOSPC, what if said in what else f"{said}: {what}")


def refuse(failure: str, folders: Iterable[Path] = ()) -> None:
    """Raises OSError where a failure's words say want of disk, or a disk is full now: then it is no device's failure."""
    if says_want(failure):
        raise want(failure)
    if (folder := full(folders)) is not None:
        raise want(f"{folder} is full: {failure}")


def describe(problem: BaseException, words: str) -> str:
    """Describe an error; add that a full disk caused it, if the text does not say so."""
    return f"{words} ({os.strerror(errno.ENOSPC)})" if is_want(problem) and not says_want(words) else words


def _text(problem: BaseException) -> str:
    try:
        return str(problem)
    except Exception:  # noqa: BLE001 - an error whose words raise says nothing
        return ""
