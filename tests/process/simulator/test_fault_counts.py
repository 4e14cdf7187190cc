"""Whether a check has met a planted defect, and how often it acted, is known across all processes, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from readiness import accelerators
from readiness.accelerators import sim
from readiness.host import temp_dirs
from readiness.host.temp_dirs import PURGED_VARIABLE
from readiness.simulator import fault_counts
from readiness.simulator import machine_file as chips
from readiness.simulator.faults import kinds
from tests.support.rehearsal import chip_file
from tests.support.simulator import DiedError, chip, defect, inside


def test_a_mark_of_another_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PURGED_VARIABLE, raising=False)
    fault_counts.mark()  # where nobody would sweep, nothing is left
    assert fault_counts.is_marked() is None
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv(PURGED_VARIABLE, temp_dirs.purged_prefix())
    assert fault_counts.is_marked() is False
    child = multiprocessing.get_context("spawn").Process(target=fault_counts.mark)
    child.start()
    child.join()
    assert fault_counts.is_marked() is True
    fault_counts.mark()
    temp_dirs.purge(os.getpid())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("defect", "told"), [('kind = "nan"', {fault_counts.MET: False, fault_counts.ACTED: {"1 nan": 0}}), ('kind = "counter"\nset = { uncorrected = 1 }', {})])
def test_defects_that_act_on_calls_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str, told: dict[str, Any]) -> None:
    monkeypatch.setenv(PURGED_VARIABLE, str(tmp_path / "prefix-"))
    facts = sim.facts(chips.load(chip_file(tmp_path / "one.toml", defect), kinds()))[0]
    assert accelerators.stack("sim").process_facts(facts) == told
    monkeypatch.delenv(PURGED_VARIABLE)
    assert accelerators.stack("sim").process_facts(facts) == {}


def test_acts_are_counted_over_processes_however_these_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PURGED_VARIABLE, str(tmp_path / "prefix-"))
    named = chip(defect("missing", "cumprod*"), defect("nan", "exp"), defect("counter", options={"uncorrected": 1}), defect("wrong-gradient", "mm"))

    def die() -> None:
        x = torch.ones(3, 3).to("sim").requires_grad_()
        for _ in range(2):
            x.exp()
        torch.ones(3, dtype=torch.int64).to("sim").flip(0)  # nothing that any of them is about
        (x @ x).sum().backward()  # type: ignore[no-untyped-call]
        with contextlib.suppress(NotImplementedError):
            x.detach().cumprod(0)
        if os.fork() == 0:
            x.detach().exp()
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DiedError):
        inside(named, functools.partial(_with_prefix, str(tmp_path / "prefix-"), die))
    deadline = time.monotonic() + 100
    while (counts := fault_counts.acted()) is None or counts[1] < 3:  # the fork's act is its last
        assert time.monotonic() < deadline, counts
        time.sleep(0.01)
    assert counts[:5] == [1, 3, 0, 2, 0]  # of the wrong gradient the two products of the backward pass, not the forward one
    facts = sim.facts(named)[0]
    told = accelerators.stack("sim").process_facts(facts)
    assert told == {fault_counts.ACTED: {"1 missing": 1, "2 nan": 3, "4 wrong-gradient": 2}}


def _with_prefix(prefix: str, function: Callable[[], None]) -> None:
    os.environ[PURGED_VARIABLE] = prefix  # the process that runs it was prepared before
    function()
