"""Markdown for a comment or a CI step summary: verdicts, blockers with what to do, folded details; below 64 KB."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from readiness import rendering
from readiness.datamodel import Assessment, Finding, Use
from readiness.judging.maturity import Standing
from readiness.rendering import DeviceGroup, Kind, Section, SharedFinding, Statement, Time, diagnosis
from readiness.rendering import escape_markdown as escape
from readiness.rendering import rows as detail_rows
from readiness.rendering.text_budget import ready_parts
from readiness.rendering.verdicts import SIGNS

SUFFIX = ".md"

_ROWS_A_TABLE = 100
_MOST_ROWS, _MOST_COLUMNS = 50, 12
_MOST_TITLES = 4
_MOST_IN_ORDER = 20
_PLAIN_CODE = re.compile(r"[\w.:+/@=-]+", re.ASCII)
Part = Callable[[], str]


def render(assessment: Assessment, *, colour: bool = False) -> str:  # noqa: ARG001
    """Render the text: the most urgent first, the rest folded; omitted parts are counted, and no part is cut."""
    end = (
        f"\n<sub>readiness {escape(assessment.version, 100)}, seed {assessment.seed}, "
        f"started {escape(assessment.started, 100)}, took {rendering.duration(assessment.seconds)}</sub>\n"
    )
    return rendering.comment(list(_sections(assessment)), end)


def _sections(assessment: Assessment) -> Iterator[Section]:
    """The most important first: notes, all verdicts, all blockers, ..., then the details."""
    yield Section("notes", ready_parts(_notes(assessment)), 0.15)
    groups = rendering.group_devices(assessment)
    if not groups:
        return
    order = {item.facts.id: place for place, item in enumerate(assessment.accelerators)}
    yield Section("verdicts", _verdicts(groups), 0.2, _TABLE_OF_VERDICTS)
    yield Section("sentences of the diagnosis", ready_parts(_diagnosis(assessment)), 0.1, f"\n### {diagnosis.TITLE}\n\n")
    yield _each("Blockers", "blockers", groups, Kind.BLOCKER, order, 0.3, 10)
    yield _each("Limits", "limits", groups, Kind.LIMIT, order, 0.1, 5)
    yield _unknown(groups, order)
    yield _each("Waived", "waived failures", groups, Kind.WAIVED, order, 0.05, 5)
    yield Section("maturity", ready_parts(_maturity(assessment)), 0.05, f"\n### {rendering.MATURITY_TITLE}\n\n")
    lines = [f"- {name}: {escape(text, 4000)}\n" for name, text in rendering.detection_texts(assessment).items()]
    yield Section("lines of the rehearsal", ready_parts(lines), 0.05, f"\n### {rendering.REHEARSAL_TITLE}\n\n")
    yield Section("claims of soaks", ready_parts(_soak_claims(groups)), 0.05, f"\n### {rendering.SOAK_CLAIMS_TITLE}\n\n")
    stacks = [(group.names(code), rendering.software(group.lead)) for group in groups]
    versions = (f"\n{ids}: {escape(software, 3000)}\n" for ids, software in stacks if software)
    yield Section("software stacks", ready_parts(versions), 0.05)
    yield Section("tables", [*_immature(assessment), *_details(groups)], 1.0)


def _notes(assessment: Assessment) -> Iterator[str]:
    yield f"## Readiness for {_title(assessment)}\n\n"
    if assessment.interrupted:
        yield "> **Interrupted**: what was not measured counts as unknown.\n\n"
    if not assessment.accelerators:
        yield f"{rendering.NOTHING_ASSESSED}\n"
    for note, ids in rendering.simulated_chips(assessment).items():
        yield f"> **Simulated**: {escape(ids)}, {escape(note)}\n\n"
    for stack, text in rendering.unlisted_stacks(assessment).items():
        yield f"> **{escape(stack)}**: {escape(text)}\n\n"
    for taken in rendering.earlier(assessment):
        yield f"> **Earlier**: {escape(taken)}\n\n"


def _diagnosis(assessment: Assessment) -> Iterator[str]:
    """A point for each defect: what is wrong, what it explains, what to do first."""
    found, rest = diagnosis.diagnosis_texts(assessment)
    for number, one in enumerate(found, 1):
        yield f"{number}. **{escape(one.sentence)}** {escape(one.weight)}\n   - **first:** {escape(one.remedy)}\n"
    if rest:
        yield f"\n{escape(rest)}\n"


def _maturity(assessment: Assessment) -> Iterator[str]:
    """A point for each group: how much of what PyTorch users rely on is there and right, and what others state."""
    for one in rendering.maturity_texts(assessment):
        stated = f"  - {escape(one.stated)}\n" if one.stated is not None else ""
        yield f"- {one.group.title(code)}: {escape(one.line)}\n{stated}"


def _immature(assessment: Assessment) -> Iterator[Part]:
    """Folded: what of that is missing or wrong. What is unknown is counted in the line."""
    header = "| area | what | standing | why |\n|---|---|---|---|"
    for one in rendering.maturity_texts(assessment):
        rows = [partial(_line_of, row) for row in one.rows if row[2] != Standing.UNKNOWN]
        yield from _folded(f"{one.group.title()}: what of PyTorch is missing or wrong", header, rows)


def _line_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escape(cell, 300) for cell in cells)} |"


def code(text: str) -> str:
    """A name in code type where that is safe."""
    return f"`{text}`" if _PLAIN_CODE.fullmatch(text) and len(text) <= 300 else escape(text, 300)


def _title(assessment: Assessment) -> str:
    name, title = assessment.profile_name, assessment.profile_title
    return code(name) if title in ("", name) else f"{code(name)}: {escape(title, 300)}"


_NO_USE: tuple[Use | None, ...] = (None,)
_TABLE_OF_VERDICTS = "| accelerator | use | verdict | score..ceiling | | device |\n|---|---|---|---:|---|---|\n"


def _verdicts(groups: Sequence[DeviceGroup]) -> list[Part]:
    """Return a row for each use of each group, the worst first where not all may fit."""
    ordered = groups if len(groups) <= _MOST_IN_ORDER else sorted(groups, key=lambda group: group.urgency)
    uses = [(group, use) for group in ordered for use in (tuple(group.lead.verdicts) or _NO_USE)]
    return [partial(_verdict, group, use) for group, use in uses]


def _verdict(group: DeviceGroup, use: Use | None) -> str:
    device = escape(rendering.device(group.lead))
    verdict = None if use is None else group.verdict(use)
    if use is None or verdict is None:
        return f"| {group.title(code)} | | no verdict | | | {device} |\n"
    return (
        f"| {group.title(code)} | {use} | {SIGNS[verdict.decision]} **{verdict.decision}** "
        f"| {group.score_range(use)} | {rendering.outcome_counts(verdict)} | {device} |\n"
    )


def _each(
    title: str, name: str, groups: Sequence[DeviceGroup], kind: Kind, order: Mapping[str, int], share: float, unfolded: int
) -> Section:
    """Return a list item for each finding; equal items of different groups are merged."""
    points: dict[tuple[object, ...], tuple[SharedFinding, list[str]]] = {}
    for group in groups:
        for entry in group.entries[kind]:
            points.setdefault(_likeness(entry), (entry, []))[1].extend(entry.ids)
    parts = [partial(_point, entry, sorted(ids, key=order.__getitem__)) for entry, ids in points.values()]
    return Section(name, parts, share, f"\n### {title}\n\n", unfolded)


def _likeness(entry: SharedFinding) -> tuple[object, ...]:
    """Return the key that equal list items share."""
    finding = entry.finding
    words = tuple((each.applies_to, *each.lines) for each in entry.statements)
    notes = repr(finding.waived), repr(finding.expired_waiver), repr(finding.remedy)
    return (finding.requirement, finding.title, entry.uses_text, finding.check, entry.together, words, *notes)


def _point(entry: SharedFinding, ids: Sequence[str]) -> str:
    together = f" on {escape(entry.together)} together" if entry.together else ""
    only = " only" if entry.only == rendering.names(ids) else ""
    about = f"({entry.uses_text}; {code(entry.finding.check or 'check unknown')}{together})"
    return f"- {_name(entry.finding)} on {rendering.names(ids, code)}{only} {about}{_statements(entry)}{_closing(entry)}"


def _name(finding: Finding) -> str:
    """The title, then the id; the id alone where there is no title."""
    title = rendering.title(finding)
    id = finding.requirement
    return f"**{escape(title)}** ({code(rendering.clean(id, 200))})" if title else f"**{escape(id, 200)}**"


def _names(findings: Sequence[Finding]) -> str:
    """Return the names of findings of one cause: each with its title where they are few, else only the first title."""
    if len(findings) <= _MOST_TITLES or not rendering.title(findings[0]):
        return ", ".join(map(_name, findings))
    others = ", ".join(code(rendering.clean(finding.requirement, 200)) for finding in findings[1:])
    return f"{_name(findings[0])} and {len(findings) - 1} more ({others})"


def _statements(entry: SharedFinding) -> str:
    """Return figure and reason behind the name; a list item for each where the accelerators of a group differ."""
    statements = entry.statements
    if len(statements) == 1:
        first, *rest = statements[0].lines
        return f": {escape(first)}\n" + "".join(f"  - {escape(line)}\n" for line in rest)
    return "\n" + "".join(f"  - {escape(each.applies_to)}: {escape('; '.join(each.lines), 1500)}\n" for each in statements)


def _unknown(groups: Sequence[DeviceGroup], order: Mapping[str, int]) -> Section:
    points: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        kept, left_out = rendering.left_out(group.entries[Kind.UNKNOWN])
        for cause in rendering.grouped(kept):
            first = cause.first
            names = _names([entry.finding for entry in cause.entries])
            reasons = "; ".join(f"{applies_to}: {reason}" if applies_to else reason for applies_to, reason in first.reasons)
            body = f"({first.finding.level}; {first.uses_text}): {escape(reasons, 3000)}\n{_closing(first)}"
            points.setdefault((names, body), []).extend(first.ids)
        for chosen in left_out:
            point = escape(chosen.words), f"\n  - **do:** {escape(chosen.remedy)}\n"
            points.setdefault(point, []).extend(chosen.entries[0].ids)
    texts = [
        f"- {names} on {rendering.names(sorted(ids, key=order.__getitem__), code)} {body}"
        for (names, body), ids in points.items()
    ]
    return Section("causes of unknown results", ready_parts(texts), 0.1, "\n### Not measured\n\n", 10)


def _soak_claims(groups: Sequence[DeviceGroup]) -> Iterator[str]:
    for group in groups:
        for check, proven, not_proven in rendering.soak_claim_rows(group.lead):
            yield (
                f"- {code(check)} on {group.names(code)} proves: {escape(proven, 3000)}\n"
                f"- it does not prove: {escape(not_proven, 3000)}\n"
            )


def _closing(entry: SharedFinding) -> str:
    finding, text = entry.finding, ""
    for waiver, state in ((finding.waived, "waived"), (finding.expired_waiver, "**waiver expired**, it was")):
        if waiver is not None:
            by, until = escape(waiver.by, 100), escape(waiver.until, 20)
            text += f"  - {state} by {by} until {until}: {escape(waiver.reason)}\n"
    if finding.remedy is not None:
        text += f"  - **do:** {escape(finding.remedy.text)}\n"
    return text


def _details(groups: Sequence[DeviceGroup]) -> Iterator[Part]:
    """Folded: every finding, time of each check, then the rows behind what failed. A table is one part."""
    for group in groups:
        yield from _findings(group)
    for group in groups:
        yield from _times(group)
    for group in groups:
        failed = {entry.finding.check for kind in (Kind.BLOCKER, Kind.LIMIT) for entry in group.entries[kind]}
        for check in sorted(failed):
            yield from _rows(group, check)


def _findings(group: DeviceGroup) -> Iterator[Part]:
    rows = [
        partial(_finding, entry, statement, kind)
        for kind, entries in group.entries.items()
        for entry in entries
        for statement in entry.statements
    ]
    header = "| requirement | use | level | outcome | measured | bound | where |\n|---|---|---|---|---|---|---|"
    return _folded(f"{group.title()}: findings", header, rows)


def _finding(entry: SharedFinding, statement: Statement, kind: Kind) -> str:
    return (
        f"| {escape(entry.finding.requirement, 200)} | {entry.uses_text} | {entry.finding.level} | {kind} "
        f"| {escape(_value(statement), 200)} "
        f"| {escape(rendering.limit(entry.finding), 200)} | {escape(rendering.labels(statement.finding.labels), 300)} |"
    )


def _times(group: DeviceGroup) -> Iterator[Part]:
    times = group.times
    if not times:
        return
    at_most = " (slowest accelerator)" if len(group.items) > 1 else ""
    title = f"{group.title()}: time of each check{at_most}: {rendering.duration(group.seconds)} in total"
    header = "| check | time | status | tries | reason |\n|---|---:|---|---:|---|"
    yield from _folded(title, header, [partial(_time, time) for time in times])


def _value(statement: Statement) -> str:
    return f"{statement.value} ({statement.applies_to})".lstrip() if statement.applies_to else statement.value


def _time(time: Time) -> str:
    reason = ": ".join(part for part in (time.applies_to, time.reason) if part)
    seconds = rendering.duration(time.seconds)
    return f"| {code(time.check)} | {seconds} | {time.status} | {time.attempts} | {escape(reason, 300)} |"


def _rows(group: DeviceGroup, check: str) -> Iterator[Part]:
    """Yield the detail rows behind a failure, limited in number; equal rows of several accelerators once."""
    found: dict[str, tuple[Sequence[Mapping[str, Any]], list[str]]] = {}
    for item in group.items:
        for entry in item.evidence:
            point = detail_rows.for_people(entry.rows) if entry.check == check else []
            if point:
                found.setdefault(repr(point), (point, []))[1].append(item.facts.id)
    for every, ids in found.values():
        rows_shown = every[:_MOST_ROWS]
        columns, every_column = _columns(rows_shown)
        header = "| " + " | ".join(escape(name, 60) for name in columns) + " |\n" + "|---" * len(columns) + "|"
        rows = [partial(_row, row, columns) for row in rows_shown]
        count = f"{len(rows_shown)} of {len(every)}" if len(rows_shown) < len(every) else f"{len(rows_shown)}"
        some = f", {len(columns)} of {every_column} columns" if len(columns) < every_column else ""
        yield from _folded(f"{rendering.names(ids)}: {check}, rows of detail: {count}{some}", header, rows)


def _row(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    return "| " + " | ".join(escape(_cell(row.get(name)), 120) for name in columns) + " |"


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], int]:
    """Return the columns that most rows fill, in order, and the number of filled columns."""
    filled: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            filled[name] = filled.get(name, 0) + (value not in (None, "", [], {}))
    there = [name for name, count in filled.items() if count]
    kept = sorted(there, key=lambda name: -filled[name])[:_MOST_COLUMNS]
    return [name for name in there if name in kept], len(there)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return rendering.figure(value)
    return detail_rows.curve(value) or str(value)


def _folded(title: str, header: str, rows: Sequence[Part]) -> Iterator[Part]:
    """Yield a folded table; long ones in several parts, so that only what does not fit is omitted."""
    title = html.escape(rendering.clean(title, 300))  # raw HTML there: a backslash would be seen
    for start in range(0, len(rows), _ROWS_A_TABLE):
        part = rows[start : start + _ROWS_A_TABLE]
        which = f" ({start + 1} to {start + len(part)} of {len(rows)})" if len(rows) > _ROWS_A_TABLE else ""
        yield partial(_fold, f"{title}{which}", header, part)


def _fold(title: str, header: str, rows: Sequence[Part]) -> str:
    body = "\n".join(row() for row in rows)
    return f"\n<details><summary>{title}</summary>\n\n{header}\n{body}\n\n</details>\n"
