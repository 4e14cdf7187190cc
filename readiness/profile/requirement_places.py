"""Places where requirements are declared, as kept in an assessment: readable elsewhere, and without this machine's
folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from readiness import package_data
from readiness.datamodel import Profile

#: Stands before a place in a profile that is shipped with readiness.
SHIPPED = "shipped:"


def places_of(profile: Profile) -> Mapping[str, str]:
    """By requirement `FILE:LINE`: `shipped:profiles/general.toml:12`, a path below this folder, or else the file's name."""
    shipped, here = package_data.shipped("profiles"), Path.cwd()
    files: dict[str, str] = {}
    found = {}
    for requirement in profile.requirements:
        file, _, line = (requirement.place or "").rpartition(":")
        if file and line.isdecimal():
            if file not in files:
                files[file] = _shown(Path(file).resolve(), shipped.resolve(), here)
            found[requirement.id] = f"{files[file]}:{line}"
    return found


def _shown(file: Path, shipped: Path, here: Path) -> str:
    if file.is_relative_to(shipped):
        return SHIPPED + str(PurePosixPath("profiles", *file.relative_to(shipped).parts))
    return file.relative_to(here).as_posix() if file.is_relative_to(here) else file.name
