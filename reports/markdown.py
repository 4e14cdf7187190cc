"""Markdown for a CI step summary or a comment: verdicts, blockers with what to do, folded details; below 1 MiB."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from readiness import telling
from readiness.model import AcceleratorAssessment, Assessment, Decision, Evidence, Finding, Use
from readiness.telling import Kind, Told

SUFFIX = ".md"

#: A step summary may have 1 MiB; other text may join it there.
LARGEST_BYTES = 1_000_000
_RESERVE_BYTES = 2_000
_ROWS_A_TABLE = 500
_MOST_ROWS, _MOST_COLUMNS = 50, 8
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
    yield from _verdicts(assessment)
    told = [(item, telling.told(item)) for item in assessment.accelerators]
    for title, kind in (("What stands in the way", Kind.BLOCKER), ("Limits", Kind.LIMIT)):
        yield from _each(title, [(item, kinds[kind]) for item, kinds in told])
    yield from _unknown([(item, kinds[Kind.UNKNOWN]) for item, kinds in told])
    yield from _each("Waived", [(item, kinds[Kind.WAIVED]) for item, kinds in told])
    for item, kinds in told:
        if strays := telling.strays(item):
            text = escape(", ".join(strays), 3000)
            yield f"\n{code(item.facts.id)}: named by the verdict, without a finding: {text}\n"
        yield from _details(item, kinds)
    yield (
        f"\n<sub>readiness {escape(assessment.version)}, seed {assessment.seed}, started {escape(assessment.started)}, "
        f"took {telling.duration(assessment.seconds)}</sub>\n"
    )


def escape(text: object, longest: int = 1000) -> str:
    """Text that stays text: no markup, no HTML, no link, no mention, no new table cell."""
    safe = telling.clean(text, longest).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    safe = re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", safe)
    return safe.replace("@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")


def code(text: str) -> str:
    """A name in code type where that is safe."""
    return f"`{text}`" if _PLAIN_CODE.fullmatch(text) and len(text) <= 300 else escape(text, 300)


def _title(assessment: Assessment) -> str:
    name, title = assessment.profile_name, assessment.profile_title
    return code(name) if title in ("", name) else f"{code(name)}: {escape(title, 300)}"


def _verdicts(assessment: Assessment) -> Iterator[str]:
    yield "| accelerator | use | verdict | score..ceiling | | device |\n|---|---|---|---:|---|---|\n"
    for item in assessment.accelerators:
        for use in Use:
            if use not in item.verdicts:
                continue
            verdict = item.verdicts[use]
            yield (
                f"| {code(item.facts.id)} | {use} | {_SIGNS[verdict.decision]} **{verdict.decision}** "
                f"| {telling.span(verdict)} | {telling.tally(verdict)} | {escape(telling.device(item))} |\n"
            )
        if not item.verdicts:
            yield f"| {code(item.facts.id)} | | no verdict | | | {escape(telling.device(item))} |\n"


def _each(title: str, told: Sequence[tuple[AcceleratorAssessment, list[Told]]]) -> Iterator[str]:
    if not any(entries for _, entries in told):
        return
    yield f"\n### {title}\n\n"
    for item, entries in told:
        for entry in entries:
            finding = entry.finding
            yield (
                f"- **{escape(finding.requirement, 200)}** on {code(item.facts.id)} "
                f"({entry.uses_text}; {code(finding.check or 'check unknown')}): "
                f"{escape(telling.measured(finding))}\n{_closing(entry)}"
            )


def _unknown(told: Sequence[tuple[AcceleratorAssessment, list[Told]]]) -> Iterator[str]:
    if not any(entries for _, entries in told):
        return
    yield "\n### What could not be told\n\n"
    for item, entries in told:
        for group in telling.grouped(entries):
            names = ", ".join(f"**{escape(entry.finding.requirement, 200)}**" for entry in group.entries)
            yield (
                f"- {names} on {code(item.facts.id)} ({group.first.level}; {group.entries[0].uses_text}): "
                f"{escape(group.first.reason or 'no reason was given')}\n{_closing(group.entries[0])}"
            )


def _closing(entry: Told) -> str:
    finding, text = entry.finding, ""
    for waiver, said in ((finding.waived, "waived"), (finding.expired_waiver, "**waiver expired**, it was")):
        if waiver is not None:
            by, until = escape(waiver.by, 100), escape(waiver.until, 20)
            text += f"  - {said} by {by} until {until}: {escape(waiver.reason)}\n"
    if finding.remedy is not None:
        text += f"  - **do:** {escape(finding.remedy.text)}\n"
    return text


def _details(item: AcceleratorAssessment, kinds: dict[Kind, list[Told]]) -> Iterator[str]:
    """Folded: every finding, then where the time went. A table is one part: an open fold would swallow what follows."""
    rows = [
        f"| {escape(entry.finding.requirement, 200)} | {entry.uses_text} | {entry.finding.level} | {kind} "
        f"| {escape(_value(entry.finding), 200)} "
        f"| {escape(telling.limit(entry.finding), 200)} | {escape(telling.labels(entry.finding.labels), 300)} |"
        for kind, entries in kinds.items()
        for entry in entries
    ]
    header = "| requirement | use | level | outcome | measured | limit | where |\n|---|---|---|---|---|---|---|"
    yield from _folded(f"{item.facts.id}: findings", header, rows)
    if item.evidence:
        evidence = telling.slowest_first(item.evidence)
        total = telling.duration(sum(entry.seconds for entry in evidence))
        title = f"{item.facts.id}: where the time went, {total} together"
        header = "| check | time | status | tries | reason |\n|---|---:|---|---:|---|"
        yield from _folded(title, header, [_time(entry) for entry in evidence])
    failed = {entry.finding.check for kind in (Kind.BLOCKER, Kind.LIMIT) for entry in kinds[kind]}
    for entry in item.evidence:
        if entry.check in failed and entry.rows:
            yield from _rows(item, entry)
    if stack := telling.software(item):
        yield f"\n{code(item.facts.id)}: {escape(stack, 3000)}\n"


def _time(evidence: Evidence) -> str:
    return (
        f"| {code(evidence.check)} | {telling.duration(evidence.seconds)} | {evidence.status} | {evidence.attempts} "
        f"| {escape(evidence.reason or '', 300)} |"
    )


def _rows(item: AcceleratorAssessment, evidence: Evidence) -> Iterator[str]:
    """The detail behind a failure, as far as it is a matter of a screen or two."""
    shown = evidence.rows[:_MOST_ROWS]
    columns = list(dict.fromkeys(name for row in shown for name in row))[:_MOST_COLUMNS]
    header = "| " + " | ".join(escape(name, 60) for name in columns) + " |\n" + "|---" * len(columns) + "|"
    rows = ["| " + " | ".join(escape(_cell(row.get(name)), 120) for name in columns) + " |" for row in shown]
    count = f"{len(shown)} of {len(evidence.rows)}" if len(shown) < len(evidence.rows) else f"{len(shown)}"
    yield from _folded(f"{item.facts.id}: {evidence.check}, rows of detail: {count}", header, rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return telling.figure(value) if isinstance(value, bool | int | float) else str(value)


def _value(finding: Finding) -> str:
    return "" if finding.value is None else telling.figure(finding.value, finding.unit, beside=finding.limit)


def _folded(title: str, header: str, rows: Sequence[str]) -> Iterator[str]:
    """A table that opens by a click; long ones in several, so that what does not fit costs no more than it must."""
    title = html.escape(telling.clean(title, 300))  # raw HTML there: a backslash would be seen
    for start in range(0, len(rows), _ROWS_A_TABLE):
        part = rows[start : start + _ROWS_A_TABLE]
        which = f" ({start + 1} to {start + len(part)} of {len(rows)})" if len(rows) > _ROWS_A_TABLE else ""
        body = "\n".join(part)
        yield f"\n<details><summary>{title}{which}</summary>\n\n{header}\n{body}\n\n</details>\n"
