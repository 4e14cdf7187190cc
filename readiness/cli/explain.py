"""`readiness explain`: what a check measures, or what a profile requires and why."""

from __future__ import annotations

import textwrap
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import common
from readiness.errors import UsageError
from readiness.telling import clean

if TYPE_CHECKING:
    from readiness.checklist import Check
    from readiness.model import Profile, Requirement


def explain(
    name: Annotated[str, typer.Argument(metavar="CHECK|PROFILE", help="A check's id, a profile's name or file.")],
    checks: common.ChecksFolders = None,
) -> None:
    """Explain a check or a profile."""
    from readiness import checklist
    from readiness import profile as profiles

    common.add_checks(checks)
    found = checklist.discover()
    if name in found:
        common.put(_check(found[name]))
    elif name in profiles.names() or name.endswith(".toml"):
        common.put(_profile(profiles.load(name, found)))
    else:
        near = get_close_matches(name, [*found, *profiles.names()], n=1)
        raise UsageError(
            f"there is neither a check nor a profile {name!r}",
            remedy=f"did you mean {near[0]}?" if near else "`readiness list` shows them",
        )


def _check(check: Check) -> str:
    lines = [check.id, check.title, "", check.documentation, "", "measures"]
    lines += [f"  {name} ({unit})" for name, unit in check.measures.items()]
    if check.settings:
        lines += ["", "settings"] + [f"  {name} = {value!r}" for name, value in check.settings.items()]
    alone = ", alone on the machine" if check.alone else ""
    lines += ["", f"cost     about {check.typical_s:g} s; limit {check.limit_s:g} s, then three times that{alone}"]
    lines += [f"scope    {check.scope.value}", f"declared {check.place}"]
    return "\n".join(lines)


def _profile(profile: Profile) -> str:
    lines = [clean(profile.name), clean(profile.title), ""]
    if profile.description:
        lines += [textwrap.fill(clean(" ".join(profile.description.split())), 100), ""]
    for requirement in sorted(profile.requirements, key=lambda item: (item.check, item.id)):
        lines += [_requirement(requirement), ""]
    return "\n".join(lines).rstrip()


def _requirement(requirement: Requirement) -> str:
    where = "".join(f" {clean(key)}={clean(str(value))}" for key, value in requirement.where.items())
    several = requirement.level_of_several
    level = f"{requirement.level}, {several} where there are several chips," if several else f"{requirement.level}"
    lines = [
        f"{requirement.id}  ({level} for {' and '.join(requirement.uses)}, weight {requirement.weight:g})",
        f"  {requirement.check}: {requirement.measure}{where} {requirement.limit}",
    ]
    if requirement.only_on or requirement.not_on:
        lines.append(
            f"  on {', '.join(requirement.only_on) or 'every stack'}"
            + (f" but not {', '.join(requirement.not_on)}" if requirement.not_on else "")
        )
    if requirement.least_chips > 1:
        lines.append(f"  where at least {requirement.least_chips} chips are under test")
    for label, text in (
        ("why", requirement.why), ("source", requirement.source), ("remedy", requirement.remedy and requirement.remedy.text)
    ):  # fmt: skip
        if text:
            lines.append(textwrap.fill(f"{label}: {clean(text)}", 100, initial_indent="  ", subsequent_indent="    "))
    return "\n".join(lines)
