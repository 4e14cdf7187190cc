"""Profiles: load, extend, validate against the schema and against the checklist.

A profile is looked up by name among the shipped ones, or read from a file. What it extends is looked up by name only,
beside the file first, so that no path in a file can climb anywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from readiness import accelerators, package_data
from readiness.check_registry import Check
from readiness.datamodel import Action, Basis, Level, Limit, Operator, Profile, Remedy, Requirement, Use
from readiness.documents import files, toml
from readiness.errors import BadFileError, UsageError, did_you_mean
from readiness.judging.profile_demands import BESIDE, canonical, digest_of
from readiness.profile import group_expansion
from readiness.profile.default_prose import with_defaults
from readiness.profile.inheritance import LIMIT_KEYS, ResolvedProfile, merge_parents, overlay
from readiness.profile.requirement_places import places_of
from readiness.profile.settings import refuse_impossible
from readiness.profile.shipped import names


def load(name_or_file: str, checklist: Mapping[str, Check]) -> Profile:
    """Load a profile by name or file, with all that it extends; every requirement is checked against the checks.

    Raises UsageError for an unknown name and BadFileError, with file and line, for everything else.
    """
    merged = _gather(file_of(name_or_file), {}, ())
    requirements = []
    values = merged.values
    for id, entry in merged.entries.items():
        requirement = _requirement(id, group_expansion.with_values(entry, values), merged)
        _refuse_what_no_check_measures(requirement, checklist)
        _refuse_unknown_stacks(requirement)
        requirements.append(with_defaults(requirement, checklist))
    refuse_impossible(merged.settings(resolved=True), merged.settings_places(), checklist)
    profile = Profile(
        name=merged.name,
        title=merged.title,
        uses=merged.uses or tuple(Use),
        requirements=tuple(requirements),
        settings=merged.settings(resolved=True),
        description=merged.description,
        files=_files(merged),
    )
    return _with_digest(profile, merged.settings(resolved=False))


def settings_of(name_or_file: str) -> tuple[dict[str, dict[str, Any]], tuple[Use, ...]]:
    """Return the settings and uses of a profile, without its requirements: what needs no checks, and takes less time.

    Raises UsageError as `load` does for what it reads.
    """
    merged = _gather(file_of(name_or_file), {}, ())
    return merged.settings(resolved=True), merged.uses or tuple(Use)


def file_of(name_or_file: str) -> Path:
    """Return the file of a profile. Raises UsageError for a name that no shipped profile has."""
    if name_or_file.endswith(".toml") or "/" in name_or_file:
        return Path(name_or_file)
    if name_or_file not in names():
        hint = did_you_mean(name_or_file, names())
        if os.path.isfile(f"{name_or_file}.toml"):  # noqa: PTH113 - which raises for no name
            hint = f"did you mean the file {name_or_file}.toml? "
        raise UsageError(
            f"there is no profile {name_or_file!r}",
            place="--profile",
            remedy=f"{hint}choose one of {', '.join(names())}, or give a file that ends in .toml",
        )
    return package_data.shipped("profiles") / f"{name_or_file}.toml"


def _gather(file: Path, known: dict[Path, ResolvedProfile], children: tuple[Path, ...]) -> ResolvedProfile:
    """Merge a file with all that it extends; `known` are the files already read."""
    document, lines = toml.read(file, "profile")
    parents = []
    for parent in document.get("extends", []):
        place = f"{file}:{lines.line(('extends',))}"
        found = _parent(parent, file, place)
        if found.resolve() in (path.resolve() for path in (*children, file)):
            raise BadFileError(
                f"it extends itself through {parent!r}", place=place, remedy="remove one of the profiles from the cycle"
            )
        parents.append(known.get(found.resolve()) or _gather(found, known, (*children, file)))
    resolved = merge_parents(file.resolve(), parents, {path: one.ancestors for path, one in known.items()})
    resolved.name, resolved.title = document["name"], document["title"]
    resolved.description = document.get("description", "").strip()
    if "uses" in document:
        uses = tuple(use for use in Use if use.value in document["uses"])
        resolved.declare(("uses",), uses, f"{file}:{lines.line(('uses',))}")
    _declare(resolved, document, file, lines)
    for key, (one, other) in resolved.conflicts.items():
        names = " and ".join(sorted(path.stem for path in (min(one.owners), min(other.owners))))
        what, how = _WHAT[key[0]]
        which = f" {'.'.join(key[1:])!r}" if key[1:] else ""
        raise BadFileError(
            f"{names}, which it extends, disagree on {what}{which}",
            place=f"{file}:{lines.line(('extends',))}",
            remedy=f"set the value in {file.name}: {how}",
        )
    known[file.resolve()] = resolved
    return resolved


def _declare(resolved: ResolvedProfile, document: Mapping[str, Any], file: Path, lines: toml.Lines) -> None:
    """Return a file's own declarations: drops, requirements and settings."""
    _choose(resolved, document, file, lines)
    own: set[str] = set()
    for entry, place in group_expansion.requirements(document, lambda path: f"{file}:{lines.line(path)}"):
        if entry["id"] in own:
            raise BadFileError(
                f"two requirements have the id {entry['id']!r}", place=place, remedy="give one of them another id"
            )
        own.add(entry["id"])
        parent = resolved.entry(entry["id"])
        if ("require", entry["id"]) in resolved.conflicts:
            parent = {}  # none of those that disagree is the one below, whichever was named first
            if lacking := [key for key in ("check", "measure") if key not in entry]:
                raise BadFileError(
                    f"requirement {entry['id']!r} has no {lacking[0]!r}, and the profiles that it extends disagree on it",
                    place=place,
                    remedy="write all of it: check, measure, bound, and where, level and weight if not the default",
                )
        # Of what it is demanded does not change with who extends this file.
        usual = {} if parent or resolved.uses is None else {"use": [use.value for use in resolved.uses]}
        resolved.declare(("require", entry["id"]), usual | overlay(parent, entry), place)
    for name, value in document.get("values", {}).items():
        resolved.declare(("value", name), value, f"{file}:{lines.line(('values', name))}")
    for level, factor in document.get("weights", {}).items():
        resolved.declare(("weights", level), factor, f"{file}:{lines.line(('weights', level))}")
    for check, settings in document.get("settings", {}).items():
        place = f"{file}:{lines.line(('settings', check))}"
        for name, value in settings.items():
            resolved.declare(("setting", check, name), (value, _beside(value, file, place)), place)


def _choose(resolved: ResolvedProfile, document: Mapping[str, Any], file: Path, lines: toml.Lines) -> None:
    """Drop what `drop` names and, where there is a `keep`, what it does not name."""
    by_id = {key[1]: declared.value for key, declared in resolved.declared.items() if key[0] == "require"}
    by_id |= {key[1]: other.value for key, (_, other) in resolved.conflicts.items() if key[0] == "require" and other.value}
    named: dict[str, set[str]] = {"keep": set(), "drop": set()}
    for key, found in named.items():
        place = f"{file}:{lines.line((key,))}"
        for position, glob in enumerate(document.get(key, [])):
            fitting = {id for id, entry in by_id.items() if fnmatchcase(id, glob) or fnmatchcase(_check_of(entry), glob)}
            if not fitting:
                raise BadFileError(
                    f"{key}[{position}]: no extended profile has a requirement or check {glob!r}",
                    place=place,
                    remedy=f"{did_you_mean(glob, by_id)}correct the id, or remove it",
                )
            found.update(fitting)
    for id in by_id:
        if id in named["drop"] or ("keep" in document and id not in named["keep"]):
            resolved.declare(("require", id), None, f"{file}:{lines.line(('drop' if id in named['drop'] else 'keep',))}")


def _check_of(entry: Mapping[str, Any] | None) -> str:
    return str((entry or {}).get("check", ""))


_WHAT = {
    "require": ("the requirement", "a [[require]] of this id, or a drop"),
    "setting": ("the setting", "a value"),
    "value": ("the value", "one, in [values]"),
    "weights": ("the weight of the level", "one, in [weights]"),
    "uses": ("the uses", 'uses = ["training", "inference"], or one of them'),
}
_LARGEST_FILE_BYTES = 2**24


def _files(merged: ResolvedProfile) -> dict[str, str]:
    """The files beside profiles that settings name, with the SHA-256 of their content; what is not there has none."""
    found, resolved = {}, merged.settings(resolved=True)
    for check, settings in merged.settings(resolved=False).items():
        for name, value in settings.items():
            if isinstance(value, str) and value.startswith(BESIDE) and (file := Path(resolved[check][name])).is_file():
                packed = files.read_bytes(file, largest_bytes=_LARGEST_FILE_BYTES)
                found[str(file)] = hashlib.sha256(packed).hexdigest()
    return found


def _beside(value: Any, file: Path, place: str) -> Any:
    """Resolve a setting `beside:NAME` to the file beside the profile; paths outside its folder are refused."""
    if not isinstance(value, str) or not value.startswith(BESIDE):
        return value
    name = value.removeprefix(BESIDE)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise BadFileError(f"{name[:60]!r} is not a file name", place=place, remedy="name a file beside the profile")
    return str(file.resolve().parent / name)


def _parent(name: str, child: Path, place: str) -> Path:
    beside = child.parent / f"{name}.toml"
    shipped = package_data.shipped("profiles") / f"{name}.toml"
    if not shipped.is_file():
        shipped = package_data.shipped("profiles") / "bases" / f"{name}.toml"  # what shipped profiles have in common
    # A profile may extend the shipped one of its own name: then the file beside it is itself.
    if beside.is_file() and beside.resolve() != child.resolve():
        return beside
    if shipped.is_file():
        return shipped
    if beside.is_file():
        return beside
    raise BadFileError(
        f"it extends {name!r}, which is neither beside it nor a shipped profile",
        place=place,
        remedy=f"{did_you_mean(name, names())}choose one of {', '.join(names())}, or put {name}.toml beside it",
    )


def _requirement(id: str, entry: Mapping[str, Any], merged: ResolvedProfile) -> Requirement:
    place = merged.place(id)
    for key in ("check", "measure"):
        if key not in entry:
            raise BadFileError(
                f"requirement {id!r} has no {key!r}", place=place, remedy="name the check and its measure"
            )
    remedy = " ".join(entry.get("remedy", "").split())
    level = Level(entry.get("level", "must"))
    return Requirement(
        id=id,
        uses=tuple(Use(use) for use in entry.get("use", [use.value for use in merged.uses or Use])),
        check=entry["check"],
        measure=entry["measure"],
        limit=_limit(id, entry, place),
        where=dict(entry.get("where", {})),
        level=level,
        weight=entry.get("weight", 1) * merged.level_weight(level),
        why=" ".join(entry.get("why", "").split()),
        source=" ".join(entry.get("source", "").split()),
        remedy=Remedy(remedy, Action(entry.get("action", "none"))) if remedy or "action" in entry else None,
        only_on=tuple(entry.get("only_on", ())),
        not_on=tuple(entry.get("not_on", ())),
        least_chips=int(entry.get("least_chips", 1)),
        level_of_several=Level(entry["level_of_several"]) if "level_of_several" in entry else None,
        place=place,
        title=" ".join(entry.get("title", "").split()),
    )


def _limit(id: str, entry: Mapping[str, Any], place: str) -> Limit:
    given = [key for key in LIMIT_KEYS if key in entry]
    if len(given) != 1:
        what = "no bound" if not given else f"{len(given)} bounds ({', '.join(given)})"
        raise BadFileError(
            f"requirement {id!r} has {what}", place=place, remedy=f"give exactly one of {', '.join(LIMIT_KEYS)}"
        )
    operator = Operator(given[0])
    zero = entry.get("zero")
    if operator is Operator.BETWEEN:
        low, high = entry["between"]
        if low > high:
            raise BadFileError(
                f"requirement {id!r}: no value is between {low:g} and {high:g}",
                place=place,
                remedy="give the lower end first",
            )
        limit = Limit(operator, low, high=high)
    else:
        limit = Limit(operator, entry[operator.value], zero=zero)
    if zero is not None and not _zero_makes_sense(limit, zero):
        raise BadFileError(
            f"requirement {id!r}: zero = {zero:g} does not fit {limit}",
            place=place,
            remedy="zero must be below at_least or above at_most; other bounds have no zero",
        )
    return limit


def _zero_makes_sense(limit: Limit, zero: float) -> bool:
    match limit.operator:
        case Operator.AT_LEAST:
            return zero < limit.bound
        case Operator.AT_MOST:
            return zero > limit.bound
        case _:
            return False


def _refuse_what_no_check_measures(requirement: Requirement, checklist: Mapping[str, Check]) -> None:
    check = checklist.get(requirement.check)
    if check is None:
        hint = did_you_mean(requirement.check, checklist)
        raise BadFileError(
            f"requirement {requirement.id!r}: there is no check {requirement.check!r}",
            place=requirement.place,
            remedy=f"{hint}name the folder of your own checks with --checks DIR; `readiness list` shows all checks",
        )
    if requirement.measure not in check.measures:
        raise BadFileError(
            f"requirement {requirement.id!r}: {check.id} does not measure {requirement.measure!r}",
            place=requirement.place,
            remedy=f"{did_you_mean(requirement.measure, check.measures)}it measures {', '.join(check.measures)}",
        )


def _refuse_unknown_stacks(requirement: Requirement) -> None:
    """Refuse unknown stacks: a mistyped one would silently make a requirement apply nowhere, or everywhere."""
    for glob in (*requirement.only_on, *requirement.not_on):
        if not any(fnmatchcase(name, glob) for name in accelerators.KNOWN):
            raise BadFileError(
                f"requirement {requirement.id!r}: {glob!r} matches no stack",
                place=requirement.place,
                remedy=f"{did_you_mean(glob, accelerators.KNOWN)}the stacks are {', '.join(accelerators.KNOWN)}",
            )


def _with_digest(profile: Profile, settings: Mapping[str, Any]) -> Profile:
    """The profile with what it demands in canonical form, and the digest of that."""
    demands = canonical(profile, settings)
    return replace(profile, demands=demands, sha256=digest_of(demands))


def basis_of(profile: Profile, checklist: Mapping[str, Check]) -> Basis:
    """Return the basis of judgement under a profile: its demands, and the settings of its checks."""
    used_checks = {requirement.check: checklist[requirement.check] for requirement in profile.requirements}
    return Basis(
        demands=profile.demands,
        settings={
            id: {name: value for name, value in check.settings.items() if name != check.lasting}
            | dict(profile.settings.get(id, {}))
            for id, check in sorted(used_checks.items())
        },
        lasting={id: check.lasting for id, check in sorted(used_checks.items()) if check.lasting is not None},
        files=profile.files,
        places=places_of(profile),
    )
