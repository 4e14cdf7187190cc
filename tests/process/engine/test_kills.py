"""Some kills of a run with ranks and with a check that counts on; `python -m tests.process.engine.kills` does as many as one likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.process.engine.kills import REQUIRED, Figures, Run, kills


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_with_ranks_that_is_killed_goes_on(tmp_path: Path) -> None:
    required = [entry for entry in REQUIRED if entry[0] in ("driver.random", "multichip.data_parallel", "multichip.soak")]
    figures = Figures()
    for line in kills(figures, Run(tmp_path, required, 4.0, 7), random.Random(7), 4, 8.0):
        print(line)
    assert figures.good, figures


def test_what_is_lost_left_or_untrue_is_no_good() -> None:
    assert Figures().good
    for name in ("lost", "left", "untrue"):
        figures = Figures()
        getattr(figures, name).append("something")
        assert not figures.good
        assert "something" in str(figures)
