"""Checks that play a part: one is blind, one blames everybody, one sees what it should. None of them needs torch."""

from __future__ import annotations

import time
from collections.abc import Iterator

from readiness import Accelerator, Measurement, Scope, Skip, check
from readiness.simulator.machine_file import Chip

MEASURES = {"figure": "1"}


def _defects(accelerator: Accelerator) -> list[str]:
    """What this very chip has."""
    facts = accelerator.facts
    document = facts.properties.get("chip")
    return [] if document is None else [defect.kind for defect in Chip.from_json(document).defects if defect.on_chip(facts.index)]


@check("acting.blind", title="Sees nothing", measures=MEASURES, typical_s=0.1, catches=("version",))
def blind(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a missed defect told?"""
    yield Measurement("figure", 1.0)


@check("acting.suspicious", title="Blames every simulated chip", measures=MEASURES, typical_s=0.1)
def suspicious(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a false alarm told?"""
    yield Measurement("figure", -1.0 if accelerator.facts.kind == "sim" else 1.0, about="a chip that looked at me")


@check("acting.sees", title="Sees a planted defect", measures=MEASURES, typical_s=0.1, catches=("version", "counter"))
def sees(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a catch told, with the chip and the words?"""
    yield Measurement("figure", -1.0 if _defects(accelerator) else 1.0, about=f"planted: {_defects(accelerator)}")


@check("acting.skips", title="Cannot tell", measures=MEASURES, typical_s=0.1, catches=("version",))
def skips(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a check that could not tell neither a catch nor a miss?"""
    raise Skip("it has nothing to measure")
    yield Measurement("figure", 1.0)


@check("acting.hangs", title="Hangs where something is planted", measures=MEASURES, typical_s=0.1, catches=("hang",))
def hangs(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a hang ended after one try?"""
    while _defects(accelerator):
        time.sleep(60)
    yield Measurement("figure", 1.0)


@check("acting.together", title="All chips", measures=MEASURES, typical_s=0.1, scope=Scope.GROUP, alone=True, catches=("counter",))
def together(accelerator: Accelerator) -> Iterator[Measurement]:
    """Does a check of a group meet all chips of its machine?"""
    chips = len(accelerator.peers)
    planted = any(_defects(Accelerator(facts, accelerator.stack)) for facts in accelerator.peers)
    yield Measurement("figure", -1.0 if planted and chips == 3 else 1.0, about=f"{chips} chips")
