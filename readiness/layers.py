"""Profiles laid over each other: a file stands over what it extends, and files that do not know each other must agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readiness.model import Operator, Use

#: An entry has one of these limits.
LIMIT_KEYS = tuple(operator.value for operator in Operator)


class Merged:
    """A profile while its parents are laid under it. The last file read is the one that was asked for."""

    def __init__(self) -> None:
        self.name = self.title = self.description = ""
        self.uses: tuple[Use, ...] = tuple(Use)
        self.entries: dict[str, dict[str, Any]] = {}
        self.places: dict[str, str] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.demanded: dict[str, dict[str, Any]] = {}  # as they stand in the files
        self.settings_places: dict[str, str] = {}
        self.ancestors: dict[Path, set[Path]] = {}
        self.owners: dict[str, Path] = {}
        self.conflicts: dict[str, tuple[Path, Path, str]] = {}  # by requirement: who said it, who says otherwise, and where

    def lay(self, entry: Mapping[str, Any], file: Path, place: str) -> None:
        """An entry of a file over what those before it said. Files of which neither extends the other must agree."""
        id, above = entry["id"], self.ancestors[file.resolve()]
        before = self.entries.get(id, {})
        self.entries[id], self.places[id] = _lay_over(before, entry), place
        owner = self.owners.get(id)
        if owner is not None and owner not in above and self.entries[id] != before:
            self.conflicts[id] = owner, file.resolve(), place
        elif id in self.conflicts and {*self.conflicts[id][:2]} <= above:
            del self.conflicts[id]
        self.owners[id] = file.resolve()


def _lay_over(parent: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry over its parent's of the same id: what it does not say stays, a new limit replaces the old one whole."""
    kept = dict(parent)
    if any(key in entry for key in LIMIT_KEYS):
        for key in (*LIMIT_KEYS, "zero"):
            kept.pop(key, None)
    return kept | dict(entry)
