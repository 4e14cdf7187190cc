"""The requirements of a profile in canonical form: the profile's digest is made from it. Pure.

An assessment carries it, so that whoever has the file alone can derive every finding again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from readiness.datamodel import Level, Limit, Operator, Profile, Requirement, Use

#: How a profile names a file beside itself.
BESIDE = "beside:"
_KEYS = frozenset({"uses", "settings", "require", "files"})
_KEYS_OF_REQUIREMENT = frozenset({
    "id", "use", "check", "measure", "where", "limit", "level", "weight", "only_on", "not_on", "least_chips",
    "level_of_several",
})  # fmt: skip
_KEYS_OF_LIMIT = frozenset({"operator", "bound", "high", "zero"})


def canonical(profile: Profile, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides a finding, parents included, without paths; `settings` as written in the files."""
    demands = {
        "uses": sorted(profile.uses),
        "settings": settings,
        "require": [
            {
                "id": requirement.id, "use": sorted(requirement.uses), "check": requirement.check,
                "measure": requirement.measure, "where": requirement.where, "limit": asdict(requirement.limit),
                "level": requirement.level, "weight": requirement.weight,
                "only_on": requirement.only_on, "not_on": requirement.not_on,
                # Only if it is set: older profiles, which lack the key, keep their digest.
                **({"least_chips": requirement.least_chips} if requirement.least_chips > 1 else {}),
                **({"level_of_several": requirement.level_of_several} if requirement.level_of_several else {}),
            }
            for requirement in sorted(profile.requirements, key=lambda requirement: requirement.id)
        ],
        **({"files": sorted(profile.files.values())} if profile.files else {}),
    }  # fmt: skip
    plain: dict[str, Any] = json.loads(json.dumps(demands))
    return plain


def digest_of(demands: Mapping[str, Any]) -> str:
    """The SHA-256 of a canonical form."""
    return hashlib.sha256(json.dumps(demands, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def understood(demands: Mapping[str, Any]) -> bool:
    """Return whether this version supports all its keys; otherwise no finding can be derived."""
    return demands.keys() <= _KEYS and all(
        entry.keys() <= _KEYS_OF_REQUIREMENT and entry["limit"].keys() <= _KEYS_OF_LIMIT for entry in demands["require"]
    )


def requirements_of(demands: Mapping[str, Any]) -> tuple[Requirement, ...]:
    """The requirements of a canonical form that fits the schema, without the prose."""
    return tuple(_requirement(entry) for entry in demands["require"])


def _requirement(entry: Mapping[str, Any]) -> Requirement:
    limit = entry["limit"]
    return Requirement(
        id=entry["id"],
        uses=tuple(Use(use) for use in entry["use"]),
        check=entry["check"],
        measure=entry["measure"],
        limit=Limit(Operator(limit["operator"]), limit["bound"], limit.get("high"), limit.get("zero")),
        where=entry["where"],
        level=Level(entry["level"]),
        weight=entry["weight"],
        only_on=tuple(entry.get("only_on", ())),
        not_on=tuple(entry.get("not_on", ())),
        least_chips=entry.get("least_chips", 1),
        level_of_several=Level(entry["level_of_several"]) if "level_of_several" in entry else None,
    )
