"""Inheritance of profiles: a file overrides what it extends; files of which neither extends the other must agree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from readiness.datamodel import Operator, Use

#: An entry has one of these limits.
LIMIT_KEYS = tuple(operator.value for operator in Operator)
#: A requirement by its id, a setting of a check, a value, or the uses: `("require", id)`, `("setting", check, name)`,
#: `("value", name)`, `("uses",)`.
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Declaration:
    """Value of a requirement (its entry), a setting (as it stands, and resolved) or another key, and which files declare it.

    `place` is where it was declared last. The value of a requirement that was dropped is None.
    """

    value: Any
    owners: frozenset[Path]
    place: str


@dataclass(slots=True)
class ResolvedProfile:
    """A profile file merged with what it extends. `ancestors` are the files that it extends, near and far."""

    file: Path
    ancestors: frozenset[Path] = frozenset()
    name: str = ""
    title: str = ""
    description: str = ""
    declared: dict[Key, Declaration] = field(default_factory=dict)
    conflicts: dict[Key, tuple[Declaration, Declaration]] = field(default_factory=dict)

    def declare(self, key: Key, value: Any, place: str) -> None:
        """Declare a key in the file itself: it overrides what its parents declare."""
        self.declared[key] = Declaration(value, frozenset({self.file}), place)
        self.conflicts.pop(key, None)

    @property
    def uses(self) -> tuple[Use, ...] | None:
        """The uses that it is about; None where no file declares them."""
        declared = self.declared.get(("uses",))
        return None if declared is None else declared.value

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The requirements by id, without those that were dropped."""
        found = {key[1]: declared.value for key, declared in self.declared.items() if key[0] == "require"}
        return {id: entry for id, entry in found.items() if entry is not None}

    def entry(self, id: str) -> dict[str, Any]:
        """Return the requirement of this id; empty where there is none, or it was dropped."""
        declared = self.declared.get(("require", id))
        return {} if declared is None or declared.value is None else declared.value

    @property
    def values(self) -> dict[str, str]:
        """The values of names in braces."""
        return {key[1]: found.value for key, found in self.declared.items() if key[0] == "value"}

    def level_weight(self, level: str) -> float:
        """By how much the weights of requirements of a level are multiplied; 1 where nobody says."""
        declared = self.declared.get(("weights", level))
        return 1 if declared is None else declared.value

    def place(self, id: str) -> str:
        """Return the last place where a requirement was declared."""
        return self.declared["require", id].place

    def settings(self, *, resolved: bool) -> dict[str, dict[str, Any]]:
        """The settings by check and name, each `{NAME}` replaced: as they stand in the files, or resolved."""
        found: dict[str, dict[str, Any]] = {}
        values = self.values
        for check, name, declared in self._settings():
            value = declared.value[resolved]
            in_lists = [replace_names(item, values) for item in value] if isinstance(value, list) else value
            found.setdefault(check, {})[name] = replace_names(in_lists, values)
        return found

    def settings_places(self) -> dict[str, str]:
        """Return the last place where the settings of each check were declared."""
        return {check: declared.place for check, _, declared in self._settings()}

    def _settings(self) -> Iterator[tuple[str, str, Declaration]]:
        return ((key[1], key[2], declared) for key, declared in self.declared.items() if key[0] == "setting")


def merge_parents(file: Path, parents: list[ResolvedProfile], ancestors: Mapping[Path, frozenset[Path]]) -> ResolvedProfile:
    """Merge several parents for a file that extends them; `ancestors` are those of every file so far.

    A parent that extends another overrides it. Of two that do not know each other and differ, the first is kept as a
    conflict: the file must declare what holds.
    """
    resolved = ResolvedProfile(file, frozenset().union(*(parent.ancestors | {parent.file} for parent in parents)))
    for parent in parents:
        for key, new in parent.declared.items():
            old = resolved.declared.get(key)
            if old is None or _overrides(new, old, ancestors):
                resolved.declared[key] = new
            elif old.value == new.value:
                resolved.declared[key] = replace(old, owners=old.owners | new.owners)
            elif not _overrides(old, new, ancestors):
                resolved.conflicts.setdefault(key, (old, new))
    return resolved


def _overrides(upper: Declaration, lower: Declaration, ancestors: Mapping[Path, frozenset[Path]]) -> bool:
    """True if one of the files that declare the first extends all that declare the second."""
    return any(lower.owners <= ancestors[owner] | {owner} for owner in upper.owners)


def overlay(parent: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Lay an entry over its parent's of the same id: missing keys are inherited, a new limit replaces the old one.

    A title stays where the entry is about the same measurement, or about a part of what the parent is about.
    """
    kept = dict(parent)
    if any(key in entry for key in LIMIT_KEYS):
        for key in (*LIMIT_KEYS, "zero"):
            kept.pop(key, None)
    if _is_about_other(parent, entry):
        kept.pop("title", None)
    return kept | dict(entry)


def replace_names(text: Any, values: Mapping[str, str]) -> Any:
    """Replace each `{NAME}` of a text by its value; other braces stay as they are, and so does what is no text."""
    if not values or not isinstance(text, str):
        return text
    pattern = "|".join(re.escape(f"{{{name}}}") for name in values)
    return re.sub(pattern, lambda match: values[match[0][1:-1]], text)


def _is_about_other(parent: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Return whether an entry has another measurement than its parent: then the parent's title does not apply."""
    if any(key in entry and entry[key] != parent.get(key) for key in ("check", "measure")):
        return True
    where = entry.get("where", parent.get("where", {}))
    return any(where.get(label) != value for label, value in parent.get("where", {}).items())
