"""Speed of copies between host and device, and the slot that they pass."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Skip, check
from readiness.datamodel import Measurement, Row, Yield


@check(
    "throughput.copies",
    title="Bandwidth between host and device",
    measures={
        "bandwidth_gbps": "GB/s", "share_of_memory": "1", "share_of_slot": "1", "wrong_bytes": "bytes",
        "slot_lanes_share": "1", "slot_pace_share": "1",
    },
    typical_s=2.0,
    alone=True,
    catches=("slow",),
    least={"mib": 1, "budget_s": 0.001},
)  # fmt: skip
def copies(accelerator: Accelerator, *, mib: int = 128, budget_s: float = 0.15) -> Iterator[Yield]:
    """How many bytes a second pass between host and device, and is the slot between them used as it could be?

    Weights are loaded, checkpoints written and batches fed this way; a slot that has lost lanes makes all of it slow, and
    nothing says so. A block of random bytes (`mib`, never more than an eighth of the free memory) is copied to the device
    and back, from and to pageable and, where the host can pin memory for the device, pinned memory (labels `memory`,
    `direction`). `bandwidth_gbps` is the median over the samples in 10^9 bytes a second, its spread the distance between
    the quartiles; `share_of_memory` is the best sample over the best copy by one thread within the host's memory in the
    same run.

    Where the kernel shows the slot (PCI Express; not in virtual machines, whose hosts make it up) it is read while copies
    are under way, as devices at rest slow their slots down: `slot_lanes_share` are the lanes in use, `slot_pace_share` the
    pace of each, over what the device is capable of; `share_of_slot` is the best sample with pinned memory over what the
    slot carries as it is. `wrong_bytes` counts what differs after a block has been there and back: a copy that was not
    made is fast.
    """
    from readiness.probes.driver.memcpy import pinning
    from readiness.probes.throughput import host_device_copy

    if accelerator.device.type == "cpu":
        raise Skip("the device's memory is the host's")
    block = host_device_copy.block(accelerator, mib * 2**20)
    within = host_device_copy.within_host(block, budget_s=budget_s)
    yield Row({"bytes": block.numel(), "host_memory_gigabytes_a_second": round(within / 1e9, 3)})
    refusal = pinning(accelerator)
    if refusal is not None:
        yield Row({"memory": "pinned", "refused": refusal})
    wrong, samples, slot = 0, 0, None
    for memory in ("pageable", "pinned") if refusal is None else ("pageable",):
        crossed = host_device_copy.there_and_back(accelerator, block, pinned=memory == "pinned", budget_s=budget_s)
        wrong, samples, slot = wrong + crossed.wrong_bytes, samples + 1, crossed.slot or slot
        for direction, timing in crossed.timings.items():
            here = {"memory": memory, "direction": direction}
            rate, spread = timing.rate(block.numel()), timing.spread(block.numel()) / 1e9
            yield Measurement("bandwidth_gbps", rate / 1e9, here, spread=spread, samples=len(timing.seconds))
            best = block.numel() / min(timing.seconds)
            told = f"{memory} memory {direction}: {best / 1e9:.3g} GB/s, within the host's memory {within / 1e9:.3g} GB/s"
            yield Measurement("share_of_memory", best / within, here, samples=len(timing.seconds), about=told)
            if memory == "pinned" and crossed.slot is not None:
                told = f"{direction}: {best / 1e9:.3g} GB/s; {crossed.slot}"
                yield Measurement("share_of_slot", best / 1e9 / crossed.slot.gbps, here, about=told)
    yield Measurement("wrong_bytes", wrong, samples=samples)
    if slot is not None:
        yield Measurement("slot_lanes_share", slot.lanes / slot.most_lanes, about=str(slot))
        yield Measurement("slot_pace_share", slot.pace / slot.most_pace, about=str(slot))
