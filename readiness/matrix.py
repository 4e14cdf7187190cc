"""Matrix entries and templates of profiles: one entry of a file becomes the requirements that it stands for.

A `[[require]]` whose `for.LABEL` names values of a label stands for one requirement for each value: `{LABEL}` in its id
and prose is the value, its `where` asks for it, and what the value's table says holds for that one alone. With
`template = "NAME"` it takes over what `[template.NAME]` of the same file says. What comes out has neither: the rest of the
tool knows plain requirements only.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from readiness.errors import BadFileError
from readiness.layers import lay_over

#: Where `{LABEL}` is the value.
_TEXTS = ("id", "title", "why", "source", "remedy")
#: More than an author can review; a product of several labels grows fast.
_MOST = 1000


def expand(entry: Mapping[str, Any], templates: Mapping[str, Mapping[str, Any]], place: str) -> Iterator[dict[str, Any]]:
    """The plain entries that one entry of a profile stands for, in the order in which its values are written.

    Raises BadFileError, at `place`, for a template that is not there and for an id that does not tell the values apart.
    """
    plain = _over_template(entry, templates, place)
    labels = plain.pop("for", {})
    if not labels:
        yield _checked(plain, place)
        return
    for label in labels:
        if f"{{{label}}}" not in plain["id"]:
            raise BadFileError(
                f"the id {plain['id']!r} does not name {{{label}}}, so that all its requirements would be one",
                place=place,
                remedy=f"write {{{label}}} into the id",
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
    """An entry with each `{NAME}` of its labels and prose replaced by the profile's value of that name."""
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
    """One entry over another of the same file: a limit replaces the other whole, labels join."""
    merged = lay_over(lower, upper)
    if "where" in lower and "where" in upper:
        merged["where"] = {**lower["where"], **upper["where"]}
    return merged


def _over_template(entry: Mapping[str, Any], templates: Mapping[str, Mapping[str, Any]], place: str) -> dict[str, Any]:
    own = dict(entry)
    name = own.pop("template", None)
    if name is None:
        return own
    if name not in templates:
        near = get_close_matches(name, templates, n=1)
        raise BadFileError(
            f"{own['id']}: there is no [template.{name}] in this file",
            place=place,
            remedy=f"did you mean {near[0]!r}?" if near else "write the table, or take the line out",
        )
    return _merged(templates[name], own)


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
            f"{entry['id']!r} is no id",
            place=place,
            remedy="an id has small letters, digits, dots, dashes and underscores alone",
        )
    return entry
