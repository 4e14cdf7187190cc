"""Verdicts from findings: musts alone decide. Used for judging and for reading judged files. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from readiness.datamodel import Decision, Finding, Level, Outcome, Verdict


def decide(findings: Sequence[Finding]) -> Verdict:
    """The verdict over the findings of one use. With nothing that applies, nothing is known: undetermined, 0..100."""
    counted = [finding for finding in findings if finding.outcome is not Outcome.NOT_APPLICABLE]
    total = math.fsum(finding.weight for finding in counted)
    earned = math.fsum(finding.weight * finding.earned for finding in counted)
    hoped = math.fsum(finding.weight for finding in counted if finding.outcome is Outcome.UNKNOWN)
    score = 100 * earned / total if total else 0.0
    ceiling = 100 * (earned + hoped) / total if total else 100.0
    return Verdict(
        decision=_decision(counted),
        score=_tenth(score),
        ceiling=_tenth(ceiling),
        blockers=_ids(counted, Level.MUST),
        limits=_ids(counted, Level.SHOULD),
        unknown=tuple(sorted(finding.requirement for finding in counted if finding.outcome is Outcome.UNKNOWN)),
        waived=tuple(sorted(finding.requirement for finding in counted if finding.waived is not None)),
    )


def _decision(counted: Sequence[Finding]) -> Decision:
    """The decision over the findings of one use that apply. Where no must does, nothing is known."""
    musts = [finding for finding in counted if finding.level is Level.MUST]
    if any(finding.outcome is Outcome.FAIL and finding.waived is None for finding in musts):
        return Decision.NOT_READY
    if not musts or any(finding.outcome is Outcome.UNKNOWN for finding in musts):
        return Decision.UNDETERMINED
    return Decision.READY


def _tenth(points: float) -> float:
    """Rounded down: 99.96 is not 100."""
    return min(math.floor(points * 10 + 1e-9) / 10, 100.0)


def _ids(findings: Sequence[Finding], level: Level) -> tuple[str, ...]:
    """The requirements of a level that failed and are not waived."""
    return tuple(
        sorted(
            finding.requirement
            for finding in findings
            if finding.level is level and finding.outcome is Outcome.FAIL and finding.waived is None
        )
    )
