"""What torch, the driver and the vendor's library report of the memory in use."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Skip, Yield, check


@check(
    "driver.memory_statistics",
    title="Reported memory is the memory in use",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where this source reports the memory in use.",
            title="The memory in use can be read ({source})",
            why="Batch sizes, caches and leaks are found by the memory that is reported.",
            remedy="Update the plug-in; make the vendor's management library available to this user.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "error": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Deviation of the reported rise from what was allocated, or of what is reported after it was freed from "
                "what was before, relative to what was allocated; the best of `tries`."
            ),
            title="The reported memory is right ({source})",
            why="Servers size their caches by this figure: one that is wrong wastes memory or runs out of it.",
            remedy="Trust the other sources; update the plug-in or the management library.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    typical_s=3.0,
    limit_s=240.0,
    catches=("wrong-figure",),
    least={"mib": 32, "tries": 1},
)
def memory_statistics(accelerator: Accelerator, *, mib: int = 1024, tries: int = 3) -> Iterator[Yield]:
    """Allocates a block of `mib` (of a quarter of the free memory at most) and compares what is reported with it.

    Asked are torch's allocator, the driver (free and total memory) and the vendor's management library, each before, during
    and after.

    Labels: `source` (torch, driver, vendor).
    """
    from readiness.probes.driver import memory_figures

    if accelerator.device.type == "cpu":
        raise Skip("the host's memory is shared with every process: nothing could be concluded from it")
    reading = accelerator.memory()
    size_bytes = mib * memory_figures.MIB
    if reading is not None:
        size_bytes = min(size_bytes, reading[0] // 4)
    for found in memory_figures.compare(accelerator, size_bytes, tries):
        yield Row({"source": found.source, "allocated": found.allocated_bytes, "rise": found.rise_bytes,
                   "left": found.left_bytes, "refused": found.refusal})  # fmt: skip
        labels = {"source": found.source}
        yield Measurement("supported", int(found.error is not None), labels, about=found.refusal)
        if found.error is not None:
            yield Measurement("error", found.error, labels, samples=found.allocated_bytes)
