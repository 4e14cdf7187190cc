"""The device's allocator: time of requests, what becomes of fragments, how much can be had of what was bought."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Skip, Yield, check


@check(
    "throughput.allocator",
    title="Requests of memory are quick, fragments can be used, and all of the memory can be had",
    measures={
        "request_us": Measure(
            "us", better=Better.LOWER,
            meaning="Median time of a request with its release: from the device, or of memory that the stack has kept.",
            title="Requests of memory are quick ({source})",
            why="Every operator asks for the memory of its result: where nothing is kept each request waits for the device.",
            remedy="Look whether the stack's caching allocator is switched off; update the stack.",
            action=Action.CHECK_CONFIG,
        ),
        "returned_share": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "After blocks of random sizes were allocated and every other one released, the share of what was released "
                "that the device has again once the stack gives back what it keeps."
            ),
            title="Memory that is released in pieces can be used again",
            why="Training of changing lengths ends out of memory although half of it is free.",
            remedy="Use the stack's expandable segments, or equal lengths.",
            action=Action.CHECK_CONFIG,
        ),
        "allocatable_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Memory that can be allocated at once over `share` of what was sold with the device, or is reported.",
            title="All memory can be allocated, of what is {of}",
            why="What a stack keeps for itself no model can use.",
            remedy="Look for processes, contexts and reservations on the device; ask the vendor what the stack keeps.",
            action=Action.CHECK_CONFIG,
        ),
    },
    typical_s=1.0,
    limit_s=120.0,
    alone=True,
    least={"mib": 1, "budget_s": 0.001, "fragments_mib": 1, "share": 0.01},
    most={"share": 1},
)
def allocator(
    accelerator: Accelerator, *, mib: int = 64, fragments_mib: int = 4096, share: float = 0.95, budget_s: float = 0.3
) -> Iterator[Yield]:
    """Times requests of memory, looks what becomes of fragments, and how much can be allocated at once.

    Requests of `mib`, with their release: after the stack has given back all that it keeps, and right after another one.
    Then up to `share` of the free memory at once, since others may need some. For fragments `fragments_mib`, never more than
    half of the free memory, in blocks of 4 KiB to 64 MiB. Nothing is written. On the host only requests are timed: a kernel
    that promises memory it does not have must not be taken at its word.

    Labels: `source` (device, kept), `of` (rated, reported).
    """
    from readiness.probes.throughput import allocator as probe
    from readiness.probes.throughput.timing import MOST_WAITED, on_host, settle

    reading = accelerator.memory()
    size = mib * probe.MIB if reading is None else max(1, min(mib * probe.MIB, reading[0] // 8))
    settled = settle(accelerator)
    requested = probe.requests(accelerator, size, budget_s=budget_s)
    for source, timing in (("device", requested.fresh), ("kept", requested.kept)):
        here = {"source": source}
        yield Row({**here, "bytes": size, "seconds": timing.median, "fastest": timing.best,
                   "slowest": max(timing.seconds), "samples": len(timing.seconds), "waited": timing.waited,
                   **settled.cells()})  # fmt: skip
        if on_host(accelerator) and not timing.waited <= MOST_WAITED:
            yield Row({**here, "request_us": "not known: other work keeps the host busy, or nobody knows"})
            continue
        yield Measurement("request_us", 1e6 * timing.median, here, spread=1e6 * timing.spread_s, samples=len(timing.seconds))
    if accelerator.device.type == "cpu" or reading is None:
        if on_host(accelerator) and not max(requested.fresh.waited, requested.kept.waited) <= MOST_WAITED:
            raise Skip("other work keeps the host busy, or nobody knows, and nothing but pace is measured there")
        return
    accelerator.release()
    rated, total = accelerator.rated(), reading[1]
    got = probe.capacity(accelerator, int(share * reading[0]))
    for of, whole in (("rated", None if rated is None else rated.memory_bytes), ("reported", total)):
        if whole is not None:
            about = f"{got / 2**30:.4g} GiB; {share:.0%} of what is {of} are {share * whole / 2**30:.4g}"
            yield Measurement("allocatable_share", got / (share * whole), {"of": of}, about=about)
    found = probe.fragments(accelerator, min(fragments_mib * probe.MIB, reading[0] // 2))
    if found is not None:
        yield Row({"blocks": found.blocks, "released_bytes": found.freed_bytes, "returned_bytes": found.returned_bytes})
        about = f"{found.returned_bytes / probe.MIB:.4g} of {found.freed_bytes / probe.MIB:.4g} MiB that were released"
        yield Measurement("returned_share", found.share, samples=found.blocks, about=about)
