"""`readiness fit`: what the options change of a profile's plan."""

from __future__ import annotations

import pytest

from readiness.cli import fit
from readiness.memory_fit.plan import Settings

PLANNED = Settings(training_chips=256, training_pipeline=16, training_expert=16, serving_chips=16, serving_expert=16)


@pytest.mark.parametrize(
    ("chips", "training", "serving"), [(64, (0, 0), 0), (256, (16, 16), 0), (16, (0, 0), 16)],
)
def test_the_layout_of_a_profile_holds_for_its_own_number_of_chips(chips: int, training: tuple[int, int], serving: int) -> None:
    found = fit._for_chips(PLANNED, chips)
    assert (found.training_pipeline, found.training_expert) == training
    assert found.serving_expert == serving
