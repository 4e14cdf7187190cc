"""What tests of several chips share: this CPU as many, and a simulated machine in a process of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Evidence
from readiness.documents.assessment import evidence_from_json, evidence_to_json
from readiness.simulator.machine_file import Chip, Defect
from tests.support import cpu
from tests.support.simulator import chip, inside


def chips(number: int, seed: int = 7) -> Accelerator:
    """Several chips that are all this CPU."""
    one = cpu(seed)
    facts = [dataclasses.replace(one.facts, id=f"cpu:{index}", index=index) for index in range(number)]
    return Accelerator(facts[0], one.stack, seed=seed, peers=facts)


def machine(*defects: Defect, chips: int) -> Chip:
    """A simulated machine with these defects."""
    return chip(*defects, chips=chips)


Simulated = Callable[..., Evidence]


def on_simulated_chips(
    check: str, simulated: Chip, seed: int = 7, *, prepare: Callable[[], object] = lambda: None, **settings: Any
) -> Evidence:
    """The evidence of a check on a simulated machine; its process is prepared before (what is patched here is not there)."""

    def run() -> Any:
        prepare()
        from readiness import accelerators
        from readiness.accelerators.sim import facts
        from tests.support import run_check

        peers = facts(simulated)
        return evidence_to_json(run_check(check, Accelerator(peers[0], accelerators.stack("sim"), seed=seed, peers=peers), **settings))

    return evidence_from_json(inside(simulated, run, seed=seed, limit_s=240.0))
