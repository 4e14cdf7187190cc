"""Table for terminals: verdicts, blockers and limits with remedies, and the time of each check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from readiness import rendering
from readiness.datamodel import Assessment, Level, Status, Use
from readiness.rendering import DeviceGroup, Group, Kind, Paint, SharedFinding, Time, curves, diagnosis

#: Quick checks beyond this number are summed up, unless one of them went wrong.
_MOST_TIMES = 8
#: So many requirements that are unknown for one cause are named with their titles.
_MOST_TITLES = 4

#: Longer lists are folded to a count.
_MOST_ENTRIES = {"BLOCKERS": 12, "LIMITS": 6, "WAIVED": 20, "FOR INFORMATION": 4}
_MOST_CAUSES = 8
#: Of many accelerators that differ these are told in full, the worst ones.
_MOST_GROUPS = 10
_MOST_NAMES = 4
_MOST_CURVES = 8

#: Where what belongs to an entry begins, and the second line of that.
_INDENT = " " * 4
_HANG = " " * 9


def render(
    assessment: Assessment, *, colour: bool = False, width: int = 100, verbose: bool = False, blocks: bool = True
) -> str:
    """Render lines of at most `width` columns. ANSI colours only with `colour`; text from devices is cleaned.

    Long lists are folded to a count, unless `verbose`. Curves are drawn with `blocks`, or in ASCII.
    """
    paint = rendering.painter(colour)
    lines = list(_head(assessment, paint, width))
    lines += _diagnosis(assessment, paint, width)
    if not assessment.accelerators:
        lines += ["", rendering.NOTHING_ASSESSED]
    if len(assessment.accelerators) > 1:
        lines += ["", *_summary(assessment, paint, width)]
    groups = rendering.group_devices(assessment)
    shown = groups if verbose else _worst(groups)
    for group in shown:
        lines += ["", *_accelerators(group, assessment, paint, width, whole=verbose, blocks=blocks)]
    if left_out := sum(len(group.items) for group in groups) - sum(len(group.items) for group in shown):
        lines += ["", *rendering.wrap(f"and {left_out} further accelerators, none worse than these; -v shows them", width)]
    lines += _rehearsal(assessment, paint, width)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _worst(groups: Sequence[DeviceGroup]) -> list[DeviceGroup]:
    """Return the worst groups of many, in the given order."""
    kept = sorted(range(len(groups)), key=lambda number: groups[number].urgency)[:_MOST_GROUPS]
    return [groups[number] for number in sorted(kept)]


def _head(assessment: Assessment, paint: Paint, width: int) -> Iterator[str]:
    if assessment.interrupted:
        text = rendering.STOPPED_EARLY
        yield from _painted(rendering.wrap(text, width, first="INTERRUPTED  "), paint, "INTERRUPTED", "bad")
        yield ""
    for stack, text in rendering.unlisted_stacks(assessment).items():
        yield from _painted(rendering.wrap(text, width, first=f"{stack}  "), paint, stack, "bad")
        yield ""
    planted = rendering.planted_defects(assessment)
    for chip, ids in rendering.simulated_chips(assessment).items():
        lines = rendering.wrap(f"{ids}, {chip}", width, first="SIMULATED  ")
        yield from _painted(lines, paint, "SIMULATED", "open")
        if acted := planted.get(chip):
            yield from rendering.wrap(acted, width, first="planted  ")
        yield ""
    name, title = rendering.clean(assessment.profile_name, 100), rendering.clean(assessment.profile_title, 300)
    yield from rendering.wrap(name if title in ("", name) else f"{name}: {title}", width, first="profile  ")
    host = rendering.clean(assessment.host.get("name") or assessment.host.get("hostname") or "", 60)
    run = [
        f"{rendering.clean(assessment.started, 40)}{f' on {host}' if host else ''}{rendering.joined(assessment)}",
        rendering.duration(assessment.seconds),
        f"seed {assessment.seed}",
        f"readiness {rendering.clean(assessment.version, 40)}",
    ]
    yield from rendering.wrap(", ".join(run), width, first="run      ")
    if taken := rendering.earlier(assessment):
        yield from rendering.wrap(", ".join(taken), width, first="earlier  ")


_STYLES = {"stop": "bad", "limit": "bold", "weight": ""}


def _diagnosis(assessment: Assessment, paint: Paint, width: int) -> Iterator[str]:
    """Yield the defects in a few sentences, before all that follows from them."""
    lines = list(diagnosis.lines(assessment, width))
    if not lines:
        return
    yield from _section(diagnosis.TITLE.upper(), paint)
    for style, line in lines:
        if style == "do":
            yield line.replace("do:", paint("do:", "good"), 1)
        else:
            yield paint(line, _STYLES[style]) if _STYLES[style] else line


def _summary(assessment: Assessment, paint: Paint, width: int) -> Iterator[str]:
    """Yield one line for each accelerator, in the given order; the model in the last column."""
    from tabulate import tabulate

    uses = [use for use in Use if any(use in item.verdicts for item in assessment.accelerators)]
    rows = []
    for item in assessment.accelerators:
        row = [rendering.clean(item.facts.id, 40) + (" (simulated)" if rendering.simulated(item.facts) else "")]
        for use in uses:
            verdict = item.verdicts.get(use)
            cells = ["no verdict", ""]
            if verdict is not None:
                cells = [verdict.decision.value.upper(), rendering.score_range(verdict)]
            row += cells
        rows.append([*row, rendering.device(item)])
    headers = ["accelerator", *[text for use in uses for text in (use.value, "score")], "model"]
    text = tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True)
    first, *others = text.splitlines()
    yield paint(rendering.cut(first, width), "dim")
    for line in others:
        yield rendering.paint_decisions(rendering.cut(line, width), paint)


def _accelerators(
    group: DeviceGroup, assessment: Assessment, paint: Paint, width: int, *, whole: bool, blocks: bool
) -> Iterator[str]:
    """All about one accelerator, or about several that are alike; long lists folded unless the `whole` is wanted."""
    heading = rendering.wrap(group.title(), width)
    device = rendering.device(group.lead)
    if len(heading) == 1 and rendering.width(heading[0]) + 2 + rendering.width(device) <= width:
        heading = [f"{heading[0]}  {device}"]
    else:
        heading.append(rendering.cut(device, width))
    for line in heading:
        yield paint(line, "bold")
    yield paint("-" * max(map(rendering.width, heading)), "dim")
    if stack := rendering.software(group.lead):
        yield from rendering.wrap(stack, width, first="stack    ")
    yield ""
    yield from _verdicts(group, assessment, paint, width)
    yield from _maturity(group, assessment, width, whole=whole)
    for title, kind in (("BLOCKERS", Kind.BLOCKER), ("LIMITS", Kind.LIMIT)):
        yield from _failed(title, group.entries[kind], paint, width, whole=whole)
    yield from _unknown(group.entries[Kind.UNKNOWN], paint, width, whole=whole)
    for title, kind in (("WAIVED", Kind.WAIVED), ("FOR INFORMATION", Kind.INFORMATION)):
        yield from _failed(title, group.entries[kind], paint, width, whole=whole)
    if skipped := sorted({entry.finding.requirement for entry in group.entries[Kind.NOT_APPLICABLE]}):
        yield from _section("NOT APPLICABLE HERE", paint)
        if whole or len(skipped) <= _MOST_NAMES:
            yield from rendering.wrap(rendering.clean(", ".join(skipped), 3000), width, first="  ")
        else:
            yield rendering.cut(f"  {len(skipped)} requirements; -v names them", width)
    yield from _soak_claims(group, paint, width)
    yield from _curves(group, paint, width, whole=whole, blocks=blocks)
    yield from _times(group, paint, width)


def _soak_claims(group: DeviceGroup, paint: Paint, width: int) -> Iterator[str]:
    """Yield the claims of soaks: what is proven and what is not."""
    if not (found := rendering.soak_claim_rows(group.lead)):
        return
    yield from _section(rendering.SOAK_CLAIMS_TITLE.upper(), paint)
    for check, proven, not_proven in found:
        yield f"  {check}"
        yield from rendering.wrap(proven, width, first="    proven:      ")
        if not_proven:
            yield from rendering.wrap(not_proven, width, first="    not proven:  ")


def _curves(group: DeviceGroup, paint: Paint, width: int, *, whole: bool, blocks: bool) -> Iterator[str]:
    """Yield a line for each curve that the first of them has: losses, sensors, bandwidth."""
    lines = curves.lines(group.lead, width - 2, blocks=blocks)
    if not lines:
        return
    yield from _section(f"CURVES{f' OF {group.lead.facts.id}' if len(group.items) > 1 else ''}", paint)
    shown = lines if whole else lines[:_MOST_CURVES]
    yield from (f"  {line}" for line in shown)
    yield from _further(len(lines) - len(shown), width)


def _verdicts(group: DeviceGroup, assessment: Assessment, paint: Paint, width: int) -> Iterator[str]:
    from tabulate import tabulate

    mark = " (simulated)" if group.is_simulated else ""
    verdicts = [(use, verdict) for use in Use if (verdict := group.verdict(use)) is not None]
    rows = [[use.value, verdict.decision.value.upper() + mark, group.score_range(use)] for use, verdict in verdicts]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True).splitlines()
    column = max(map(len, table), default=0)
    for line, (_, verdict) in zip(table, verdicts, strict=True):
        for piece in rendering.wrap(rendering.outcome_counts(verdict), width, first=f"{line:{column}}  "):
            yield rendering.paint_decisions(piece, paint)
    missing = [use.value for use in assessment.uses if group.verdict(use) is None]  # `altered` saw to it: no finding either
    if missing:
        yield f"{', '.join(missing)}: no verdict; this profile does not cover it"


def _maturity(group: DeviceGroup, assessment: Assessment, width: int, *, whole: bool) -> Iterator[str]:
    """Yield how much of what PyTorch users rely on is there and right, and what others state of the stack."""
    found = rendering.maturity_of(group.lead, assessment)
    if found.share is None:
        return
    yield from rendering.wrap(rendering.maturity_line(found), width, first="maturity  ")
    if (stated := rendering.stated_line(found)) is not None:
        yield from rendering.wrap(stated, width, first="stated    ")
    for area, name, standing, reason in rendering.maturity_rows(found) if whole else ():
        yield from rendering.wrap(f"{standing}: {name} ({area}){f': {reason}' if reason else ''}", width, first="          ")


def _section(title: str, paint: Paint) -> Iterator[str]:
    yield ""
    yield paint(title, "bold")


def _failed(
    title: str, entries: Sequence[SharedFinding], paint: Paint, width: int, *, whole: bool
) -> Iterator[str]:
    """Yield failed requirements: measured value, limit, subject and remedy."""
    if not entries:
        return
    yield from _section(title, paint)
    shown = entries if whole else entries[: _MOST_ENTRIES[title]]
    for entry in shown:
        finding = entry.finding
        name = rendering.clean(finding.requirement, 100)
        check = rendering.clean(finding.check, 100)
        applies_to = [
            f"{entry.only} only" if entry.only else "",
            entry.uses_text,
            f"{check} on {entry.together} together" if entry.together else check,
        ]
        text = f"({'; '.join(part for part in applies_to if part)})"
        style = "bad" if title == "BLOCKERS" else "bold"
        title_text = rendering.title(finding)
        for line in rendering.wrap(title_text, width, first="  ") if title_text else ():
            yield f"  {paint(line.strip(), style)}"
        first, rest = ("    ", "      ") if title_text else ("  ", "    ")
        lines = rendering.wrap(text, width, first=f"{first}{name}  ", rest=rest)
        if rendering.width(name) > width // 2:
            lines = rendering.wrap(f"{name} {text}", width, first=first, rest=rest)
        yield from lines if title_text else _painted(lines, paint, name, style)
        for statement in entry.statements:
            indent = _INDENT
            if statement.applies_to:
                yield from rendering.wrap(f"{statement.applies_to}:", width, first=_INDENT)
                indent += "  "
            for line in statement.lines:
                yield from rendering.wrap(line, width, first=indent)
        if finding.why and title == "BLOCKERS":
            yield from rendering.wrap(rendering.clean(finding.why), width, first="    why: ")
        yield from _closing(entry, paint, width)
    yield from _further(len(entries) - len(shown), width)


def _further(count: int, width: int) -> Iterator[str]:
    if count:
        yield rendering.cut(f"  and {count} more; -v shows {'them' if count > 1 else 'it'}", width)


def _unknown(entries: Sequence[SharedFinding], paint: Paint, width: int, *, whole: bool) -> Iterator[str]:
    """Yield unknown requirements: musts first; those of one cause together."""
    if not entries:
        return
    yield from _section("NOT MEASURED", paint)
    kept, left_out = rendering.left_out(entries)
    causes = rendering.grouped(kept)
    shown = causes if whole else causes[:_MOST_CAUSES]
    for group in shown:
        first = group.first
        style = "open" if first.finding.level is Level.MUST else "bold"
        yield from _named(group, paint, style, width)
        for applies_to, reason in first.reasons:
            yield from rendering.wrap(f"{applies_to}: {reason}" if applies_to else reason, width, first=_INDENT)
        yield from _closing(first, paint, width)
    yield from _further(len(causes) - len(shown), width)
    for chosen in left_out:
        yield from rendering.wrap(chosen.words, width, first="  ", rest="    ")
        yield from _painted(rendering.wrap(chosen.remedy, width, first="    do:  "), paint, "do:", "good")


def _named(group: Group, paint: Paint, style: str, width: int) -> Iterator[str]:
    """Yield the requirements that are unknown for one cause: all titles where they are few, else only the first."""
    findings = [entry.finding for entry in group.entries]
    names = [rendering.clean(finding.requirement, 100) for finding in findings]
    about = f"({findings[0].level}; {group.first.uses_text})"
    title = rendering.title(findings[0])
    if not title:
        text = ", ".join(names)
        yield from _painted(rendering.wrap(f"{text} {about}", width, first="  ", rest="    "), paint, text, style)
        return
    few = len(findings) <= _MOST_TITLES
    for finding, name in zip(findings, names, strict=True) if few else [(findings[0], names[0])]:
        title_text = rendering.title(finding)
        lines = rendering.wrap(name, width, first=f"  {title_text}  ", rest="    ")
        if rendering.width(title_text) > width - 20:
            lines = rendering.wrap(f"{title_text} {name}", width, first="  ", rest="    ")
        yield from _painted(lines, paint, title_text, style)
    more = "" if few else f"and {len(names) - 1} more: {', '.join(names[1:])} "
    yield from rendering.wrap(f"{more}{about}", width, first="    ")


def _closing(entry: SharedFinding, paint: Paint, width: int) -> Iterator[str]:
    finding = entry.finding
    if (waiver := finding.waived) is not None:
        by, until = rendering.clean(waiver.by, 100), rendering.clean(waiver.until, 20)
        text = f"by {by} until {until}: {rendering.clean(waiver.reason)}"
        lines = rendering.wrap(text, width, first="    waived ", rest=_HANG)
        yield from _painted(lines, paint, "waived", "open")
    if (waiver := finding.expired_waiver) is not None:
        by, until = rendering.clean(waiver.by, 100), rendering.clean(waiver.until, 20)
        text = f"on {until}; given by {by}: {rendering.clean(waiver.reason)}"
        lines = rendering.wrap(text, width, first="    waiver expired ", rest=_HANG)
        yield from _painted(lines, paint, "waiver expired", "bad")
    if finding.remedy is not None:
        lines = rendering.wrap(rendering.clean(finding.remedy.text), width, first="    do:  ")
        yield from _painted(lines, paint, "do:", "good")


def _times(group: DeviceGroup, paint: Paint, width: int) -> Iterator[str]:
    """Yield times, slowest first. Checks that failed are always named, with the reason; quick ones are summed up."""
    from tabulate import tabulate

    ordered = group.times
    if not ordered:
        return
    several = len(group.items) > 1
    yield from _section(f"TIME OF EACH CHECK{' (SLOWEST ACCELERATOR)' if several else ''}", paint)
    shown: list[Time] = []
    rest: list[Time] = []
    away = [time for time in ordered if time.left_out]
    for time in ordered:
        if not time.left_out:
            (shown if len(shown) < _MOST_TIMES or time.status is not Status.MEASURED else rest).append(time)
    rows = [
        [rendering.clean(time.check, 60), rendering.duration(time.seconds), time.status.value, _remark(time)]
        for time in shown
    ]
    if rest:
        rows.append([f"{len(rest)} more", rendering.duration(sum(time.seconds for time in rest)), "measured", ""])
    if away:
        rows.append([f"{len(away)} more", rendering.duration(0.0), "skipped", "left out by an option"])
    rows.append(["total", rendering.duration(group.seconds), "", ""])
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "right", "left", "left"))
    for line in table.splitlines():
        yield rendering.cut(f"  {line}", width)


def _remark(time: Time) -> str:
    tries = f"({time.attempts} tries) " if time.attempts > 1 else ""
    return tries + ": ".join(part for part in (time.applies_to, time.reason) if part)


def _rehearsal(assessment: Assessment, paint: Paint, width: int) -> Iterator[str]:
    texts = rendering.detection_texts(assessment)
    if not texts:
        return
    yield from _section(rendering.REHEARSAL_TITLE.upper(), paint)
    column = max(map(len, texts)) + 2
    for name, text in texts.items():
        yield from rendering.wrap(text, width, first=f"  {name:{column}}")


def _painted(lines: Iterable[str], paint: Paint, wanted: str, style: str) -> Iterator[str]:
    """Yield the lines, with the first `wanted` in the first line coloured."""
    for number, line in enumerate(lines):
        yield line.replace(wanted, paint(wanted, style), 1) if number == 0 else line
