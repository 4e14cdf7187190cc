"""How many chips there are to work together."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.checklist import Scope, check
from readiness.model import Cost, Measurement, Row, Yield


@check(
    "multichip.world",
    title="Chips that can work together",
    measures={"chips": "1"},
    cost=Cost.SECONDS,
    typical_s=0.1,
    scope=Scope.GROUP,
)
def world(accelerator: Accelerator) -> Iterator[Yield]:
    """How many chips of this stack does the machine offer to one job?

    A model that is split over eight chips needs eight of them; all processors of a host together are one chip, as they
    are one device in torch. The value counts the accelerators that the run may use: those it was pointed at, if any.
    """
    for facts in accelerator.peers:
        yield Row({"chip": facts.id, "model": facts.model, "serial": facts.serial, "memory_bytes": facts.memory_bytes})
    yield Measurement("chips", len({facts.id for facts in accelerator.peers}))
