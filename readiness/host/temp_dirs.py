"""Temporary files and folders that are removed however the process that made them ends, even if the whole tool is killed.

Files without names need no care and are used wherever they will do; a folder is for libraries that want a path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

#: Waits until its input ends, which it does with the last process that holds the other end of the pipe, and clears away.
#: Without a word before, the process was killed: another one may still have been writing.
_CLEANUP_SCRIPT = 'read -r word; rm -rf -- "$1"; if [ -z "$word" ]; then sleep 1; rm -rf -- "$1"; fi'
_PURGE_S = 5.0
#: In a worker and in all that it starts: what paths begin with that are removed once the worker has ended.
PURGED_VARIABLE = "READINESS_SWEPT"


def anonymous_file(name: str) -> BinaryIO:
    """Open a file without a name: it is deleted with the last process that uses it."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(name), "w+b")
    return tempfile.TemporaryFile("w+b")


def bounded_file(name: str, most_bytes: int) -> BinaryIO:
    """Open such a file for another process, with a size limit enforced by the kernel (Linux)."""
    if not hasattr(fcntl, "F_ADD_SEALS"):
        return anonymous_file(name)
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, most_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return os.fdopen(descriptor, "w+b")


@contextlib.contextmanager
def temp_dir(within: Path | None = None) -> Iterator[Path]:
    """Create a temporary folder, optionally within another one; it is removed at the end of the block.

    A small process of its own stands by for the case that this one does not come to that. Raises OSError.
    """
    folder = tempfile.mkdtemp(prefix=_prefix(os.getpid()), dir=within)
    helper = subprocess.Popen(
        ["/bin/sh", "-c", _CLEANUP_SCRIPT, "sh", folder],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
    )  # fmt: skip
    assert helper.stdin is not None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(BrokenPipeError):
            helper.stdin.write(b"done\n")
            helper.stdin.close()
        try:
            helper.wait(_PURGE_S)
        except subprocess.TimeoutExpired:
            helper.kill()
            helper.wait()


#: The name of `temp_dir` in earlier versions, for checks of users.
scratch = temp_dir


def purged_prefix() -> str:
    """Return the prefix of paths that `purge` removes after this process has ended."""
    return str(Path(tempfile.gettempdir()) / _prefix(os.getpid()))


def purge(pid: int) -> None:
    """Remove the temporary folders of a process that has ended, for the process that has killed it together with its
    cleanup helper.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_prefix(pid)}*"):
        shutil.rmtree(left, ignore_errors=True)


def _prefix(pid: int) -> str:
    return f"readiness-of-{pid}-"
