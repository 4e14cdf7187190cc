"""How many chips there are to work together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from readiness.accelerators.base import Accelerator
from readiness.checklist import Scope, check
from readiness.model import AcceleratorFacts, Cost, Measurement, Row, Yield
from readiness.peers import host_of


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
    collective library) has another version than on the chip that leads; kernels may differ. It is 0 only where every
    version could be read on all hosts.
    """
    own = _versions(accelerator.facts)
    odd: dict[str, str] = {}
    unread = False
    for facts in {facts.id: facts for facts in accelerator.peers}.values():
        yield Row({"chip": facts.id, "model": facts.model, "serial": facts.serial, "memory_bytes": facts.memory_bytes})
        both = {name: (_versions(facts).get(name), own.get(name)) for name in sorted({*own, *_versions(facts)})}
        known = [(name, there, here) for name, (there, here) in both.items() if None not in (there, here)]
        differing = [f"{name} {there} where {accelerator.id} has {here}" for name, there, here in known if there != here]
        if differing:
            odd[facts.id] = ", ".join(differing)
        unread |= host_of(facts) is not None and len(known) < len(both)  # chips of one host have one driver
    yield Measurement("chips", len({facts.id for facts in accelerator.peers}))
    if odd or not unread:
        about = "; ".join(f"{chip}: {what}" for chip, what in odd.items())
        yield Measurement("software_differences", len(odd), about=about or None)


def _versions(facts: AcceleratorFacts) -> Mapping[str, str | None]:
    return {name: version for name, version in facts.software.items() if name != "kernel"}
