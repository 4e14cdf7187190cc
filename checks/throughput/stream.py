"""Bandwidth of simple operations on large blocks of the device's memory, and of random gathers."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "throughput.stream",
    title="Bandwidth of copy, scale, add, triad, write, read and random gather",
    measures={
        "gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning=(
                "Bytes that an operation reads and writes over its median time, in 10^9 bytes a second; its spread is "
                "what another run may differ by."
            ),
            title="Memory is fast enough at {op}",
            why="Norms, activations, optimizers and caches are bound by it.",
            remedy="Use devices with faster memory, or fuse operations.",
            action=Action.ADD_HARDWARE,
        ),
        "share_of_rated": Measure(
            "1", better=Better.HIGHER,
            meaning="Median rate over the one that this model of device is sold with; nothing where none is on record.",
            title="Memory reaches a fair share of its rated bandwidth at {op}",
            why="A chip that gives a fraction of what it was bought for costs as many times more.",
            remedy="Compare clocks with a neighbour's; update the stack; ask the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_copy": Measure(
            "1", better=Better.HIGHER,
            meaning="Median rate over that of the copy in the same run, which needs no rating.",
            title="Memory moves nearly as fast at {op} as at copying",
            why="All of these move blocks: one that is far slower has a poor kernel, not poor memory.",
            remedy="Update the stack; report the operation to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "wrong_values": Measure(
            "1", better=Better.LOWER,
            meaning="Of 4,096 elements of each result those that differ from the host's: what was not computed is fast.",
            title="What was timed was computed",
            why="A rate of work that was not done is none.",
            remedy="Look the operation up in operators.sweep; report it to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    typical_s=1.5,
    alone=True,
    least={"device_mib": 1, "host_mib": 1, "budget_s": 0.001},
)
def stream(
    accelerator: Accelerator, *, device_mib: int = 1024, host_mib: int = 64, budget_s: float = 0.7
) -> Iterator[Yield]:
    """Times operations that do little but move memory: those of STREAM, writing, reading, and rows gathered at random.

    A copy says what memory can do; whether other kernels do as well is another question. Blocks of random float32 numbers
    (`device_mib`, on the host `host_mib`; never more than an eighth of the free memory). A gather takes every row of 512
    bytes once, in random order.

    Labels: `op` (copy, scale, add, triad, write, read, gather).
    """
    from readiness.probes.throughput import memory_operations
    from readiness.probes.throughput.timing import MOST_WAITED, on_host, settle

    size = (host_mib if accelerator.device.type == "cpu" else device_mib) * 2**20
    reading = accelerator.memory()
    size = size if reading is None else min(size, reading[0] // 8)
    rated, copied, wrong = accelerator.rated(), 0.0, 0
    yield Row({"bytes": size, **settle(accelerator).cells()})
    for operation, timing in memory_operations.measure(accelerator, size, budget_s=budget_s):
        here = {"op": operation.name}
        wrong += operation.wrong()
        yield Row({**here, "seconds": timing.median, "fastest": timing.best, "slowest": max(timing.seconds),
                   "samples": len(timing.seconds), "clock": timing.clock, "waited": timing.waited,
                   **timing.unsteady()})  # fmt: skip
        if on_host(accelerator) and not timing.waited <= MOST_WAITED:
            yield Row({**here, "gbps": "not known: other work keeps the host busy, or nobody knows"})
            continue
        rate, samples = timing.rate(operation.bytes) / 1e9, len(timing.seconds)
        spread = timing.spread(operation.bytes) / 1e9
        yield Measurement("gbps", rate, here, spread=spread, samples=samples)
        if operation.name == "copy":
            copied = rate
        elif copied:
            about = f"{operation.name} {rate:.4g} GB/s, a copy {copied:.4g}"
            yield Measurement("share_of_copy", rate / copied, here, samples=samples, about=about)
        if rated is not None and rated.memory_gbps is not None:
            about = f"{operation.name}: {rate:.4g} of {rated.memory_gbps:.4g} GB/s; rated: {rated.source}"
            share, spread = rate / rated.memory_gbps, spread / rated.memory_gbps
            yield Measurement("share_of_rated", share, here, spread=spread, samples=samples, about=about)
    yield Measurement("wrong_values", wrong)
