"""Simulated chips: host memory under another device's name, with the defects that a chip file plants. Only on request."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from readiness.accelerators import torch_build
from readiness.accelerators.base import FULLY_SHARDED_MODES, Stack
from readiness.accelerators.rated_figures import Rated
from readiness.accelerators.readers import kernel_log
from readiness.accelerators.readers.contract import Reading
from readiness.accelerators.readers.kernel_log import Event
from readiness.datamodel import AcceleratorFacts
from readiness.simulator.machine_file import Chip

if TYPE_CHECKING:
    import torch

NOTICE = "a simulated chip: a rehearsal, not a measurement of a product"


class Sim(Stack):
    """The facts of a simulated chip carry its whole description; nothing else is needed to become it."""

    name = "sim"
    kind = "sim"
    collective_backend = "cpu:gloo,sim:gloo"
    host_backed = True
    connect_timeout_s = 0.0
    unsupported_ops: Mapping[str, str] = {"to_sparse": "the simulator supports strided tensors only"}
    unsupported_modes: Mapping[str, str] = dict.fromkeys(
        FULLY_SHARDED_MODES,
        "fully_shard resizes storages, which the simulator does not support: not a finding about a chip",
    ) | dict.fromkeys(
        ("ddp-static", "ddp-unused"),
        "a map of used parameters lies in pinned memory, for which the simulator has no hooks: not a finding about a chip",
    )

    def discover(self) -> Iterator[AcceleratorFacts]:
        """Return nothing: a simulated chip is never found, only requested."""
        yield from ()

    def absence(self) -> str | None:
        """Always absent by itself."""
        return "simulated chips are only assessed with --device sim:NAME"

    def enter(self, facts: AcceleratorFacts, seed: int) -> None:
        """Make this chip the device of this process. Raises UnavailableError."""
        from readiness.simulator.install import install

        install(Chip.from_json(facts.properties["chip"]), facts.properties["number"], seed)

    def process_facts(self, facts: AcceleratorFacts) -> Mapping[str, Any]:
        """Return how often each planted defect acted on a call so far, and whether any call was one that they are about."""
        from readiness.simulator import fault_counts
        from readiness.simulator.faults import kinds
        from readiness.simulator.injection import Stage

        known = kinds()
        defects = Chip.from_json(facts.properties["chip"]).defects
        calls = [known[defect.kind].at is not Stage.NEVER for defect in defects]
        described: dict[str, Any] = {}
        if all(calls) and (marked := fault_counts.is_marked()) is not None:
            described[fault_counts.MET] = marked
        if any(calls) and (counts := fault_counts.acted()) is not None:
            described[fault_counts.ACTED] = {
                defect.label(position): counts[position] for position, defect in enumerate(defects) if calls[position]
            }
        return described

    def torch_device(self, facts: AcceleratorFacts) -> torch.device:  # noqa: ARG002
        """Return the device of torch: each process has one simulated chip, whatever its number."""
        import torch

        return torch.device("sim", 0)

    def sharing(self, facts: AcceleratorFacts) -> int:
        """All chips of its file."""
        return Chip.from_json(facts.properties["chip"]).chips

    def rated(self, facts: AcceleratorFacts) -> Rated:
        """Return the memory that the chip's file says it is sold with; its speed is the host's, which nobody has rated."""
        chip = Chip.from_json(facts.properties["chip"])
        return Rated("the chip's file", "", memory_bytes=chip.memory_bytes)

    def sensors(self, facts: AcceleratorFacts) -> Mapping[str, float]:  # noqa: ARG002
        """Return the temperature of this process's simulated chip."""
        from readiness.simulator.install import installed

        device = installed()
        return {} if device is None else {"temperature_c": device.temperature}

    def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:
        """Return the counters at the start of the run, plus what the chip's defects have added."""
        if facts.counters is None:
            return None
        from readiness.simulator.install import installed

        now = dict(facts.counters)
        device = installed()
        load_s = 0.0 if device is None else device.load_s
        for defect in Chip.from_json(facts.properties["chip"]).defects:
            if defect.kind in ("counter", "counter-under-load") and defect.on_chip(facts.properties["number"]):
                times = 1.0 if defect.kind == "counter" else load_s
                for name, rise in defect.set.items():
                    now[name] = now.get(name, 0) + int(float(rise) * times)
        return now

    def reading(self, facts: AcceleratorFacts) -> Reading:
        """Return the reading of the chip's simulated management library."""
        from readiness.accelerators.readers import simulated

        chip, number = Chip.from_json(facts.properties["chip"]), int(facts.properties["number"])
        now = simulated.Now(
            self.counters(facts), facts.software, self.sensors(facts).get("temperature_c"), _memory_used(), _load(),
        )  # fmt: skip
        return simulated.read(chip, number, now)

    def fault_events(self, facts: AcceleratorFacts, since: float) -> Sequence[Event]:
        """Return the lines of the simulated host's log that have come by now."""
        found: list[Event] = []
        for defect in Chip.from_json(facts.properties["chip"]).defects:
            if defect.kind == "kernel-log" and defect.on_chip(facts.properties["number"]):
                at = since + (1.0 if defect.severity is None else defect.severity)
                found += kernel_log.events([(str(defect.set.get("line", "")), at)])
        return [event for event in found if event.at is not None and event.at <= time.time()]

    def throttle_reasons(self, facts: AcceleratorFacts) -> Sequence[str] | None:
        """Return the throttle reasons of a defect of health; None where the chip's library has none, as Huawei's."""
        if Chip.from_json(facts.properties["chip"]).management is not None:
            return None
        reasons: Sequence[str] = self.reading(facts).value("throttle_reasons")
        return reasons


STACK = Sim()


def facts(chip: Chip) -> tuple[AcceleratorFacts, ...]:
    """Return one accelerator for each simulated chip, described as by a vendor's stack.

    Defects of the version stack show.
    """
    build = torch_build.installed()
    return tuple(
        AcceleratorFacts(
            id=f"{STACK.name}:{number}",
            kind=STACK.kind,
            index=number,
            stack=STACK.name,
            vendor=chip.vendor or "simulated",
            model=chip.model or f"simulated {chip.name}",
            serial=f"SIM-{chip.name}-{number}",
            memory_bytes=chip.memory_of(number),
            software={"torch": None if build is None else build.version, **_software(chip, number)},
            properties={"simulated": True, "notice": NOTICE, "number": number, "chip": chip.to_json()},
            counters=dict(chip.counters) or None,
        )
        for number in range(chip.chips)
    )


def _memory_used() -> int | None:
    """Return what the management library reports of this process's chip; None outside of one."""
    from readiness.simulator.install import installed

    device = installed()
    if device is None:
        return None
    return int(device.reported("memory::managed", device.memory.total - device.memory.free_of_all))


def _load() -> float | None:
    """Return the share of full load that this process's chip has warmed up to; None outside of one."""
    from readiness.simulator.install import installed

    device = installed()
    return None if device is None else device.load


def _software(chip: Chip, number: int) -> dict[str, str | None]:
    software: dict[str, str | None] = dict(chip.software)
    for defect in chip.defects:
        if defect.kind == "version" and defect.on_chip(number):
            software |= {name: value if isinstance(value, str) else None for name, value in defect.set.items()}
    return software
