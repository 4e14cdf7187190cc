"""The folders of checks that `--checks` names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from readiness.content import CHECKS_VARIABLE
from readiness.errors import UsageError


def add_checks(folders: Sequence[Path] | None) -> None:
    """Make folders of checks known to this process and to all its workers."""
    if not folders:
        return
    known = [folder for folder in os.environ.get(CHECKS_VARIABLE, "").split(os.pathsep) if folder]
    for folder in folders:
        if os.pathsep in str(folder):
            raise UsageError(f"the path has a {os.pathsep!r} in it", place=f"--checks {folder}", remedy="rename the folder")
        if not folder.is_dir():
            raise UsageError("there is no such folder", place=f"--checks {folder}", remedy="correct the path")
        if str(folder.resolve()) not in known:
            known.append(str(folder.resolve()))
    os.environ[CHECKS_VARIABLE] = os.pathsep.join(known)
