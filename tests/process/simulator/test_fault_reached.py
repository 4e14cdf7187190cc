"""Whether a check has met a planted defect is known across all of its processes, and leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from readiness import accelerators
from readiness.accelerators import sim
from readiness.host import temp_dirs
from readiness.host.temp_dirs import PURGED_VARIABLE
from readiness.simulator import fault_reached
from readiness.simulator import machine_file as chips
from readiness.simulator.faults import kinds
from tests.support.rehearsal import chip_file


def test_a_mark_of_another_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PURGED_VARIABLE, raising=False)
    fault_reached.mark()  # where nobody would sweep, nothing is left
    assert fault_reached.is_marked() is None
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv(PURGED_VARIABLE, temp_dirs.purged_prefix())
    assert fault_reached.is_marked() is False
    child = multiprocessing.get_context("spawn").Process(target=fault_reached.mark)
    child.start()
    child.join()
    assert fault_reached.is_marked() is True
    fault_reached.mark()
    temp_dirs.purge(os.getpid())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("defect", "told"), [('kind = "nan"', {fault_reached.KEY: False}), ('kind = "counter"\nset = { uncorrected = 1 }', {})])
def test_it_is_told_of_defects_that_act_on_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str, told: dict[str, bool]) -> None:
    monkeypatch.setenv(PURGED_VARIABLE, str(tmp_path / "prefix-"))
    facts = sim.facts(chips.load(chip_file(tmp_path / "one.toml", defect), kinds()))[0]
    assert accelerators.stack("sim").process_facts(facts) == told
    monkeypatch.delenv(PURGED_VARIABLE)
    assert accelerators.stack("sim").process_facts(facts) == {}
