"""Markdown for a CI step summary or a comment: verdicts, blockers with what to do, folded details; below 1 MiB."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from readiness import telling
from readiness.model import Assessment, Decision, Finding, Use
from readiness.telling import Alike, Kind, Shared, Statement, Time
from readiness.telling import escape_markdown as escape

SUFFIX = ".md"

#: A step summary may have 1 MiB; other text may join it there.
LARGEST_BYTES = 1_000_000
_RESERVE_BYTES = 2_000
_ROWS_A_TABLE = 500
_MOST_ROWS, _MOST_COLUMNS = 50, 12
_MOST_TITLES = 4
_SIGNS = {Decision.READY: "✅", Decision.NOT_READY: "❌", Decision.UNDETERMINED: "❔"}
_PLAIN_CODE = re.compile(r"[\w.:+/@=-]+", re.ASCII)


def render(assessment: Assessment, *, colour: bool = False) -> str:  # noqa: ARG001
    """The whole text; what does not fit any more is left out from the end and counted, never cut in the middle."""
    pieces, size, omitted = [], 0, 0
    for piece in _pieces(assessment):
        needed = len(piece.encode("utf-8", "replace"))
        if omitted or size + needed > LARGEST_BYTES - _RESERVE_BYTES:
            omitted += 1
            continue
        pieces.append(piece)
        size += needed
    if omitted:
        pieces.append(f"\n> {omitted} further parts did not fit here; the JSON report has them all.\n")
    return "".join(pieces)


def _pieces(assessment: Assessment) -> Iterator[str]:
    """Parts that each stand alone, the most important first: all verdicts, all blockers, ..., then the details."""
    yield f"## Readiness for {_title(assessment)}\n\n"
    if assessment.interrupted:
        yield "> **Interrupted** before its end: what was not measured by then counts as unknown.\n\n"
    for stack, reason in telling.failed_stacks(assessment).items():
        yield f"> **{escape(stack)}**: its accelerators could not be listed and are not assessed: {escape(reason)}\n\n"
    if not assessment.accelerators:
        yield "No accelerator was assessed, so nothing is known.\n"
        return
    for note, ids in telling.rehearsals(assessment).items():
        yield f"> **Simulated**: {escape(ids)}, {escape(note)}\n\n"
    for taken in telling.earlier(assessment):
        yield f"> **Earlier**: {escape(taken)}\n\n"
    groups = telling.alike(assessment)
    order = {item.facts.id: place for place, item in enumerate(assessment.accelerators)}
    yield from _verdicts(groups)
    for title, kind in (("What stands in the way", Kind.BLOCKER), ("Limits", Kind.LIMIT)):
        yield from _each(title, groups, kind, order)
    yield from _unknown(groups, order)
    yield from _each("Waived", groups, Kind.WAIVED, order)
    if said := telling.rehearsal(assessment):
        yield f"\n### {telling.REHEARSAL_TITLE}\n\n"
        yield from (f"- {name}: {escape(text, 4000)}\n" for name, text in said.items())
    for group in groups:
        if strays := telling.strays(group.lead):
            text = escape(", ".join(strays), 3000)
            yield f"\n{group.names(code)}: named by the verdict, without a finding: {text}\n"
        if found := telling.proofs(group.lead):
            yield f"\n### {telling.PROOFS_TITLE}\n\n"
            for check, proven, not_proven in found:
                yield f"- {code(check)} on {group.names(code)} proves: {escape(proven, 3000)}\n"
                yield f"- it does not prove: {escape(not_proven, 3000)}\n"
        yield from _details(group)
    yield (
        f"\n<sub>readiness {escape(assessment.version)}, seed {assessment.seed}, started {escape(assessment.started)}, "
        f"took {telling.duration(assessment.seconds)}</sub>\n"
    )


def code(text: str) -> str:
    """A name in code type where that is safe."""
    return f"`{text}`" if _PLAIN_CODE.fullmatch(text) and len(text) <= 300 else escape(text, 300)


def _title(assessment: Assessment) -> str:
    name, title = assessment.profile_name, assessment.profile_title
    return code(name) if title in ("", name) else f"{code(name)}: {escape(title, 300)}"


def _verdicts(groups: Sequence[Alike]) -> Iterator[str]:
    yield "| accelerator | use | verdict | score..ceiling | | device |\n|---|---|---|---:|---|---|\n"
    for group in groups:
        device = escape(telling.device(group.lead))
        for use in Use:
            verdict = group.verdict(use)
            if verdict is not None:
                yield (
                    f"| {group.title(code)} | {use} | {_SIGNS[verdict.decision]} **{verdict.decision}** "
                    f"| {group.span(use)} | {telling.tally(verdict)} | {device} |\n"
                )
        if not group.lead.verdicts:
            yield f"| {group.title(code)} | | no verdict | | | {device} |\n"


def _each(title: str, groups: Sequence[Alike], kind: Kind, order: Mapping[str, int]) -> Iterator[str]:
    """A point for each finding; what is said alike of accelerators that differ otherwise is said once."""
    points: dict[tuple[str, str], tuple[Shared, list[str]]] = {}
    for group in groups:
        for entry in group.entries[kind]:
            name = _name(entry.finding)
            together = f" on {escape(entry.together)} together" if entry.together else ""
            body = (
                f"({entry.uses_text}; {code(entry.finding.check or 'check unknown')}{together})"
                f"{_said(entry)}{_closing(entry)}"
            )
            points.setdefault((name, body), (entry, []))[1].extend(entry.ids)
    if points:
        yield f"\n### {title}\n\n"
    for (name, body), (entry, ids) in points.items():
        ids.sort(key=order.__getitem__)
        only = " only" if entry.only == telling.names(ids) else ""
        yield f"- {name} on {telling.names(ids, code)}{only} {body}"


def _name(finding: Finding) -> str:
    """The title, then the id; the id alone where there is no title."""
    title = telling.title(finding)
    id = finding.requirement
    return f"**{escape(title)}** ({code(telling.clean(id, 200))})" if title else f"**{escape(id, 200)}**"


def _names(findings: Sequence[Finding]) -> str:
    """Those of one cause: each with its title where they are few, else the first one's."""
    if len(findings) <= _MOST_TITLES or not telling.title(findings[0]):
        return ", ".join(map(_name, findings))
    others = ", ".join(code(telling.clean(finding.requirement, 200)) for finding in findings[1:])
    return f"{_name(findings[0])} and {len(findings) - 1} more ({others})"


def _said(entry: Shared) -> str:
    """Figure and words behind the name; where the accelerators of a group differ in them, a point for each."""
    statements = entry.statements
    if len(statements) == 1:
        first, *rest = statements[0].lines
        return f": {escape(first)}\n" + "".join(f"  - {escape(line)}\n" for line in rest)
    return "\n" + "".join(f"  - {escape(each.whose)}: {escape('; '.join(each.lines), 1500)}\n" for each in statements)


def _unknown(groups: Sequence[Alike], order: Mapping[str, int]) -> Iterator[str]:
    points: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        kept, left_out = telling.left_out(group.entries[Kind.UNKNOWN])
        for cause in telling.grouped(kept):
            first = cause.first
            names = _names([entry.finding for entry in cause.entries])
            reasons = "; ".join(f"{whose}: {reason}" if whose else reason for whose, reason in first.reasons)
            body = f"({first.finding.level}; {first.uses_text}): {escape(reasons, 3000)}\n{_closing(first)}"
            points.setdefault((names, body), []).extend(first.ids)
        for chosen in left_out:
            told = escape(chosen.words), f"\n  - **do:** {escape(chosen.remedy)}\n"
            points.setdefault(told, []).extend(chosen.entries[0].ids)
    if points:
        yield "\n### What could not be told\n\n"
    for (names, body), ids in points.items():
        yield f"- {names} on {telling.names(sorted(ids, key=order.__getitem__), code)} {body}"


def _closing(entry: Shared) -> str:
    finding, text = entry.finding, ""
    for waiver, said in ((finding.waived, "waived"), (finding.expired_waiver, "**waiver expired**, it was")):
        if waiver is not None:
            by, until = escape(waiver.by, 100), escape(waiver.until, 20)
            text += f"  - {said} by {by} until {until}: {escape(waiver.reason)}\n"
    if finding.remedy is not None:
        text += f"  - **do:** {escape(finding.remedy.text)}\n"
    return text


def _details(group: Alike) -> Iterator[str]:
    """Folded: every finding, then where the time went. A table is one part: an open fold would swallow what follows."""
    rows = [
        f"| {escape(entry.finding.requirement, 200)} | {entry.uses_text} | {entry.finding.level} | {kind} "
        f"| {escape(_value(statement), 200)} "
        f"| {escape(telling.limit(entry.finding), 200)} | {escape(telling.labels(statement.finding.labels), 300)} |"
        for kind, entries in group.entries.items()
        for entry in entries
        for statement in entry.statements
    ]
    header = "| requirement | use | level | outcome | measured | limit | where |\n|---|---|---|---|---|---|---|"
    yield from _folded(f"{group.title()}: findings", header, rows)
    if times := group.times:
        at_most = " on each, at most" if len(group.items) > 1 else ""
        title = f"{group.title()}: where the time went{at_most}: {telling.duration(group.seconds)} together"
        header = "| check | time | status | tries | reason |\n|---|---:|---|---:|---|"
        yield from _folded(title, header, [_time(time) for time in times])
    failed = {entry.finding.check for kind in (Kind.BLOCKER, Kind.LIMIT) for entry in group.entries[kind]}
    for check in sorted(failed):
        yield from _rows(group, check)
    if stack := telling.software(group.lead):
        yield f"\n{group.names(code)}: {escape(stack, 3000)}\n"


def _value(statement: Statement) -> str:
    return f"{statement.value} ({statement.whose})".lstrip() if statement.whose else statement.value


def _time(time: Time) -> str:
    reason = ": ".join(part for part in (time.whose, time.reason) if part)
    seconds = telling.duration(time.seconds)
    return f"| {code(time.check)} | {seconds} | {time.status} | {time.attempts} | {escape(reason, 300)} |"


def _rows(group: Alike, check: str) -> Iterator[str]:
    """The detail behind a failure, as far as it is a matter of a screen or two; what several accelerators share, once."""
    found: dict[str, tuple[Sequence[Mapping[str, Any]], list[str]]] = {}
    for item in group.items:
        for entry in item.evidence:
            if entry.check == check and entry.rows:
                found.setdefault(repr(entry.rows), (entry.rows, []))[1].append(item.facts.id)
    for every, ids in found.values():
        shown = every[:_MOST_ROWS]
        columns, every_column = _columns(shown)
        header = "| " + " | ".join(escape(name, 60) for name in columns) + " |\n" + "|---" * len(columns) + "|"
        rows = ["| " + " | ".join(escape(_cell(row.get(name)), 120) for name in columns) + " |" for row in shown]
        count = f"{len(shown)} of {len(every)}" if len(shown) < len(every) else f"{len(shown)}"
        some = f", {len(columns)} of {every_column} columns" if len(columns) < every_column else ""
        yield from _folded(f"{telling.names(ids)}: {check}, rows of detail: {count}{some}", header, rows)


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], int]:
    """The columns that most rows fill, in their order, and how many there are; what no row fills is none."""
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
    return telling.figure(value) if isinstance(value, bool | int | float) else str(value)


def _folded(title: str, header: str, rows: Sequence[str]) -> Iterator[str]:
    """A table that opens by a click; long ones in several, so that what does not fit costs no more than it must."""
    title = html.escape(telling.clean(title, 300))  # raw HTML there: a backslash would be seen
    for start in range(0, len(rows), _ROWS_A_TABLE):
        part = rows[start : start + _ROWS_A_TABLE]
        which = f" ({start + 1} to {start + len(part)} of {len(rows)})" if len(rows) > _ROWS_A_TABLE else ""
        body = "\n".join(part)
        yield f"\n<details><summary>{title}{which}</summary>\n\n{header}\n{body}\n\n</details>\n"
