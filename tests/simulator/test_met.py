"""Whether a check has met a planted defect is known across all of its processes, and leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from readiness import accelerators, scratch
from readiness.accelerators import sim
from readiness.scratch import SWEPT_VARIABLE
from readiness.simulator import chip as chips
from readiness.simulator import met
from readiness.simulator.kinds import kinds
from tests.rehearsal.support import chip_file


def test_a_mark_of_another_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWEPT_VARIABLE, raising=False)
    met.mark()  # where nobody would sweep, nothing is left
    assert met.is_marked() is None
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv(SWEPT_VARIABLE, scratch.swept_prefix())
    assert met.is_marked() is False
    child = multiprocessing.get_context("spawn").Process(target=met.mark)
    child.start()
    child.join()
    assert met.is_marked() is True
    met.mark()
    scratch.sweep(os.getpid())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("defect", "told"), [('kind = "nan"', {met.KEY: False}), ('kind = "counter"\nset = { uncorrected = 1 }', {})])
def test_it_is_told_of_defects_that_act_on_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str, told: dict[str, bool]) -> None:
    monkeypatch.setenv(SWEPT_VARIABLE, str(tmp_path / "prefix-"))
    facts = sim.facts(chips.load(chip_file(tmp_path / "one.toml", defect), kinds()))[0]
    assert accelerators.stack("sim").told(facts) == told
    monkeypatch.delenv(SWEPT_VARIABLE)
    assert accelerators.stack("sim").told(facts) == {}
