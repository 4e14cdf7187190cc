"""Nagios and Icinga plugin output: one line with performance data, then what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import rendering
from readiness.datamodel import Assessment, Decision, Level
from readiness.judging.nagios_status import NagiosStatus, nagios_status
from readiness.rendering import Kind, diagnosis

_MOST_LINES, _MOST_DEFECTS = 20, 5
#: What Nagios reads of a plugin's output.
_LONGEST_BYTES = 8000


def render(
    assessment: Assessment,
    *,
    colour: bool = False,  # noqa: ARG001
    fail_on: Level | None = Level.MUST,
) -> str:
    """`READINESS CRITICAL - training NOT READY 61..97, ... | training_score=61.2;;;0;100 ...`; --exit-style has its code."""
    status = nagios_status(assessment, fail_on)
    text = f"{headline(status, ' '.join(_summary(assessment)))} | {' '.join(_performance(assessment))}\n"
    for line in _details(assessment):
        more = f"{_plain(line, 300)}\n"
        if len((text + more).encode("utf-8", "replace")) > _LONGEST_BYTES:
            break
        text += more
    return text


def headline(status: NagiosStatus, text: str) -> str:
    """The first words of a plugin's output; what follows the vertical bar would be figures."""
    return f"READINESS {status.name} - {_plain(text, 600)}"


def _plain(text: str, longest: int) -> str:
    return rendering.clean(text, longest).replace("|", "/")


def _summary(assessment: Assessment) -> Iterator[str]:
    verdicts = rendering.worst(assessment)
    if rendering.simulated_chips(assessment):
        yield "(simulated)"
    if assessment.interrupted:
        yield "interrupted:"
    count = len(assessment.accelerators)
    if not verdicts:
        yield "no accelerator was assessed" if count == 0 else f"no verdict on {count} accelerators"
        return
    yield ", ".join(
        f"{use} {verdict.decision.value.upper()} {rendering.score_range(verdict)} ({rendering.outcome_counts(verdict)})"
        for use, (_, verdict) in verdicts.items()
    )
    worst = next(iter(verdicts.values()))[0].facts.id
    yield f"on {worst}" if count == 1 else f"on {count} accelerators, worst {worst}"
    yield f"under {assessment.profile_name}"
    for stack in rendering.failed_stacks(assessment):
        yield f"; {stack} could not be read"


def _performance(assessment: Assessment) -> Iterator[str]:
    """Of the worst accelerator whether it is ready, then its score; counts over all."""
    for use, (_, verdict) in sorted(rendering.worst(assessment).items()):
        yield f"{use}_ready={int(verdict.decision is Decision.READY)};;;0;1"
        yield f"{use}_score={verdict.score:g};;;0;100"
        yield f"{use}_ceiling={verdict.ceiling:g};;;0;100"
    verdicts = [verdict for item in assessment.accelerators for verdict in item.verdicts.values()]
    yield f"accelerators={len(assessment.accelerators)};;;0"
    for decision in Decision:
        having = [item for item in assessment.accelerators if any(v.decision is decision for v in item.verdicts.values())]
        yield f"{decision.value.replace(' ', '_')}={len(having)};;;0"
    for name in ("blockers", "limits", "unknown"):
        yield f"{name}={sum(len(getattr(verdict, name)) for verdict in verdicts)};;;0"
    yield f"duration={min(assessment.seconds, 1e9):g}s;;;0"


def _details(assessment: Assessment) -> Iterator[str]:
    found, _ = diagnosis.diagnosis_texts(assessment)
    for one in [text for text in found if len(text.diagnosis.requirements) > 1][:_MOST_DEFECTS]:
        yield f"diagnosis: {one.sentence} {one.weight} First: {one.remedy}"
    lines = [
        f"{kind}: {rendering.names(entry.ids)}: {rendering.title(entry.finding) or entry.finding.requirement} "
        f"({entry.uses_text}): {'; '.join(entry.statements[0].lines)}"
        for kind in (Kind.BLOCKER, Kind.LIMIT, Kind.UNKNOWN)
        for group in sorted(rendering.group_devices(assessment), key=lambda group: group.urgency)
        for entry in group.entries[kind]
        if kind is not Kind.UNKNOWN or entry.finding.level is Level.MUST
    ]
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"and {len(lines) - _MOST_LINES} more"
