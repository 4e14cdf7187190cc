"""Number of chips that work together, and whether their software agrees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from readiness import (
    Accelerator,
    AcceleratorFacts,
    Action,
    Better,
    Cost,
    Measure,
    Measurement,
    Row,
    Scope,
    Yield,
    check,
    host_of,
)


@check(
    "multichip.world",
    title="Chips that can work together",
    measures={
        "chips": Measure(
            "1", better=Better.HIGHER,
            meaning="Accelerators of this stack that the run may use, those of further hosts included.",
            title="There are enough chips for the model",
            why="A model that is split over several chips needs as many that can work together.",
            remedy="Give the run all chips of the host, or join hosts that have enough together (--host).",
            action=Action.ADD_HARDWARE,
        ),
        "software_differences": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Chips with a component in another version than on the first chip; 0 is reported only where "
                "every version could be read on all hosts."
            ),
            title="All chips have the same software versions",
            why=(
                "A driver or a collective library that is another version on one host fails late, at some sizes, and "
                "looks like a bad link."
            ),
            remedy="Install the same versions on all hosts; the blocker names the component and the chip.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "variable_differences": Measure(
            "1", better=Better.LOWER,
            meaning="Chips on hosts whose environment configures the library of collectives differently.",
            title="All ranks have the same library settings",
            why=(
                "Ranks whose libraries are configured differently choose different algorithms, and wait for each "
                "other for ever, "
                "or slowly."
            ),
            remedy="Set the same variables on all hosts, for non-login shells as well; the finding names them.",
            action=Action.CHECK_CONFIG,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=0.1,
    scope=Scope.GROUP,
)
def world(accelerator: Accelerator) -> Iterator[Yield]:
    """Counts the chips that can work at one job, and compares their software and their libraries' settings.

    A model that is split over eight chips needs eight of them; all processors of a host together are one chip, as they
    are one device in torch. Compared are torch, driver and collective library (kernels may differ), and between hosts
    the variables that the collective library reads (NCCL_*, HCCL_*, ...), but for those that name a host's own devices,
    addresses and files.
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
    remote = {facts.id: _variables(facts) for facts in accelerator.peers if host_of(facts) is not None}
    local = _variables(accelerator.facts)
    other = {id: found for id, found in remote.items() if found is not None and local is not None and found != local}
    if other or not remote or not (local is None or None in remote.values()):
        about = "; ".join(f"{id}: {_differing(found, local or {}, accelerator.id)}" for id, found in other.items())
        yield Measurement("variable_differences", len(other), about=about[:290] or None)


def _variables(facts: AcceleratorFacts) -> Mapping[str, str] | None:
    """Return the collective libraries' variables on its host; None if unknown."""
    found = facts.properties.get("collective_variables")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, Mapping) else None


def _differing(there: Mapping[str, str], here: Mapping[str, str], leader: str) -> str:
    names = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
    return ", ".join(f"{name} {there.get(name, 'not set')} where {leader} has {here.get(name, 'none')}" for name in names)


def _versions(facts: AcceleratorFacts) -> Mapping[str, str | None]:
    return {name: version for name, version in facts.software.items() if name != "kernel"}
