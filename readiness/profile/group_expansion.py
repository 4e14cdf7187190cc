"""Groups and matrix entries of profiles: what a file writes once becomes the requirements that it stands for.

A `[[group]]` says what its requirements have in common; texts of single ones may stand in its tables `title`, `why`,
`source` and `remedy`, by id. An entry whose `for.LABEL` names values of a label stands for one requirement for each value:
`{LABEL}` in its id and texts is the value, its `where` asks for it, and what the value's table says holds for that one
alone. What comes out has neither: the rest of the tool knows plain requirements only.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from readiness.errors import BadFileError, did_you_mean
from readiness.profile.inheritance import overlay

#: Where `{LABEL}` is the value.
_TEXTS = ("id", "title", "why", "source", "remedy")
#: More than an author can review; a product of several labels grows fast.
_MOST = 1000


#: Of a group these may be tables by id.
_BY_ID = ("title", "why", "source", "remedy")
#: The parts of the path to an entry: `("require", 3)`, or `("group", 2, "require", 5)`.
Position = tuple[str | int, ...]


def entries(document: Mapping[str, Any]) -> Iterator[tuple[Position, Mapping[str, Any]]]:
    """Return the entries of a profile's document with the keys of their groups, and their places in it."""
    for position, entry in enumerate(document.get("require", [])):
        yield ("require", position), entry
    for number, group in enumerate(document.get("group", [])):
        texts = {key: group[key] for key in _BY_ID if isinstance(group.get(key), dict)}
        common = {key: value for key, value in group.items() if key != "require" and key not in texts}
        for position, entry in enumerate(group.get("require", [])):
            own = {key: table[entry["id"]] for key, table in texts.items() if entry["id"] in table}
            yield ("group", number, "require", position), _merged(common, own | dict(entry))


def texts_of_nobody(document: Mapping[str, Any]) -> Iterator[tuple[Position, str]]:
    """The texts of groups whose id none of their entries has, each with what was probably meant."""
    for number, group in enumerate(document.get("group", [])):
        ids = [entry["id"] for entry in group.get("require", [])]
        for key in _BY_ID:
            if isinstance(group.get(key), dict):
                for id in group[key]:
                    if id not in ids:
                        yield ("group", number, key, id), did_you_mean(id, ids)


def expand(entry: Mapping[str, Any], place: str) -> Iterator[dict[str, Any]]:
    """The plain entries that one entry of a profile stands for, in the order in which its values are written.

    Raises BadFileError, at `place`, for an id that does not tell the values apart, and for too many.
    """
    plain = dict(entry)
    labels = plain.pop("for", {})
    if not labels:
        yield _checked(plain, place)
        return
    for label in labels:
        if f"{{{label}}}" not in plain["id"]:
            raise BadFileError(
                f"the id {plain['id']!r} does not contain {{{label}}}, so all its requirements would have one id",
                place=place,
                remedy=f"put {{{label}}} into the id",
            )
    choices = [_values(label, values) for label, values in labels.items()]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > _MOST:
        raise BadFileError(
            f"{plain['id']!r} stands for {count} requirements", place=place, remedy=f"at most {_MOST} from one entry"
        )
    for chosen in itertools.product(*choices):
        one = plain | {"where": dict(plain.get("where", {}))}
        for label, value, own in chosen:
            one["where"][label] = value
            one = _merged(one, own)
        yield _named(one, {label: value for label, value, _ in chosen}, place)


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


def _named(entry: Mapping[str, Any], values: Mapping[str, str], place: str) -> dict[str, Any]:
    """The entry with each `{LABEL}` of its texts replaced; other braces stay as they are."""
    return _checked(_filled(entry, values), place)


def _filled(entry: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    return _replaced_in(entry, _TEXTS, values)


def _replaced_in(table: Mapping[str, Any], keys: Iterable[str], values: Mapping[str, str]) -> dict[str, Any]:
    pattern = re.compile("|".join(re.escape(f"{{{name}}}") for name in values))
    replaced = {key: pattern.sub(lambda match: values[match[0][1:-1]], table[key]) for key in keys if key in table}
    return dict(table) | replaced


def _checked(entry: dict[str, Any], place: str) -> dict[str, Any]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", entry["id"]):
        raise BadFileError(
            f"{entry['id']!r} is not an id",
            place=place,
            remedy="use only lower-case letters, digits, dots, dashes and underscores in an id",
        )
    return entry
