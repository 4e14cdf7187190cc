"""Two profiles say the same of what both ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from readiness.datamodel import Outcome, Use
from readiness.documents import assessment
from readiness.judging.rejudge import rejudge
from readiness.profile import loader
from tests.support import checks


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_smoke_and_general_agree_wherever_both_have_evidence(assessed: Callable[[str], Path]) -> None:
    saved = assessment.read(assessed("healthy"))
    general = rejudge(saved, loader.load("general", checks()), tuple(Use))
    known = {
        (finding.requirement, finding.use): finding
        for finding in saved.accelerators[0].findings
        if finding.outcome is not Outcome.UNKNOWN
    }
    shared = 0
    for finding in general.accelerators[0].findings:
        other = known.get((finding.requirement, finding.use))
        if finding.outcome is not Outcome.UNKNOWN and other is not None:
            assert (finding.outcome, finding.value, finding.limit) == (other.outcome, other.value, other.limit)
            shared += 1
        elif finding.outcome not in (Outcome.UNKNOWN, Outcome.NOT_APPLICABLE):
            assert finding.check in {item.check for item in saved.accelerators[0].evidence}
    assert shared > 100
    # What smoke did not look at is not vouched for: its word for the core is none for the whole catalogue.
    outcomes = {finding.requirement: finding.outcome for finding in general.accelerators[0].findings}
    assert outcomes["operators-forward-float32"] is Outcome.UNKNOWN
    assert outcomes["deterministic-float32"] is Outcome.UNKNOWN
