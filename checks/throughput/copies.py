"""Speed of copies between host and device, and the slot that they pass."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Skip, Yield, check


@check(
    "throughput.copies",
    title="Bandwidth between host and device",
    measures={
        "bandwidth_gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning=(
                "Median rate of copies of a block, in 10^9 bytes a second; its spread is what another run may "
                "differ by."
            ),
            why="Weights are loaded, batches fed and checkpoints written at this rate.",
            remedy="Look at share_of_memory and share_of_slot, which separate the host's part from the slot's.",
            action=Action.CHECK_CONFIG,
        ),
        "share_of_memory": Measure(
            "1", better=Better.HIGHER,
            meaning="Best sample over the best copy by one thread within the host's memory in the same run.",
            title="Copies reach a fair share of the host memory's speed",
            why="Weights are loaded, batches fed, checkpoints written and caches moved through this.",
            remedy=(
                "Look at the slot (lspci -vv, LnkSta), at the memory that the process is bound to, and at what else uses "
                "the slot's switch."
            ),
            action=Action.CHECK_CONFIG,
        ),
        "share_of_slot": Measure(
            "1", better=Better.HIGHER,
            meaning="Best sample with pinned memory over the rate of the slot in its current state.",
            title="Copies use what the slot can carry",
            why="Rate that the slot could carry but does not is lost between memory, processor and switch.",
            remedy=(
                "Bind the process to the processor that the device is attached to; look at access control "
                "(ACS) and the IOMMU."
            ),
            action=Action.CHECK_CONFIG,
        ),
        "wrong_bytes": Measure(
            "bytes", better=Better.LOWER,
            meaning="Bytes that differ after a block has been there and back: a copy that was not made is fast.",
            title="Large copies arrive unchanged",
            why="Weights and checkpoints cross between host and device in large blocks.",
            remedy="Look for bus errors in the kernel's log; have the device and its slot tested.",
            action=Action.REPLACE,
        ),
        "slot_lanes_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Lanes of the slot in use over the lanes that the device supports.",
            title="The device's slot runs with all its lanes",
            why="A device that has lost half of its lanes works, slowly: the usual fault of a slot, a riser or a board.",
            remedy=(
                "Reseat the device; compare with its neighbours. If the board has no more lanes there, this "
                "is by design."
            ),
            action=Action.REPLACE,
        ),
        "slot_pace_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Speed of each lane over the speed that the device supports.",
            title="The device's slot runs at its full pace",
            why=(
                "A link that could not be trained at its pace fell back to a slower one: half of its bandwidth for each "
                "step."
            ),
            remedy=(
                "Reseat the device, look for corrected errors of the bus, and set the slot's generation in the firmware. "
                "If the host has an older generation, this is by design."
            ),
            action=Action.CHECK_CONFIG,
        ),
    },
    typical_s=2.0,
    alone=True,
    catches=("slow",),
    least={"mib": 1, "budget_s": 0.001},
)  # fmt: skip
def copies(accelerator: Accelerator, *, mib: int = 128, budget_s: float = 0.15) -> Iterator[Yield]:
    """Times copies between host and device, and reads how the slot between them is used.

    Weights are loaded, checkpoints written and batches fed this way; a slot that has lost lanes makes all of it slow,
    and nothing says so. A block of random bytes (`mib`, never more than an eighth of the free memory) is copied to the
    device and back, from and to pageable and, where the host can pin memory for the device, pinned memory. Where the
    kernel shows the slot (PCI Express; not in virtual machines, whose hosts make it up) it is read while copies are
    under way, as devices at rest slow their slots down. On simulated chips no rate is told where the host kept the process
    waiting for half of the time.

    Labels: `memory` (pageable, pinned), `direction`.
    """
    from readiness.probes.driver.memcpy import pinning
    from readiness.probes.throughput import host_device_copy
    from readiness.probes.throughput.timing import MOSTLY_WAITED, on_host, settle

    if accelerator.device.type == "cpu":
        raise Skip("the device's memory is the host's")
    block = host_device_copy.block(accelerator, mib * 2**20)
    within = host_device_copy.within_host(block, budget_s=budget_s)
    settled = settle(accelerator)
    yield Row({"bytes": block.numel(), "host_memory_gigabytes_a_second": round(within / 1e9, 3), **settled.cells()})
    refusal = pinning(accelerator)
    if refusal is not None:
        yield Row({"memory": "pinned", "refused": refusal})
    wrong, samples, slot = 0, 0, None
    for memory in ("pageable", "pinned") if refusal is None else ("pageable",):
        crossed = host_device_copy.there_and_back(accelerator, block, pinned=memory == "pinned", budget_s=budget_s)
        wrong, samples, slot = wrong + crossed.wrong_bytes, samples + 1, crossed.slot or slot
        for direction, timing in crossed.timings.items():
            here = {"memory": memory, "direction": direction}
            if on_host(accelerator) and timing.waited > MOSTLY_WAITED:
                how = f"the host kept this process waiting for {timing.waited:.0%} of the time"
                yield Row({**here, "bandwidth_gbps": f"not known: {how}"})
                continue
            rate, spread = timing.rate(block.numel()), timing.spread(block.numel()) / 1e9
            yield Measurement("bandwidth_gbps", rate / 1e9, here, spread=spread, samples=len(timing.seconds))
            best = block.numel() / min(timing.seconds)
            about = f"{memory} memory {direction}: {best / 1e9:.3g} GB/s, within the host's memory {within / 1e9:.3g} GB/s"
            yield Measurement("share_of_memory", best / within, here, samples=len(timing.seconds), about=about)
            if memory == "pinned" and crossed.slot is not None:
                about = f"{direction}: {best / 1e9:.3g} GB/s; {crossed.slot}"
                yield Measurement("share_of_slot", best / 1e9 / crossed.slot.gbps, here, about=about)
    yield Measurement("wrong_bytes", wrong, samples=samples)
    if slot is not None:
        yield Measurement("slot_lanes_share", slot.lanes / slot.most_lanes, about=str(slot))
        yield Measurement("slot_pace_share", slot.pace / slot.most_pace, about=str(slot))
