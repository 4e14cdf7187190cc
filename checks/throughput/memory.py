"""Speed of the device's memory."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "throughput.memory",
    title="Bandwidth of the device's memory",
    measures={
        "bandwidth_gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning=(
                "Median rate of a copy within the device's memory, reading and writing both counted, in 10^9 bytes a "
                "second; its spread is what another run may differ by."
            ),
            title="Memory is fast enough for the model",
            why="Decoding and every element-wise operation are bound by it.",
            remedy="Use devices with faster memory, shard over several, or quantise the weights.",
            action=Action.ADD_HARDWARE,
        ),
        "share_of_rated": Measure(
            "1", better=Better.HIGHER,
            meaning="Median rate over the one that this model of device is sold with; nothing where none is on record.",
            title="Memory reaches a fair share of its rated bandwidth",
            why="A chip that gives a fraction of what it was bought for costs as many times more.",
            remedy="Compare clocks, power limit and temperature with a neighbour's; update the stack; ask the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "capacity_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Memory that the stack reports over what this model of device is sold with.",
            title="The device has the memory that it is sold with",
            why="A device that has lost a part of its memory, or was sold with more than it has, fits smaller models.",
            remedy="Look for pages that were taken out of use and for parts given to others; have the device replaced.",
            action=Action.REPLACE,
        ),
        "wrong_bytes": Measure(
            "bytes", better=Better.LOWER,
            meaning="Bytes that differ after the copy: a copy that was not made is fast.",
            why="Memory that returns other bytes than were written corrupts all data in it.",
            remedy="Take the device out of service and have its memory tested.",
            action=Action.REPLACE,
        ),
    },
    typical_s=1.0,
    alone=True,
    catches=("less-memory",),
    least={"device_mib": 1, "host_mib": 1, "budget_s": 0.001},
)
def memory(
    accelerator: Accelerator, *, device_mib: int = 1024, host_mib: int = 256, budget_s: float = 0.6
) -> Iterator[Yield]:
    """Times a copy within the device's memory.

    Decoding tokens and every element-wise operation are bound by it. One block of random bytes (`device_mib`, on the
    host `host_mib`; never more than an eighth of the free memory) is copied to another. Size and bandwidth are held against
    those that this model of device is sold with, where they are known.
    """
    from readiness.probes.throughput.memory_operations import BlockCopy
    from readiness.probes.throughput.timing import settle

    size = (host_mib if accelerator.device.type == "cpu" else device_mib) * 2**20
    reading = accelerator.memory()
    if reading is not None:
        size = min(size, reading[0] // 8)
    block = BlockCopy.drawn(accelerator, size)
    settled = settle(accelerator)
    timing = block.timed(accelerator, budget_s=budget_s)
    yield Measurement("wrong_bytes", block.wrong_bytes())
    yield Row({"bytes": size, "seconds": timing.median, "fastest": timing.best, "slowest": max(timing.seconds),
               "clock": timing.clock, **settled.cells(), **timing.unsteady()})  # fmt: skip
    work = 2.0 * size
    yield Measurement(
        "bandwidth_gbps", timing.rate(work) / 1e9, spread=timing.spread(work) / 1e9, samples=len(timing.seconds)
    )
    rated = accelerator.rated()
    if rated is not None and rated.memory_gbps is not None:
        about = f"{timing.rate(work) / 1e9:.4g} of {rated.memory_gbps:.4g} GB/s; rated: {rated.source}"
        share, spread = (value / 1e9 / rated.memory_gbps for value in (timing.rate(work), timing.spread(work)))
        yield Measurement("share_of_rated", share, spread=spread, about=about)
    total = reading[1] if reading is not None else accelerator.facts.memory_bytes
    if rated is not None and rated.memory_bytes is not None and total is not None:
        about = f"{total / 2**30:.4g} of {rated.memory_bytes / 2**30:.4g} GiB; rated: {rated.source}"
        yield Measurement("capacity_share", total / rated.memory_bytes, about=about)
