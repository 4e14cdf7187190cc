"""Verdicts in words: what decided them, also where no must did."""

from __future__ import annotations

import pytest

from readiness.datamodel import Decision, Verdict
from readiness.rendering.verdicts import outcome_counts


@pytest.mark.parametrize(
    ("decision", "lists", "words"),
    [
        (Decision.READY, {}, "no blockers"),
        (Decision.READY, {"waived": ("a",)}, "1 waived"),
        (Decision.UNDETERMINED, {"unknown": ("a",)}, "1 unknown"),
        (Decision.UNDETERMINED, {}, "no must applies"),
        (Decision.UNDETERMINED, {"limits": ("a",)}, "1 limit, no must applies"),
        (Decision.NOT_READY, {"blockers": ("a", "b"), "unknown": ("c",)}, "2 blockers, 1 unknown"),
    ],
)
def test_what_decided_is_told(decision: Decision, lists: dict[str, tuple[str, ...]], words: str) -> None:
    empty: dict[str, tuple[str, ...]] = {"blockers": (), "limits": (), "unknown": (), "waived": ()}
    assert outcome_counts(Verdict(decision, 50.0, 60.0, **{**empty, **lists})) == words
