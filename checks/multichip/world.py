"""How many chips there are to work together."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.checklist import Scope, check
from readiness.model import AcceleratorFacts, Cost, Measurement, Row, Yield


@check(
    "multichip.world",
    title="Chips that can work together",
    measures={"chips": "1", "software_differences": "1"},
    cost=Cost.SECONDS,
    typical_s=0.1,
    scope=Scope.GROUP,
)
def world(accelerator: Accelerator) -> Iterator[Yield]:
    """How many chips of this stack can work at one job, and are they driven by the same software?

    A model that is split over eight chips needs eight of them; all processors of a host together are one chip, as they
    are one device in torch. `chips` counts the accelerators that the run may use: those it was pointed at, if any, and
    those of further hosts (`--host`). `software_differences` counts the chips of which a component (torch, driver,
    collective library) has another version than on the chip that leads; kernels may differ.
    """
    odd: dict[str, str] = {}
    for facts in {facts.id: facts for facts in accelerator.peers}.values():
        yield Row({"chip": facts.id, "model": facts.model, "serial": facts.serial, "memory_bytes": facts.memory_bytes})
        if differing := _differing(accelerator.facts, facts):
            odd[facts.id] = ", ".join(differing)
    yield Measurement("chips", len({facts.id for facts in accelerator.peers}))
    about = "; ".join(f"{chip}: {what}" for chip, what in odd.items())
    yield Measurement("software_differences", len(odd), about=about or None)


def _differing(lead: AcceleratorFacts, other: AcceleratorFacts) -> list[str]:
    """What of another chip's software is not as on this one, in words."""
    own, theirs = ({**facts.software, "kernel": None} for facts in (lead, other))
    return [
        f"{name} {theirs.get(name) or 'unknown'} where {lead.id} has {own.get(name) or 'unknown'}"
        for name in sorted({*own, *theirs})
        if own.get(name) != theirs.get(name)
    ]
