"""The device's life: opened, used, closed, again and again."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Note, Row, Yield, check


@check(
    "driver.lifecycle",
    title="The device opens and closes repeatedly and nothing piles up",
    measures={
        "failed_opens": Measure(
            "1", better=Better.LOWER,
            meaning="Processes that could not open the device, use it, get the right result and leave.",
            title="The device opens every time",
            why=(
                "Every job, every restart and every worker opens the device; one that does not open every time stops jobs "
                "at random."
            ),
            remedy="Look at the kernel's log for the driver's messages; reset the device, then replace the driver.",
            action=Action.RESET_DEVICE,
        ),
        "memory_growth_bytes": Measure(
            "bytes per cycle", better=Better.LOWER,
            meaning="Median growth of memory a cycle of allocating, calculating and freeing, or a process.",
            why="A stack that loses memory with every cycle ends a service in days and a training run in weeks.",
            remedy="Update the driver and the runtime; until then restart the process before its memory is used up.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "handle_growth": Measure(
            "1", better=Better.LOWER,
            meaning="File descriptors that this process holds more after the cycles than before.",
            title="Opening the device leaks no handles",
            why="Leaked handles end a long-lived process at the maximum of open files.",
            remedy="Update the driver and the runtime.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    typical_s=2.0,
    catches=("leak",),
    limit_s=300.0,
    least={"opens": 1, "fresh_opens": 1, "cycles": 3, "open_timeout_s": 1},
)
def lifecycle(
    accelerator: Accelerator, *, opens: int = 6, fresh_opens: int = 3, cycles: int = 30, open_timeout_s: float = 60.0
) -> Iterator[Yield]:
    """Opens the device in one fresh process after another, and looks for memory and handles that use leaves behind.

    A restart is part of every long training run, and a leak per step ends it after days. `opens` processes are tried
    where one that has imported torch can be forked, `fresh_opens` new interpreters elsewhere; two that run out of time
    are enough.

    Labels: `over` (cycles of allocating, calculating and freeing within one process, `cycles` of them; processes as they
    come), `memory` (of the device, of the host; where the host's memory is the device's, both are what this process
    keeps resident).
    """
    from readiness.probes.driver import lifecycle as life

    openings: list[life.Opening] = []
    for number in range(opens if accelerator.stack.fork_safe else fresh_opens):
        openings.append(life.open_once(accelerator, open_timeout_s))
        yield Row({"opened": number, "seconds": round(openings[-1].seconds, 3), "failure": openings[-1].failure})
        if sum(opening.timed_out for opening in openings) == 2:
            break
    failed = sum(opening.failure is not None for opening in openings)
    if openings:
        yield Measurement("failed_opens", failed, samples=len(openings))
    came = [opening.used_bytes for opening in openings if opening.used_bytes is not None]
    if (growth := life.growth_per_step(came)) is not None:
        labels = {"memory": "device", "over": "processes"}
        yield Measurement("memory_growth_bytes", growth, labels, samples=len(came))
    if openings and failed == len(openings):
        return  # what no process can do is not tried in this one
    yield Note("allocating and freeing")
    for _ in range(5):  # until caches and pools have their size
        life.use(accelerator)
    handles = life.handles()
    device: list[int] = []
    host: list[int] = []
    for _ in range(cycles):
        life.use(accelerator)
        life.trim_heap()
        host.append(life.own_bytes())
        used = host[-1] if accelerator.device.type == "cpu" else life.used_bytes(accelerator)
        device += [] if used is None else [used]
    for memory, readings in (("host", host), ("device", device)):
        if (growth := life.growth_per_step(readings)) is not None:
            yield Measurement("memory_growth_bytes", growth, {"memory": memory, "over": "cycles"}, samples=len(readings))
    after = life.handles()
    if handles is not None and after is not None:
        yield Measurement("handle_growth", after - handles, samples=cycles)
