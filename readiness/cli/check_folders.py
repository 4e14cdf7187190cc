"""The folders of checks that `--checks` names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from readiness.errors import UsageError
from readiness.package_data import CHECKS_VARIABLE


def add_checks(folders: Sequence[Path] | None) -> None:
    """Make folders of checks known to this process and to all its workers."""
    if not folders:
        return
    known = [folder for folder in os.environ.get(CHECKS_VARIABLE, "").split(os.pathsep) if folder]
    for folder in folders:
        if os.pathsep in str(folder):
            raise UsageError(f"the path contains {os.pathsep!r}", place=f"--checks {folder}", remedy="rename the folder")
        refuse_unless_folder(folder, f"--checks {folder}", "correct the path")
        if (found := os.path.realpath(folder)) not in known:
            known.append(found)
    os.environ[CHECKS_VARIABLE] = os.pathsep.join(known)


def refuse_unless_folder(folder: Path, place: str, remedy: str) -> None:
    """Raise UsageError where there is no folder of this name, or where no folder can have it."""
    try:
        there = folder.is_dir()
    except OSError as problem:  # of a name that is too long
        raise UsageError(f"it cannot be used: {problem.strerror}", place=place, remedy=remedy) from None
    if not there:
        raise UsageError("there is no such folder", place=place, remedy=remedy)
