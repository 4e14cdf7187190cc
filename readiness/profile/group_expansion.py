"""Groups and matrix entries of profiles: what a file writes once becomes the requirements that it stands for.

A `[[group]]` says what its requirements have in common. An entry whose `for.LABEL` names values of a label stands for one
requirement for each value: `{LABEL}` in its id and texts is the value, its `where` asks for it, and what the value's table
says holds for that one alone. The `for` of a group holds for those of its entries whose id contains `{LABEL}`. Texts of
single requirements may stand in the group's tables `title`, `why`, `source` and `remedy`: by the id of an entry as it is
written, by that of one requirement, or by a glob over ids. What comes out has none of this: the rest of the tool knows plain
requirements only.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from readiness.errors import BadFileError, did_you_mean
from readiness.profile.inheritance import overlay, replace_names

#: Where `{LABEL}` is the value.
_TEXTS = ("id", "title", "why", "source", "remedy")
#: Of a group these may be tables by id.
_BY_ID = ("title", "why", "source", "remedy")
#: More than an author can review; a product of several labels grows fast.
_MOST = 1000
#: The parts of the path to an entry: `("require", 3)`, or `("group", 2, "require", 5)`.
Position = tuple[str | int, ...]


def requirements(
    document: Mapping[str, Any], place_of: Callable[[Position], str] = str
) -> Iterator[tuple[dict[str, Any], str]]:
    """The plain requirements that a profile's document stands for, in its order, each with the place of its entry.

    Raises BadFileError, at the place, for an id that does not tell values apart, for too many requirements from one entry,
    for texts and labels of a group that none of its requirements takes, and for one that could take two texts.
    """
    for position, entry in enumerate(document.get("require", [])):
        place = place_of(("require", position))
        for _, plain in _expanded({}, entry, {}, place):
            yield plain, place
    for number, group in enumerate(document.get("group", [])):
        yield from _of_group(group, ("group", number), place_of)


def _of_group(
    group: Mapping[str, Any], path: Position, place_of: Callable[[Position], str]
) -> Iterator[tuple[dict[str, Any], str]]:
    tables = {key: group[key] for key in _BY_ID if isinstance(group.get(key), dict)}
    common = {key: value for key, value in group.items() if key not in ("require", *tables)}
    entries = group.get("require", [])
    for label in group.get("for", {}):
        if not any(_names(entry["id"], label) for entry in entries):
            raise BadFileError(
                f"for: no id of the group contains {{{label}}}",
                place=place_of((*path, "for", label)),
                remedy=f"put {{{label}}} into the ids of those entries that it makes several of, or remove it",
            )
    ids: set[str] = set()
    for position, entry in enumerate(entries):
        place = place_of((*path, "require", position))
        for id, plain in _expanded(common, entry, tables, place):
            ids.update((entry["id"], id))
            yield plain, place
    for key, table in tables.items():
        for pattern in table:
            if not any(id == pattern or fnmatchcase(id, pattern) for id in ids):
                raise BadFileError(
                    f"{key}: the group has no requirement {pattern!r}",
                    place=place_of((*path, key, pattern)),
                    remedy=f"{did_you_mean(pattern, sorted(ids))}correct the id, or remove it",
                )


def _expanded(
    common: Mapping[str, Any], entry: Mapping[str, Any], tables: Mapping[str, Mapping[str, str]], place: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The plain requirements that one entry stands for, each with its id, in the order in which its values are written."""
    written = entry["id"]
    labels = _labels(entry, common.get("for", {}))
    common, own = ({key: value for key, value in one.items() if key != "for"} for one in (common, entry))
    for label in labels:
        if not _names(written, label):
            raise BadFileError(
                f"the id {written!r} does not contain {{{label}}}, so all its requirements would have one id",
                place=place,
                remedy=f"put {{{label}}} into the id",
            )
    choices = [_values(label, values) for label, values in labels.items()]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > _MOST:
        raise BadFileError(
            f"{written!r} stands for {count} requirements", place=place, remedy=f"at most {_MOST} from one entry"
        )
    for chosen in itertools.product(*choices):
        values = {label: value for label, value, _ in chosen}
        id = replace_names(written, values)
        texts = {key: text for key, table in tables.items() for text in _text(key, table, written, id, place)}
        one = _merged(common, texts | own)
        for label, value, terms in chosen:
            one = _merged(one | {"where": one.get("where", {}) | {label: value}}, terms)
        yield id, _checked(_filled(one, values), place)


def _labels(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry's labels with their values: its own, and those of its group that its id contains, in its order."""
    own = entry.get("for", {})
    others = {label: values for label, values in shared.items() if label not in own and _names(entry["id"], label)}
    if not others:
        return dict(own)
    return dict(sorted((others | own).items(), key=lambda item: str(entry["id"]).find(f"{{{item[0]}}}")))


def _text(key: str, table: Mapping[str, str], written: str, id: str, place: str) -> list[str]:
    """The text in a group's table for one requirement, if any: its own before its entry's, and these before globs."""
    for name in (id, written):
        if name in table:
            return [table[name]]
    globs = [pattern for pattern in table if fnmatchcase(id, pattern)]
    if len(globs) > 1:
        raise BadFileError(
            f"{key}: both {globs[0]!r} and {globs[1]!r} fit the requirement {id!r}",
            place=place,
            remedy=f"give {id} a text of its own, or make one of the two narrower",
        )
    return [table[pattern] for pattern in globs]


def _names(id: str, label: str) -> bool:
    return f"{{{label}}}" in id


def with_values(entry: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Replace each `{NAME}` in an entry's labels and prose by the profile's value."""
    if not values:
        return dict(entry)
    filled = _filled(entry, values)
    if "where" in filled:
        filled["where"] = _replaced_in(filled["where"], filled["where"], values)
    return filled


def _values(label: str, values: Any) -> list[tuple[str, str, Mapping[str, Any]]]:
    if isinstance(values, list):
        return [(label, value, {}) for value in values]
    return [(label, value, own) for value, own in values.items()]


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two entries of one file: a limit replaces the other, labels are joined."""
    merged = overlay(lower, upper)
    if "where" in lower and "where" in upper:
        merged["where"] = {**lower["where"], **upper["where"]}
    return merged


def _filled(entry: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    return _replaced_in(entry, _TEXTS, values)


def _replaced_in(table: Mapping[str, Any], keys: Iterable[str], values: Mapping[str, str]) -> dict[str, Any]:
    return dict(table) | {key: replace_names(table[key], values) for key in keys if key in table}


def _checked(entry: dict[str, Any], place: str) -> dict[str, Any]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", entry["id"]):
        raise BadFileError(
            f"{entry['id']!r} is not an id",
            place=place,
            remedy="use only lower-case letters, digits, dots, dashes and underscores in an id",
        )
    return entry
