"""The device's memory: how much there is, whether it keeps what is written, and what happens when it runs out."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Note, Row, Yield, check


@check(
    "driver.memory",
    title="Memory can be filled, keeps its content, and running out of it is survived",
    measures={
        "allocated_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the requested memory that was allocated.",
            title="The memory that is advertised can be allocated",
            why="Memory that is advertised but cannot be allocated ends a job at its largest step.",
            remedy="Free memory that other processes use on the device; if there is none, reset the device.",
            action=Action.RESET_DEVICE,
        ),
        "usable_gib": Measure(
            "GiB", better=Better.HIGHER,
            meaning="Memory that could be allocated; on the host what the kernel reports.",
            why="A model that does not fit into memory can be neither trained nor served.",
            remedy="Use devices with more memory, or shard over more of them.",
            action=Action.ADD_HARDWARE,
        ),
        "wrong_bytes": Measure(
            "bytes", better=Better.LOWER,
            meaning="Bytes that differ when read back, after a refused request too.",
            title="Memory keeps its content",
            why="A byte that reads back differently is a wrong weight, gradient or token.",
            remedy="Take the device out of service and have its memory tested.",
            action=Action.REPLACE,
        ),
        "oom_clean": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where asking for far more than there is raised an error that names memory.",
            title="Running out of memory is an error and no crash",
            why="Batch sizes are found by running out of memory; a stack that dies or hangs there cannot be tuned.",
            remedy="Update the runtime; until then leave much of the memory free.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "oom_recovered": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the device allocated and calculated correctly right after running out of memory.",
            title="Allocation works again after running out of memory",
            why="After an out-of-memory error the next allocation must work, or every such error costs the whole job.",
            remedy="Update the runtime.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=1.0,
    catches=("oom-sticky",),
    limit_s=180.0,
    least={"share": 0.01, "piece_gib": 0.001, "host_gib": 0.001},
    most={"share": 1},
)  # fmt: skip
def memory(
    accelerator: Accelerator, *, share: float = 0.9, piece_gib: float = 1.0, host_gib: float = 0.25
) -> Iterator[Yield]:
    """Fills memory, reads it back, and runs out of it on purpose.

    Training runs at the edge of memory: an allocator that fails early, bits that change, or an out-of-memory error that
    leaves the device unusable end it. `share` of the free memory is filled in pieces; on the host `host_gib` at most.

    Labels: `how` of `usable_gib` (written; reported, on the host, by the kernel).
    """
    from readiness.probes.driver import memory_fill

    reading = accelerator.memory()
    on_host = accelerator.device.type == "cpu"
    target = int(host_gib * memory_fill.GIB) if reading is None else int(share * reading[0])
    if on_host:
        target = min(target, int(host_gib * memory_fill.GIB))
    filled = memory_fill.fill(accelerator, target, int(piece_gib * memory_fill.GIB))
    yield Row({"free": reading and reading[0], "total": reading and reading[1], "asked": target,
               "allocated": filled.allocated_bytes, "refused": filled.refusal})  # fmt: skip
    if reading is not None:
        yield Measurement("allocated_share", min(1.0, filled.allocated_bytes / target), samples=len(filled.pieces))
        if on_host:
            yield Measurement("usable_gib", reading[0] / memory_fill.GIB, {"how": "reported"})
        else:
            yield Measurement("usable_gib", filled.allocated_bytes / memory_fill.GIB, {"how": "written"})
    yield Note("asking for more memory than there is")
    # A kernel that promises memory it does not have must not be taken at its word on the host: there only the absurd.
    sizes = [2**50] if reading is None or on_host else [2 * reading[1], 2**50]
    refusals = [memory_fill.over_allocate(accelerator, size) for size in sizes]
    for refusal in refusals:
        yield Row({"asked": refusal.requested_bytes, "clean": refusal.clean, "answer": refusal.text})
    yield Measurement("oom_clean", int(all(refusal.clean for refusal in refusals)), samples=len(refusals))
    if filled.pieces:
        yield Measurement("wrong_bytes", memory_fill.wrong_bytes(filled), samples=filled.allocated_bytes)
    filled.pieces.clear()
    accelerator.release()
    problem = memory_fill.works(accelerator, min(target, 2**27))
    if problem is not None:
        yield Row({"after running out of memory": problem})
    yield Measurement("oom_recovered", int(problem is None))
