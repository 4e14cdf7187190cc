"""Verdicts as text, and the worst of them."""

from __future__ import annotations

import math

from readiness.datamodel import AcceleratorAssessment, Assessment, Decision, Use, Verdict

WORST_FIRST = (Decision.NOT_READY, Decision.UNDETERMINED, Decision.READY)
#: By decision the style of `colours.painter`, and the sign in Markdown.
STYLES = {Decision.NOT_READY: "bad", Decision.UNDETERMINED: "open", Decision.READY: "good"}
SIGNS = {Decision.NOT_READY: "❌", Decision.UNDETERMINED: "❔", Decision.READY: "✅"}


def score_range(*verdicts: Verdict) -> str:
    """Return score and ceiling: `61..97`; for several verdicts the lowest and highest: `58..96 to 61..97`.

    Rounded down, so that nothing looks complete that is not.
    """
    low, high = (
        f"{math.floor(end(verdict.score for verdict in verdicts))}.."
        f"{math.floor(end(verdict.ceiling for verdict in verdicts))}"
        for end in (min, max)
    )
    return low if low == high else f"{low} to {high}"


def severity_key(verdict: Verdict | None) -> tuple[int, float]:
    """Sort key: verdicts worst first, by decision, then score. A missing verdict counts as undetermined."""
    if verdict is None:
        return WORST_FIRST.index(Decision.UNDETERMINED), 0.0
    return WORST_FIRST.index(verdict.decision), verdict.score


def worst(assessment: Assessment) -> dict[Use, tuple[AcceleratorAssessment, Verdict]]:
    """Return for each use the accelerator with the worst verdict; the worse use first."""
    found = {
        use: min(candidates, key=lambda candidate: severity_key(candidate[1]))
        for use in Use
        if (candidates := [(item, item.verdicts[use]) for item in assessment.accelerators if use in item.verdicts])
    }
    return dict(sorted(found.items(), key=lambda entry: severity_key(entry[1][1])))


def outcome_counts(verdict: Verdict) -> str:
    """Return `2 blockers, 1 limit, 3 unknown`, or `no blockers`; `no must applies` where this is why nothing is decided."""
    parts = [
        f"{len(ids)} {word}{'s' if plural and len(ids) != 1 else ''}"
        for ids, word, plural in (
            (verdict.blockers, "blocker", True), (verdict.limits, "limit", True), (verdict.unknown, "unknown", False),
            (verdict.waived, "waived", False),
        )
        if ids
    ]  # fmt: skip
    if verdict.decision is Decision.UNDETERMINED and not verdict.unknown:
        parts.append("no must applies")
    return ", ".join(parts) or "no blockers"
