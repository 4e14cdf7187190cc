"""Storage of runs between commands: journals, and the last run."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from functools import cache
from pathlib import Path

from readiness.documents import files
from readiness.errors import BadFileError, UsageError

#: Older runs are removed when a new one ends.
RUNS_KEPT = 20
_LONGEST_PATH_BYTES = 2**16
#: Files of the state folder with the path of the last run that finished, and of one that was interrupted since.
_FINISHED, _INTERRUPTED = "last", "interrupted"
#: A run without a whole result that has written nothing for so long goes on no more.
GIVEN_UP_S = 86400.0


@cache
def folder() -> Path:
    """Return the user's state folder, or a temporary one if that is not writable (a health program without a home)."""
    import platformdirs

    try:
        place: Path = platformdirs.user_state_path("readiness", appauthor=False)
        (place / "runs").mkdir(parents=True, exist_ok=True)
        if os.access(place / "runs", os.W_OK):
            return place
    except (OSError, RuntimeError):  # nobody's home: a user that no list of users has
        pass
    return _in_temporary() or Path(tempfile.mkdtemp(prefix="readiness-state-"))


def _in_temporary() -> Path | None:
    """Return always the same temporary folder, so that runs do not pile up; None if another user may have created it."""
    place = Path(tempfile.gettempdir()) / f"readiness-state-{os.getuid()}"
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            (place / "runs").mkdir(exist_ok=True)
            return place
    return None


def new_run_folder() -> Path:
    """Return a folder for a new run; it is created with its journal."""
    # Containers that share a home begin in the same second as the same process number.
    return folder() / "runs" / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}-{secrets.token_hex(3)}"


def prune_runs() -> None:
    """Remove all but the newest runs, if finished or abandoned. What cannot be removed stays."""
    with contextlib.suppress(OSError):
        found = [path for path in (folder() / "runs").iterdir() if not path.is_symlink()]
        runs = sorted(path for path in found if (path / "run.json").exists())
        for old in runs[:-RUNS_KEPT]:
            with contextlib.suppress(OSError):
                _remove(old)


def _remove(run: Path) -> None:
    """Remove a run that is not in use and will not be continued. Raises OSError."""
    lock = files.take_lock(run)
    if lock is None:
        return
    with lock:
        if not _goes_on(run):
            shutil.rmtree(run, ignore_errors=True)


def _goes_on(run: Path) -> bool:
    """Return whether a run may be continued, or is in use on another machine that shares this folder.

    One that was interrupted has an assessment too, of what there was until then.
    """
    with contextlib.suppress(BadFileError):
        assessment = run / "assessment.json"
        if assessment.exists() and not files.read_json(assessment, largest_bytes=2**28).get("interrupted", False):
            return False
    written = [run / "run.json", run / "journal.jsonl", *(run / "kept").glob("*")]
    return time.time() - max((file.lstat().st_mtime for file in written if os.path.lexists(file)), default=0.0) < GIVEN_UP_S


def remember_last(run: Path, *, interrupted: bool = False) -> None:
    """Record the last finished run, or that one was interrupted since."""
    with contextlib.suppress(OSError):
        name = _INTERRUPTED if interrupted else _FINISHED
        files.write_bytes_atomically(folder() / name, os.fsencode(os.path.realpath(run)), mode=files.OWN_MODE)
        if not interrupted:
            (folder() / _INTERRUPTED).unlink(missing_ok=True)


def latest_run(place: str, remedy: str) -> tuple[Path, bool]:
    """Return the folder of the last run and whether it was interrupted: for people, who want to see what they just did.

    What gates a node or is built upon takes the last finished one (`last_run`). Raises UsageError as that does.
    """
    if os.path.lexists(folder() / _INTERRUPTED):
        with contextlib.suppress(UsageError):
            return _run_in(_INTERRUPTED, place, remedy), True
    return last_run(place, remedy), False


def last_run(place: str, remedy: str) -> Path:
    """Return the folder of the last finished run, with its assessment. Raises UsageError, from `place`, if there is none.

    Nor is one taken that others may have changed since: nobody has named it, and it would be believed.
    """
    return _run_in(_FINISHED, place, remedy)


class NoLastRunError(UsageError):
    """No run was kept yet, or what names the last one is gone."""


def _run_in(name: str, place: str, remedy: str) -> Path:
    try:
        last = Path(os.fsdecode(files.read_bytes(folder() / name, largest_bytes=_LONGEST_PATH_BYTES, own=True)))
        there = (last / "assessment.json").is_file()
    except (BadFileError, OSError, ValueError):  # ValueError: a NUL in the path
        raise NoLastRunError("there is no last run", place=place, remedy=remedy) from None
    if not there:
        raise UsageError(f"the last run no longer exists ({last})", place=place, remedy=remedy)
    try:
        files.refuse_folder_of_others(last)
        files.open_own(last / "assessment.json", os.O_RDONLY).close()
    except OSError as problem:
        what = f"the last run's assessment is not to be believed: {problem.strerror} ({last / 'assessment.json'})"
        raise UsageError(what, place=place, remedy=remedy) from None
    return last


def profile_of_run(run: Path) -> str | None:
    """Return the profile as named in a run's request; None if unknown."""
    with contextlib.suppress(BadFileError):
        document = files.read_json(run / "run.json", largest_bytes=2**24, own=True)
        match document:
            case {"asked": {"profile": str(profile)}}:
                return profile
    return None
