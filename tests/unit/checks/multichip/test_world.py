"""`multichip.world`: chips are counted, each once."""

from __future__ import annotations

import dataclasses

from readiness.accelerators.base import Accelerator
from tests.support import cpu, run_check, value


def test_all_processors_of_a_host_are_one_chip() -> None:
    evidence = run_check("multichip.world")
    assert value(evidence, "chips") == 1
    assert [row["chip"] for row in evidence.rows] == ["cpu:0"]


def test_the_chips_of_the_group_are_counted() -> None:
    facts = cpu().facts
    peers = [dataclasses.replace(facts, id=f"cpu:{index}", index=index) for index in range(8)]
    evidence = run_check("multichip.world", Accelerator(facts, cpu().stack, peers=peers))
    assert value(evidence, "chips") == 8
    assert len(evidence.rows) == 8


def test_a_chip_that_is_missing_is_missed() -> None:
    facts = cpu().facts
    evidence = run_check("multichip.world", Accelerator(facts, cpu().stack, peers=[facts, facts]))
    assert value(evidence, "chips") == 1
