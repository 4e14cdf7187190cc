"""Saved assessments that somebody has altered: each of thousands of alterations is refused, or told, or without consequence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from readiness.documents import assessment
from tests.support import mutations, saved


@pytest.mark.slow
def test_every_alteration_that_changes_a_report_is_detected(tmp_path: Path) -> None:
    document = json.loads(assessment.dumps(assessment.to_json(saved.small(tmp_path))))
    counts: Counter[str] = Counter()
    for answer in mutations.answers(document):
        counts[answer.word] += 1
        if answer.word == "unnoticed":
            assert str(answer.mutation).endswith(mutations.NOT_DERIVABLE), answer
    assert counts["refused"] > 4000
    assert counts["noted"] == 2, "what the profile demanded is gone; a version that nobody knows"
