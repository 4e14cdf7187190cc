"""The host's disks: detect a full one, and errors caused by it. A full disk says nothing about an accelerator."""

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


def is_disk_full(problem: BaseException | None) -> bool:
    """Return whether an error, or its cause, says that a disk is full or a quota is used up."""
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        if (isinstance(problem, OSError) and problem.errno in _NUMBERS) or mentions_full_disk(_text(problem)):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def mentions_full_disk(text: str) -> bool:
    """Return whether a library's message, without the error number, says that a disk is full."""
    return any(words in text.lower() for words in _WORDS)


def full_error(what: str) -> OSError:
    """Return the OSError of a full disk, for callers that found out by other means."""
    message = os.strerror(errno.ENOSPC)
    return OSError(errno.ENOSPC, what if message in what else f"{message}: {what}")


def raise_if_full(failure: str, folders: Iterable[Path] = ()) -> None:
    """Raise OSError if a failure's words mention a full disk, or a disk is full now: then it is no failure of the device."""
    if mentions_full_disk(failure):
        raise full_error(failure)
    if (folder := full(folders)) is not None:
        raise full_error(f"{folder} is full: {failure}")


def describe(problem: BaseException, words: str) -> str:
    """Describe an error; add that a full disk caused it, if the text does not say so."""
    return f"{words} ({os.strerror(errno.ENOSPC)})" if is_disk_full(problem) and not mentions_full_disk(words) else words


def _text(problem: BaseException) -> str:
    try:
        return str(problem)
    except Exception:  # noqa: BLE001 - an error whose words raise says nothing
        return ""
