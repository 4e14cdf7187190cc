"""Shipped profiles as they stand in their files: names, titles, ids of requirements. Nothing is resolved here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from readiness import package_data


def names() -> list[str]:
    """The shipped profiles."""
    return sorted(file.stem for file in package_data.shipped("profiles").glob("*.toml"))


def stated() -> dict[str, list[str]]:
    """The ids of the requirements that each shipped profile states itself; what it extends states more."""
    return {name: _ids(_shipped(name)) for name in names()}


def stated_by_bases() -> dict[str, str]:
    """The ids of the requirements that shipped profiles have in common, each with one profile that takes it over."""
    found: dict[str, str] = {}
    for name in names():
        for base in _bases(_shipped(name)):
            for id in _ids(base):
                found.setdefault(id, name)
    return found


def requirement_ids() -> set[str]:
    """The ids of all requirements of shipped profiles."""
    return {id for ids in stated().values() for id in ids} | stated_by_bases().keys()


def _bases(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in document.get("extends", []):
        if name not in names():
            base = _shipped(f"bases/{name}")
            yield base
            yield from _bases(base)


def _ids(document: Mapping[str, Any]) -> list[str]:
    from readiness.profile import group_expansion

    return [plain["id"] for plain, _ in group_expansion.requirements(document)]


def title(name: str) -> str:
    """Return the title of a shipped profile. It stands before the first table: the rest takes ten times as long to read."""
    head, *_ = re.split(r"(?m)^\[", _text(name), maxsplit=1)
    return str(tomllib.loads(head).get("title", ""))


def _shipped(name: str) -> dict[str, Any]:
    """The document of a shipped profile: ours, and as it should be."""
    return tomllib.loads(_text(name))


def _text(name: str) -> str:
    return (package_data.shipped("profiles") / f"{name}.toml").read_text(encoding="utf-8")
