"""One HTML file for people who decide: verdicts, diagnosis, blockers with what to do, then all of it with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from readiness import rendering
from readiness.datamodel import Assessment, Decision, Finding, Level, Use
from readiness.rendering import DeviceGroup, Kind, SharedFinding, diagnosis, html, pictures

SUFFIX = ".html"

#: Groups of accelerators beyond these are in the table of verdicts alone, the worst first.
_MOST_GROUPS = 6
#: Points of a list beyond these open by a click.
_UNFOLDED = 12
_MOST_POINTS = 300
#: Of accelerators of which one requirement says different things, so many are quoted, the worst first.
_MOST_VARIANTS = 3
_MOST_VERDICTS = 200
#: A table of so many requirements need not be opened by a click.
_MOST_OPEN = 8
#: Kinds of findings that are no failures, and how a count of them is named where it is worth it.
_NOT_FAILED = {Kind.PASSED: "", Kind.UNKNOWN: "not measured", Kind.NOT_APPLICABLE: "not applicable"}
_ANSWERS = {
    (Use.TRAINING, Decision.READY): "Ready to train",
    (Use.TRAINING, Decision.NOT_READY): "Not ready to train",
    (Use.TRAINING, Decision.UNDETERMINED): "Not known whether it can train",
    (Use.INFERENCE, Decision.READY): "Ready to serve",
    (Use.INFERENCE, Decision.NOT_READY): "Not ready to serve",
    (Use.INFERENCE, Decision.UNDETERMINED): "Not known whether it can serve",
}
_FAMILIES = {
    "driver": "Driver and runtime",
    "operators": "Operators",
    "parity": "Numerical parity",
    "stability": "Stability",
    "throughput": "Throughput",
    "model": "The model as a whole",
    "multichip": "Several chips",
}


def render(assessment: Assessment, *, colour: bool = False) -> str:  # noqa: ARG001
    """The page; needs no script, no request and no other file. Two renderings of one assessment give the same bytes."""
    groups = sorted(rendering.group_devices(assessment), key=lambda group: group.urgency)
    found, rest = diagnosis.diagnosis_texts(assessment)
    order = {item.facts.id: place for place, item in enumerate(assessment.accelerators)}
    return html.render(
        "report.html.jinja",
        simulated=bool(rendering.simulated_chips(assessment)),
        name=assessment.profile_name,
        profile=_profile(assessment),
        facts=list(_facts(assessment, groups)),
        notes=list(_notes(assessment)),
        cards=list(_cards(groups)),
        verdicts=_verdicts(groups[:_MOST_VERDICTS]),
        further=max(len(groups) - _MOST_VERDICTS, 0),
        maturity_title=rendering.MATURITY_TITLE,
        maturity=_maturity(assessment, groups[:_MOST_GROUPS]),
        diagnosis=found,
        unexplained=rest,
        lists=[_list(title, words, groups, kind, order) for title, words, kind in _LISTS],
        unknown=_unknown(groups, order),
        unfolded=_UNFOLDED,
        rehearsal=rendering.detection_texts(assessment),
        rehearsal_title=rendering.REHEARSAL_TITLE,
        soak_claims_title=rendering.SOAK_CLAIMS_TITLE,
        soak_claims=[claim for group in groups for claim in rendering.soak_claim_rows(group.lead)],
        groups=[_group(group) for group in groups[:_MOST_GROUPS]],
        not_shown=sum(len(group.items) for group in groups[_MOST_GROUPS:]),
        foot=f"readiness {rendering.clean(assessment.version, 100)}, seed {assessment.seed}, profile digest "
             f"{assessment.profile_sha256 or 'not known'}",
    )  # fmt: skip


def _profile(assessment: Assessment) -> str:
    name, title = assessment.profile_name, assessment.profile_title
    return name if title in ("", name) else f"{name}: {title}"


def _facts(assessment: Assessment, groups: Sequence[DeviceGroup]) -> Iterator[tuple[str, str]]:
    """Return what was assessed, against what, when and with what."""
    shown = groups[:_MOST_GROUPS]
    for group in shown:
        yield "Accelerator" if len(group.items) == 1 else "Accelerators", f"{group.title()}: {rendering.device(group.lead)}"
    if len(groups) > len(shown):
        yield "and", f"{sum(len(group.items) for group in groups[_MOST_GROUPS:])} further accelerators"
    yield "Profile", _profile(assessment)
    for stack in dict.fromkeys(rendering.software(group.lead) for group in shown):
        if stack:
            yield "Software", stack
    host = rendering.clean(assessment.host.get("name") or assessment.host.get("hostname") or "", 60)
    if host or rendering.joined(assessment):
        yield "Host", f"{host}{rendering.joined(assessment)}"
    yield "Run", f"{rendering.clean(assessment.started, 40)}, took {rendering.duration(assessment.seconds)}"


def _notes(assessment: Assessment) -> Iterator[str]:
    """Yield what a reader must know before any verdict."""
    if assessment.interrupted:
        yield rendering.STOPPED_EARLY
    if not assessment.accelerators:
        yield rendering.NOTHING_ASSESSED
    for stack, text in rendering.unlisted_stacks(assessment).items():
        yield f"{stack}: {text}"
    for chip, ids in rendering.simulated_chips(assessment).items():
        yield f"{ids}: {chip}"
    if taken := rendering.earlier(assessment):
        yield f"Taken over: {', '.join(taken)}"


def _cards(groups: Sequence[DeviceGroup]) -> Iterator[dict[str, Any]]:
    """The answer for each use; of several accelerators the worst one's."""
    for use in Use:
        candidates = [(verdict, group) for group in groups if (verdict := group.verdict(use)) is not None]
        if not candidates:
            continue
        verdict, group = min(candidates, key=lambda entry: rendering.severity_key(entry[0]))
        count = sum(len(one.items) for _, one in candidates)
        ready = sum(len(one.items) for own, one in candidates if own.decision is Decision.READY)
        applies_to = f"{group.names()}, the worst of {count} accelerators; {ready} ready"
        if len(groups) < 2:
            applies_to = group.title()
        yield {
            "use": use.value,
            "style": html.STYLES[verdict.decision],
            "decision": verdict.decision.value,
            "answer": _ANSWERS[use, verdict.decision],
            "range": group.score_range(use),
            "score": min(item.verdicts[use].score for item in group.items),
            "ceiling": min(item.verdicts[use].ceiling for item in group.items),
            "outcome_counts": rendering.outcome_counts(verdict),
            "applies_to": applies_to,
        }


def _maturity(assessment: Assessment, groups: Sequence[DeviceGroup]) -> list[dict[str, Any]]:
    """What of PyTorch is there and right on these groups' stacks, where anything is known of it; what is alike once."""
    shown = {group.title() for group in groups}
    merged: dict[str, dict[str, Any]] = {}
    for one in rendering.maturity_texts(assessment):
        if (name := one.group.title()) not in shown:
            continue
        made = {"line": one.line, "stated": one.stated, "rows": [list(row) for row in one.rows]}
        known = merged.setdefault(repr(made), {"name": name, **made})
        if known["name"] != name:
            known["name"] += f"; {name}"
    return list(merged.values())


def _verdicts(groups: Sequence[DeviceGroup]) -> list[list[Any]]:
    """A row for each group: accelerators, device, and for each use the verdict and the points."""
    rows = []
    for group in groups:
        row: list[Any] = [group.title(), rendering.device(group.lead)]
        for use in Use:
            verdict = group.verdict(use)
            if verdict is None:
                row += ["no verdict", ""]
            else:
                row += [_word(verdict.decision), {"text": group.score_range(use), "number": True}]
        rows.append(row)
    return rows


def _word(word: str) -> dict[str, str]:
    return {"text": word, "style": html.STYLES.get(word, "none")}


# --------------------------------------------------------------------------------------------------------------- lists

_LISTS = (
    ("Blockers", "Musts that failed: each keeps a use from being ready.", Kind.BLOCKER),
    ("Limits", "Shoulds that failed: usable, with restrictions.", Kind.LIMIT),
    ("Waived", "Failures that somebody has accepted.", Kind.WAIVED),
)


def _list(
    title: str, words: str, groups: Sequence[DeviceGroup], kind: Kind, order: Mapping[str, int]
) -> dict[str, Any]:
    """One list of failures: a point for each requirement, whose it is, what was measured, and what to do."""
    every = [
        {
            **_point(failure.first), "applies_to": _applies_to(failure.ids, order),
            "lines": failure.lines(_MOST_VARIANTS, "in the tables below"),
        }
        for failure in rendering.failures_by_requirement(groups, kind)
    ]  # fmt: skip
    shown = every[:_MOST_POINTS]
    return {
        "title": title, "words": words, "count": len(every), "style": html.STYLES[kind],
        "first": shown[:_UNFOLDED], "rest": shown[_UNFOLDED:], "left_out": len(every) - len(shown),
    }  # fmt: skip


def _point(entry: SharedFinding) -> dict[str, Any]:
    finding = entry.finding
    return {
        "title": rendering.title(finding), "id": finding.requirement, "uses": entry.uses_text, "check": finding.check,
        "together": entry.together, "why": finding.why if finding.level is Level.MUST else "",
        "remedy": finding.remedy.text if finding.remedy is not None else "", "waivers": list(_waivers(finding)),
    }  # fmt: skip


def _waivers(finding: Finding) -> Iterator[str]:
    for waiver, words in ((finding.waived, "Waived"), (finding.expired_waiver, "Waiver expired, it was")):
        if waiver is not None:
            yield f"{words} by {waiver.by} until {waiver.until}: {waiver.reason}"


def _unknown(groups: Sequence[DeviceGroup], order: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return what was not measured, by reason: the remedy, and how many requirements of which level."""
    found: dict[tuple[str, ...], tuple[dict[str, Level], list[str], list[str]]] = {}
    for group in groups:
        kept, left_out = rendering.left_out(group.entries[Kind.UNKNOWN])
        for entry in kept:
            finding = entry.finding
            reasons = [f"{applies_to}: {reason}" if applies_to else reason for applies_to, reason in entry.reasons]
            remedy = finding.remedy.text if finding.remedy is not None else ""
            levels, ids, waivers = found.setdefault(("; ".join(reasons), remedy), ({}, [], []))
            levels[finding.requirement] = finding.level
            ids += entry.ids
            waivers += _waivers(finding)
        for chosen in left_out:
            levels, ids, _ = found.setdefault((chosen.words, chosen.remedy), ({}, [], []))
            levels.update({entry.finding.requirement: entry.finding.level for entry in chosen.entries})
            ids += chosen.entries[0].ids
    causes = [
        {
            "reason": reason, "remedy": remedy, "requirements": sorted(levels), "waivers": list(dict.fromkeys(waivers)),
            "count": _levels(levels), "applies_to": _applies_to(ids, order),
            "musts": list(levels.values()).count(Level.MUST),
        }
        for (reason, remedy), (levels, ids, waivers) in found.items()
    ]  # fmt: skip
    return sorted(causes, key=lambda cause: -int(str(cause["musts"])))


def _levels(levels: Mapping[str, Level]) -> str:
    """`7 must, 10 should`."""
    counts = Counter(levels.values())
    return ", ".join(f"{counts[level]} {level}" for level in Level if counts[level])


def _applies_to(ids: Sequence[str], order: Mapping[str, int]) -> str:
    """The accelerators, in their order; empty where there is but one under test."""
    return rendering.names(sorted(set(ids), key=order.__getitem__)) if len(order) > 1 else ""


# ------------------------------------------------------------------------------------------------------------- details


def _group(group: DeviceGroup) -> dict[str, Any]:
    """One group of accelerators, family by family."""
    drawn, not_drawn = pictures.of_families(group.lead), pictures.left_out(group.lead)
    tables = _tables(group)
    families = [name for name in (*_FAMILIES, *tables, *drawn, *not_drawn) if name in {*tables, *drawn, *not_drawn}]
    return {
        "title": group.title(),
        "device": rendering.device(group.lead),
        "lead": group.lead.facts.id if len(group.items) > 1 else "",
        "families": [
            {
                "title": _FAMILIES.get(name, name), "rows": tables.get(name, []), "pictures": drawn.get(name, []),
                "not_drawn": not_drawn.get(name, []),
                **_fold(tables.get(name, [])),
            }
            for name in dict.fromkeys(families)
        ],
        "times": pictures.times(group.lead),
        "took": rendering.duration(group.seconds),
    }  # fmt: skip


def _fold(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return what stands above a family's table, and whether it is open: where it is short and says something."""
    counts = Counter(row[4]["text"] for row in rows)
    failed = len(rows) - sum(counts[kind.value] for kind in _NOT_FAILED)
    words = [f"{failed} not met" if failed else "none failed"]
    words += [f"{counts[kind.value]} {word}" for kind, word in _NOT_FAILED.items() if word and counts[kind.value]]
    return {
        "summary": f"{len(rows)} requirement{'' if len(rows) == 1 else 's'}: {', '.join(words)}",
        "open": len(rows) <= _MOST_OPEN and counts[Kind.NOT_APPLICABLE.value] < len(rows),
    }


def _tables(group: DeviceGroup) -> Mapping[str, list[list[Any]]]:
    """Rows by family: requirement, measured, limit, source, outcome; what failed first."""
    found: dict[str, list[list[Any]]] = {}
    for kind, entries in group.entries.items():
        for entry in entries:
            finding = entry.finding
            family = finding.check.partition(".")[0] or "other"
            for statement in entry.statements:
                applies_to = f" ({statement.applies_to})" if statement.applies_to else ""
                where = rendering.labels(statement.finding.labels)
                found.setdefault(family, []).append([
                    f"{finding.requirement}{applies_to}",
                    f"{finding.measure} {statement.value}{f' ({where})' if where else ''}" if statement.value else "nothing",
                    rendering.limit(finding),
                    finding.source,
                    {"text": kind.value, "style": html.STYLES[kind]},
                    entry.uses_text,
                ])  # fmt: skip
    return found
