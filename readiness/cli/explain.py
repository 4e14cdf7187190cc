"""`readiness explain`: what a check measures, what a profile requires, or one requirement and its last result."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import completion, options
from readiness.cli.check_folders import add_checks
from readiness.enums import Action, Level, Use
from readiness.errors import ReadinessError, UsageError
from readiness.rendering import clean, message

if TYPE_CHECKING:
    from readiness.check_registry import Check
    from readiness.datamodel import Assessment, Finding, Profile, Requirement


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="CHECK|PROFILE|REQUIREMENT", help="A check's id, a profile's name or file, or a requirement's id.",
            autocompletion=completion.explained,
        ),
    ],
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", "-p", metavar="NAME|FILE",
            help="The profile of the requirement. [default: that of the last run, or a shipped one]",
            autocompletion=completion.profile,
        ),
    ] = None,
    checks: options.ChecksFolders = None,
) -> None:
    """Explain a check, a profile or a requirement. Of a requirement it also shows what the last run measured."""
    from readiness.engine import check_declarations
    from readiness.profile import loader, shipped

    add_checks(checks)
    found = check_declarations.discover()
    parts = []
    if name in found:
        parts.append(_check(found[name]))
    if profile is None and (name in shipped.names() or name.endswith(".toml")):
        parts.append(_profile(loader.load(name, found), loader.file_of(name)))
    if profile is not None or not parts:
        last_profile, last, lacking = _last_run()
        requirement = _required(name, profile, last_profile if any(True for _ in _findings(last, name)) else None, found)
        if requirement is not None:
            parts.append("\n".join(_whole(*requirement, found)))
        if requirement is not None or any(True for _ in _findings(last, name)):
            parts.append("\n".join(_measured(name, last or lacking, None if requirement is None else requirement[0])))
    if not parts:
        raise _unknown(name, profile, found)
    options.put("\n\n".join(parts))


def _width() -> int:
    """The width of lines: that of the terminal, within reason."""
    from readiness.rendering.formats import WIDEST, columns

    return columns(sys.stdout) or WIDEST


def _wrapped(text: str, first: str = "", rest: str | None = None) -> str:
    from readiness.rendering import wrap

    return "\n".join(wrap(text, _width(), first=first, rest=rest))


def _line(text: str, first: str = "  ") -> str:
    """Return a line that programs may look for: it is wrapped on a terminal alone."""
    from readiness.rendering.formats import columns

    return first + text if columns(sys.stdout) is None else _wrapped(text, first, "    ")


def _fitted(documentation: str) -> str:
    """Return the text as it was written; on a narrower terminal paragraphs are wrapped anew, and lists line by line."""
    from readiness.rendering.formats import columns

    most = columns(sys.stdout)
    if most is None or all(len(line) <= most for line in documentation.splitlines()):
        return documentation
    fitted = []
    for paragraph in documentation.split("\n\n"):
        lines = paragraph.splitlines()
        if not any(line.startswith((" ", "-", "*", "|")) for line in lines):
            lines = [" ".join(lines)]
        fitted.append("\n".join(_wrapped(line, line[: len(line) - len(line.lstrip())]) for line in lines))
    return "\n\n".join(fitted)


def _unknown(name: str, profile: str | None, found: Mapping[str, Check]) -> UsageError:
    from readiness.profile import loader, shipped

    if profile is not None:
        known = [item.id for item in loader.load(profile, found).requirements]
        what = f"the profile {profile} has no requirement {name[:100]!r}"
    else:
        known = [*found, *shipped.names(), *sorted(shipped.requirement_ids())]
        what = f"there is no check, profile or requirement {name[:100]!r}"
    near = get_close_matches(name[:200], known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    remedy = "`readiness list` shows checks and profiles; `--checks DIR` adds your checks, `--profile FILE` your profile"
    return UsageError(what, remedy=f"{hint}{remedy}")


def _required(
    id: str, profile: str | None, last_profile: str | None, found: Mapping[str, Check]
) -> tuple[Requirement, Profile, list[str]] | None:
    """Return a requirement, its profile, and the shipped profiles that define it differently; None where no profile has it.

    `last_profile` is the profile of the last run, which may not exist any more or need checks that are not here.
    """
    from readiness.profile import loader, shipped

    stating = sorted((name for name, ids in shipped.stated().items() if id in ids), key=_general_first)
    if not stating and (taking := shipped.stated_by_bases().get(id)) is not None:
        stating = [taking]
    for name in [profile] if profile is not None else [*([last_profile] if last_profile is not None else []), *stating]:
        try:
            chosen = loader.load(name, found)
        except UsageError:
            if name == profile or name != last_profile:
                raise
            continue
        for requirement in chosen.requirements:
            if requirement.id == id:
                stated_in = Path((requirement.place or "").rpartition(":")[0]).stem
                return requirement, chosen, [other for other in stating if other not in (chosen.name, stated_in)]
    return None


def _general_first(name: str) -> tuple[bool, str]:
    return name != "general", name


def _whole(requirement: Requirement, profile: Profile, others: list[str], found: Mapping[str, Check]) -> Iterator[str]:
    yield _requirement(requirement)
    check = found[requirement.check]
    yield from _texts({"check": f"{check.id}, {check.title} (`readiness explain {check.id}`)"})
    yield f"  profile: {clean(profile.name)}, at {clean(requirement.place)}"
    if others:
        words = f"{', '.join(others)}; `--profile {others[0]}` explains that one"
        yield from _texts({"other profiles define it differently": words})


def _last_run() -> tuple[str | None, Assessment | None, str]:
    """Return the profile of the last run and its assessment; without one, None and why there is none."""
    from readiness.documents import assessment
    from readiness.engine.run_store import NoLastRunError, latest_run, profile_of_run

    try:
        folder, _ = latest_run("", "")
        found = assessment.read(folder / "assessment.json")
    except NoLastRunError:
        return None, None, "No run is saved on this machine: this requirement was not measured."
    except ReadinessError as problem:
        return None, None, f"The last run cannot be read, so what it measured is not known: {clean(problem.what, 300)}."
    return profile_of_run(folder) or found.profile_name, found, ""


def _findings(assessment: Assessment | None, id: str) -> Iterator[tuple[str, Finding]]:
    for item in () if assessment is None else assessment.accelerators:
        for finding in item.findings:
            if finding.requirement == id:
                yield item.facts.id, finding


def _measured(id: str, last: Assessment | str, known: Requirement | None) -> Iterator[str]:
    """Describe a requirement's findings in the last run, or say why there are none.

    Also its definition there where it is not that of `known`.
    """
    from readiness.rendering import measured, names

    if isinstance(last, str):
        yield last
        return
    by_outcome: dict[tuple[str, str], dict[str, list[str]]] = {}
    first = None
    for accelerator, finding in _findings(last, id):
        first = first or finding
        outcome = f"{finding.outcome.replace('_', ' ')}{', waived' if finding.waived is not None else ''}"
        by_outcome.setdefault((outcome, measured(finding)), {}).setdefault(accelerator, []).append(finding.use.value)
    when = f"the last run ({clean(last.started, 40)}, profile {clean(last.profile_name, 100)})"
    if first is None:
        yield f"Not required in {when}."
        return
    if known is None:
        yield f"{clean(id)}  ({first.level}, weight {first.weight:g})"
        yield f"  {clean(first.check)}: {clean(first.measure)} {clean(first.limit)}"
        yield from _texts({"": first.title, "why": first.why, "remedy": first.remedy.text if first.remedy else None})
        yield ""
    yield f"In {when}:"
    if known is not None and (first.check, first.measure, first.limit) != (known.check, known.measure, str(known.limit)):
        there = f"{clean(first.check)}: {clean(first.measure)} {clean(first.limit)}"
        yield f"  it was another requirement of this name there: {there}"
    for (outcome, words), found_on in by_outcome.items():
        uses = [use for use in Use if any(use.value in uses_found for uses_found in found_on.values())]
        line = f"{names(list(found_on))} ({', '.join(uses)}): {outcome}; {words}"
        yield _wrapped(line, "  ", "    ")
    if any(item.check == first.check and item.rows for one in last.accelerators for item in one.evidence):
        yield f"  `readiness report --rows {clean(first.check)}` shows its rows of detail"


def _check(check: Check) -> str:
    from readiness.rendering.check_reference import settings, time_needed

    lines = [clean(check.id), clean(check.title), "", _fitted(message(check.documentation)), "", "measures"]
    for name, measure in check.measures.items():
        better = "" if measure.better is None else f", better {measure.better}"
        lines.append(f"  {clean(name)} ({clean(measure.unit)}{better})")
        action = "" if measure.action is Action.NONE else f" ({measure.action})"
        texts = {"": measure.meaning, "why: ": measure.why, "remedy: ": f"{measure.remedy}{action}".strip()}
        lines += [_wrapped(f"{label}{clean(text)}", "    ") for label, text in texts.items() if text]
    if check.settings:
        lines += ["", "settings"] + [f"  {clean(line)}" for line in settings(check)]
    lines += ["", f"cost     {time_needed(check)}"]
    lines += [f"scope    {check.scope.value}", f"declared {clean(check.place)}"]
    return "\n".join(lines)


def _profile(profile: Profile, own: Path) -> str:
    """Describe a profile: the requirements that it states itself first, then those of each that it extends."""
    lines = [clean(profile.name), clean(profile.title), ""]
    if profile.description:
        lines += [_wrapped(clean(" ".join(profile.description.split()))), ""]
    musts = [item for item in profile.requirements if Level.MUST in (item.level, item.level_of_several)]
    for use in profile.uses:
        if not any(use in item.uses for item in musts):
            lines += [f"no must for {use}: its verdict will be UNDETERMINED; give it one, or leave {use} out of `uses`", ""]
    by_file: dict[str, list[Requirement]] = {}
    for requirement in sorted(profile.requirements, key=lambda item: (item.check, item.id)):
        by_file.setdefault((requirement.place or "").rpartition(":")[0], []).append(requirement)
    for file in sorted(by_file, key=lambda file: (Path(file) != own, Path(file).stem == "general", file)):
        if len(by_file) > 1:
            count = len(by_file[file])
            stated = "of its own" if Path(file) == own else f"from {clean(Path(file).stem)}"
            lines += [f"{count} requirement{'' if count == 1 else 's'} {stated}", ""]
        for requirement in by_file[file]:
            lines += [_requirement(requirement), ""]
    return "\n".join(lines).rstrip()


def _requirement(requirement: Requirement) -> str:
    where = "".join(f" {clean(key)}={clean(str(value))}" for key, value in requirement.where.items())
    several = requirement.level_of_several
    level = f"{requirement.level}, {several} on several chips,"if several else f"{requirement.level}"
    lines = [
        _line(f"({level} for {' and '.join(requirement.uses)}, weight {requirement.weight:g})", f"{requirement.id}  "),
        _line(f"{requirement.check}: {requirement.measure}{where} {requirement.limit}"),
    ]
    if requirement.only_on or requirement.not_on:
        but = f" but not {', '.join(requirement.not_on)}" if requirement.not_on else ""
        lines.append(_line(f"on {', '.join(requirement.only_on) or 'every stack'}{but}"))
    if requirement.least_chips > 1:
        lines.append(f"  where at least {requirement.least_chips} chips are under test")
    remedy = requirement.remedy.text if requirement.remedy else None
    texts = {"": requirement.title, "why": requirement.why, "source": requirement.source, "remedy": remedy}
    return "\n".join([*lines, *_texts(texts)])


def _texts(texts: Mapping[str, str | None]) -> Iterator[str]:
    for label, text in texts.items():
        if text:
            line = f"{label}: {clean(text)}" if label else clean(text)
            yield _wrapped(line, "  ", "    ")
