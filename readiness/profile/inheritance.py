"""Profiles laid over each other: a file stands over what it extends, and files of which neither extends the other agree."""

from __future__ import annotations

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
class Said:
    """What is said of a requirement (its entry) or a setting (as it stands, and resolved): by which files, and where last.

    Of a requirement that was dropped the value is None.
    """

    value: Any
    owners: frozenset[Path]
    place: str


@dataclass(slots=True)
class View:
    """All that a file says together with what it extends. `above` are the files that it extends, near and far."""

    file: Path
    above: frozenset[Path] = frozenset()
    name: str = ""
    title: str = ""
    description: str = ""
    said: dict[Key, Said] = field(default_factory=dict)
    conflicts: dict[Key, tuple[Said, Said]] = field(default_factory=dict)

    def say(self, key: Key, value: Any, place: str) -> None:
        """The file itself says it: that holds, whatever its parents say."""
        self.said[key] = Said(value, frozenset({self.file}), place)
        self.conflicts.pop(key, None)

    @property
    def uses(self) -> tuple[Use, ...] | None:
        """The uses that it is about; None where nobody says."""
        said = self.said.get(("uses",))
        return None if said is None else said.value

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The requirements by id, without those that were dropped."""
        return {key[1]: said.value for key, said in self.said.items() if key[0] == "require" and said.value is not None}

    @property
    def values(self) -> dict[str, str]:
        """What names in braces stand for."""
        return {key[1]: said.value for key, said in self.said.items() if key[0] == "value"}

    def place(self, id: str) -> str:
        """Where a requirement was said last."""
        return self.said["require", id].place

    def settings(self, *, resolved: bool) -> dict[str, dict[str, Any]]:
        """The settings by check and name: as they stand in the files, or resolved."""
        found: dict[str, dict[str, Any]] = {}
        for check, name, said in self._settings():
            found.setdefault(check, {})[name] = said.value[resolved]
        return found

    def settings_places(self) -> dict[str, str]:
        """Where a check was given settings last."""
        return {check: said.place for check, _, said in self._settings()}

    def _settings(self) -> Iterator[tuple[str, str, Said]]:
        return ((key[1], key[2], said) for key, said in self.said.items() if key[0] == "setting")


def below(file: Path, parents: list[View], above: Mapping[Path, frozenset[Path]]) -> View:
    """What several parents say together, for a file that extends them; `above` are the ancestors of every file so far.

    One that extends the other stands over it. Of two that do not know each other and differ the first is kept, as a
    conflict: the file must say what holds.
    """
    view = View(file, frozenset().union(*(parent.above | {parent.file} for parent in parents)))
    for parent in parents:
        for key, new in parent.said.items():
            old = view.said.get(key)
            if old is None or _stands_over(new, old, above):
                view.said[key] = new
            elif old.value == new.value:
                view.said[key] = replace(old, owners=old.owners | new.owners)
            elif not _stands_over(old, new, above):
                view.conflicts.setdefault(key, (old, new))
    return view


def _stands_over(upper: Said, lower: Said, above: Mapping[Path, frozenset[Path]]) -> bool:
    """Whether one of the files that say the first extends all that say the second."""
    return any(lower.owners <= above[owner] | {owner} for owner in upper.owners)


def lay_over(parent: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry over its parent's of the same id: what it does not say stays, a new limit replaces the old one whole.

    A title stays where the entry is about the same measurement, or about a part of what the parent is about.
    """
    kept = dict(parent)
    if any(key in entry for key in LIMIT_KEYS):
        for key in (*LIMIT_KEYS, "zero"):
            kept.pop(key, None)
    if _is_about_other(parent, entry):
        kept.pop("title", None)
    return kept | dict(entry)


def _is_about_other(parent: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether an entry asks for another measurement than its parent: then its parent's title says what is not so."""
    if any(key in entry and entry[key] != parent.get(key) for key in ("check", "measure")):
        return True
    where = entry.get("where", parent.get("where", {}))
    return any(where.get(label) != value for label, value in parent.get("where", {}).items())
