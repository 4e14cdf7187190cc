"""Summary of a run at a terminal: verdicts, first causes and further commands, in at most 15 lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from readiness import rendering
from readiness.datamodel import Assessment, Diagnosis, Level, Use
from readiness.rendering import DeviceGroup, Kind, Paint, SharedFinding, diagnosis

MOST_LINES = 15
_MOST_NOTES = 3
_MOST_WHOLE = 2
#: Before verdicts get a line for each use, three causes have room, and how many more there are.
_FOR_CAUSES = 7
_COLUMN = 9
#: In front of a title, which says what should hold.
_LABELS = {Kind.BLOCKER: ("not met", "bad"), Kind.UNKNOWN: ("unknown", "open"), Kind.LIMIT: ("limit", "bold")}


@dataclass(frozen=True, slots=True)
class _Cause:
    """A cause of failures: in a line, in detail, and with the number of its requirements."""

    kind: Kind
    title: str
    detail: str
    requirement: str
    count: int = 1
    label: str = ""


def render(
    assessment: Assessment, *, colour: bool = False, width: int = 100, hints: Mapping[str, str] | None = None
) -> str:
    """Render lines of at most `width` columns; hints are never cut.

    `hints` are places and commands by what they tell; REQUIREMENT in one stands for the requirement of the first cause.
    """
    paint = rendering.painter(colour)
    groups = sorted(rendering.group_devices(assessment), key=lambda group: group.urgency)
    causes = _causes(groups, assessment)
    tail = [f"{paint(f'{label:{_COLUMN}}', 'dim')}{text}" for label, text in _hints(hints or {}, causes)]
    notes = list(_notes(assessment, paint, width))
    left = MOST_LINES - len(notes) - len(tail) - 2  # two empty lines
    verdicts = _verdicts(groups, width, left - min(2 * len(causes), _FOR_CAUSES))
    head = [*notes, *(rendering.paint_decisions(line, paint) for line in verdicts)]
    blocks = [head, list(_lines(causes, left - len(verdicts), paint, width)), tail]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block) + "\n"


def _notes(assessment: Assessment, paint: Paint, width: int) -> Iterator[str]:
    """Yield what was run, and notes to read before the verdicts."""
    host = rendering.clean(assessment.host.get("name") or assessment.host.get("hostname") or "", 60)
    where = (f" on {host}" if host else "") + rendering.joined(assessment)
    started, seconds = rendering.clean(assessment.started, 40), rendering.duration(assessment.seconds)
    yield rendering.cut(f"{rendering.clean(assessment.profile_name, 60)}{where}, {started}, {seconds}", width)
    notes = []
    if assessment.interrupted:
        notes.append(("INTERRUPTED", "what was not measured counts as unknown", "bad"))
    notes += [("SIMULATED", f"{ids}, {chip}", "open") for chip, ids in rendering.simulated_chips(assessment).items()]
    notes += [(stack, text, "bad") for stack, text in rendering.unlisted_stacks(assessment).items()]
    if taken := rendering.earlier(assessment):
        notes.append(("EARLIER", ", ".join(taken), "dim"))
    for word, text, style in notes[:_MOST_NOTES]:
        first, *rest = _fitted(rendering.wrap(text, width, first=f"{word}  "), 2, width)
        yield first.replace(word, paint(word, style), 1)
        yield from rest


def _verdicts(groups: Sequence[DeviceGroup], width: int, room: int) -> list[str]:
    """Yield a line for each use of each group, or, if these are too many, a line for each of the worst groups."""
    if not groups:
        return [rendering.NOTHING_ASSESSED]
    whole = [line for group in groups[:_MOST_WHOLE] for line in _whole(group, width)]
    if len(groups) <= _MOST_WHOLE and (len(whole) <= room or len(groups) == 1):
        return whole
    room = max(room, 2)
    shown = groups if len(groups) <= room else groups[: room - 1]
    lines = [_short(group, width) for group in shown]
    if rest := groups[len(shown) :]:
        count = sum(len(group.items) for group in rest)
        lines.append(f"and {count} more accelerator{'s' if count > 1 else ''}, none of them worse")
    return lines


def _whole(group: DeviceGroup, width: int) -> Iterator[str]:
    yield rendering.cut(f"{group.title()}  {rendering.device(group.lead)}", width)
    mark = " (simulated)" if group.is_simulated else ""
    verdicts = [(use, verdict) for use in Use if (verdict := group.verdict(use)) is not None]
    column = max((len(verdict.decision.value) for _, verdict in verdicts), default=0) + len(mark)
    for use, verdict in verdicts:
        decision = f"{verdict.decision.value.upper()}{mark}"
        counts = rendering.outcome_counts(verdict)
        yield rendering.cut(f"{use:{_COLUMN}}  {decision:{column}}  {group.score_range(use)}  {counts}", width)
    if not verdicts:
        yield "no verdict"


def _short(group: DeviceGroup, width: int) -> str:
    verdicts = [(use, verdict) for use in Use if (verdict := group.verdict(use)) is not None]
    verdict_text = ", ".join(f"{use} {verdict.decision.value.upper()} {group.score_range(use)}" for use, verdict in verdicts)
    if len(verdict_text) > width // 2:
        verdict_text = ", ".join(f"{use} {verdict.decision.value.upper()}" for use, verdict in verdicts)
        if len(verdicts) > 1 and len(decisions := {verdict.decision for _, verdict in verdicts}) == 1:
            verdict_text = f"{decisions.pop().value.upper()} for both"
    verdict_text = verdict_text or "no verdict"
    mark = " (simulated)" if group.is_simulated else ""
    return f"{rendering.cut(group.names(), max(width - len(verdict_text) - len(mark) - 2, 3))}{mark}  {verdict_text}"


def _causes(groups: Sequence[DeviceGroup], assessment: Assessment) -> list[_Cause]:
    """Return the causes by importance: failed musts, unknown musts, failed shoulds, then other unknown ones."""
    several = len(assessment.accelerators) > 1
    order = {item.facts.id: place for place, item in enumerate(assessment.accelerators)}
    diagnosed = _diagnosed(assessment)
    explained = {requirement for _, one in diagnosed for requirement in one.requirements}
    failed: dict[Kind, list[_Cause]] = {}
    for kind in (Kind.BLOCKER, Kind.LIMIT):
        alone = [cause for cause in _failed(groups, kind, order, several) if cause.requirement not in explained]
        failed[kind] = [*(cause for cause, _ in diagnosed if cause.kind is kind), *alone]
    unknown = [(cause, level) for group in groups for cause, level in _unknown(group, several)]
    decisive = list(dict.fromkeys(cause for cause, level in unknown if level is Level.MUST))
    others = list(dict.fromkeys(cause for cause, level in unknown if level is not Level.MUST))
    return [*failed[Kind.BLOCKER], *decisive, *failed[Kind.LIMIT], *others]


def _diagnosed(assessment: Assessment) -> list[tuple[_Cause, Diagnosis]]:
    """Defects that explain several failures: they stand for these. One that explains one tells nothing besides."""
    found = []
    for one in diagnosis.diagnosis_texts(assessment)[0]:
        if len(one.diagnosis.requirements) > 1:
            first = rendering.clean((one.diagnosis.blockers or one.diagnosis.requirements)[0], 100)
            kind = Kind.BLOCKER if one.stops else Kind.LIMIT
            cause = _Cause(kind, one.sentence, f"{one.weight} {one.remedy}", first, len(one.diagnosis.requirements), "wrong")
            found.append((cause, one.diagnosis))
    return found


def _failed(groups: Sequence[DeviceGroup], kind: Kind, order: Mapping[str, int], several: bool) -> list[_Cause]:
    found: dict[str, tuple[SharedFinding, list[str]]] = {}
    for group in groups:
        for entry in group.entries[kind]:
            found.setdefault(entry.finding.requirement, (entry, []))[1].extend(entry.ids)
    causes = []
    for requirement, (entry, ids) in found.items():
        id = rendering.clean(requirement, 100)
        applies_to = f" on {rendering.names(sorted(set(ids), key=order.__getitem__))}" if several else ""
        statement = entry.statements[0]  # of which accelerator is said by the full report
        detail = f"{id}: {'; '.join(part for part in (statement.reason, statement.reading) if part)}"
        causes.append(_Cause(kind, f"{rendering.title(entry.finding) or id}{applies_to}", detail, id))
    return causes


def _unknown(group: DeviceGroup, several: bool) -> Iterator[tuple[_Cause, Level]]:
    kept, left_out = rendering.left_out(group.entries[Kind.UNKNOWN])
    applies_to = f" on {group.names()}" if several else ""
    for chosen in left_out:
        levels = [entry.finding.level for entry in chosen.entries]
        level = Level.MUST if Level.MUST in levels else levels[0]
        yield _Cause(Kind.UNKNOWN, f"{chosen.words}{applies_to}:", chosen.remedy, "", len(levels)), level
    for cause in rendering.grouped(kept):
        finding = cause.first.finding
        id, count = rendering.clean(finding.requirement, 100), len(cause.entries)
        more = f" and {count - 1} more" if count > 1 else ""
        title = f"{rendering.title(finding) or id}{more}{applies_to}"
        yield _Cause(Kind.UNKNOWN, title, f"{id}: {cause.first.reasons[0][1]}", id, count), finding.level


def _lines(causes: Sequence[_Cause], room: int, paint: Paint, width: int) -> Iterator[str]:
    """Yield two lines for each cause as far as they fit, more where there is room, and the number of the rest."""
    shown = causes if 2 * len(causes) <= room else causes[: max(room - 1, 0) // 2]
    if len(causes) > len(shown) > 1 and causes[0].label and len(_block(causes[0], width)) > 2:
        shown = shown[:-1]  # the first sentence whole, with what to do, rather than one more in part
    spare = room - 2 * len(shown) - (len(shown) < len(causes))
    for cause in shown:
        label, style = _LABELS[cause.kind]
        block = _block(cause, width)
        first, *rest = _fitted(block, 2 + spare, width - _COLUMN)
        spare -= max(len(rest) - 1, 0)
        yield paint(f"{cause.label or label:{_COLUMN}}", style) + first
        yield from (" " * _COLUMN + line for line in rest)
    left: Counter[Kind] = Counter()
    for cause in causes[len(shown) :]:
        left[cause.kind] += cause.count
    parts = [f"{left[kind]} {kind}{'s' if left[kind] > 1 and kind is not Kind.UNKNOWN else ''}" for kind in left]
    if parts:
        total = f"{left.total()} more: " if len(parts) > 1 else ""
        yield rendering.cut(f"{' ' * _COLUMN}and {total}{', '.join(parts)}{'' if total else ' more'}", width)


def _block(cause: _Cause, width: int) -> list[str]:
    """Return title and detail of a cause in lines; those of a sentence follow each other in one line."""
    columns = width - _COLUMN
    if cause.label:
        return rendering.wrap(f"{cause.title} {cause.detail}", columns)
    return [*rendering.wrap(cause.title, columns), *rendering.wrap(cause.detail, columns)]


def _fitted(lines: list[str], most: int, columns: int) -> list[str]:
    """Return so many lines at most; the last one is marked where more would follow."""
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], rendering.cut(f"{lines[most - 1]} {' '.join(lines[most:])}", columns)]


def _hints(hints: Mapping[str, str], causes: Sequence[_Cause]) -> Iterator[tuple[str, str]]:
    first = next((cause.requirement for cause in causes if cause.requirement), None)
    for label, text in hints.items():
        if "REQUIREMENT" not in text:
            yield label, rendering.clean(text, 4000)
        elif first is not None:
            yield label, rendering.clean(text.replace("REQUIREMENT", first), 4000)
