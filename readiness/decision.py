"""What follows from findings: musts alone decide. Said in one place, for judging and for reading what was judged."""

from __future__ import annotations

from collections.abc import Iterable

from readiness.model import Decision, Level, Outcome


def of(findings: Iterable[tuple[Level, Outcome, bool]]) -> Decision:
    """The decision over the level and outcome of each finding of one use, and whether it is waived, in any order.

    A failure alone can be waived. Where no must applies, nothing is known.
    """
    musts = [(outcome, waived) for level, outcome, waived in findings if level is Level.MUST]
    known = [(outcome, waived) for outcome, waived in musts if outcome is not Outcome.NOT_APPLICABLE]
    if any(outcome is Outcome.FAIL and not waived for outcome, waived in known):
        return Decision.NOT_READY
    if not known or any(outcome is Outcome.UNKNOWN for outcome, _ in known):
        return Decision.UNDETERMINED
    return Decision.READY
