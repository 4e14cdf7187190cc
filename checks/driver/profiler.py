"""Times of the device: the profiler and events."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "driver.profiler",
    title="Profiler and events report the time that the device takes",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where this source reports times of the device.",
            title="Times of the device can be measured ({source})",
            why="Without them nobody finds out which operator makes a step slow.",
            remedy="Use the vendor's own profiler; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "time_ratio": Measure(
            "1",
            meaning="Reported time of the device over the host's, of work that keeps the device busy; nearly 1.",
            title="Reported times of the device are right ({source})",
            why="Work is tuned by these times: wrong ones send engineers after the wrong operator.",
            remedy="Use the vendor's own profiler; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "missing_calls": Measure(
            "1", better=Better.LOWER,
            meaning="Calls of the work that the profiler does not report.",
            title="The profiler reports every call",
            why="What a profile leaves out is looked for elsewhere.",
            remedy="Use the vendor's own profiler; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    typical_s=0.3,
    limit_s=120.0,
    catches=("wrong-figure",),
    least={"size": 16, "busy_s": 0.001},
)
def profiler(accelerator: Accelerator, *, size: int = 512, busy_s: float = 0.05) -> Iterator[Yield]:
    """Times matrix products with torch.profiler and with two events, and compares both with the host's clock.

    As many products of `size` as keep the device busy for `busy_s`. On the CPU the profiler's times are the host's own,
    and there are no events.

    Labels: `source` (profiler, events).
    """
    from readiness.probes.driver import timing

    work = timing.Work(accelerator, size, busy_s)
    found = [timing.by_profiler(accelerator, work)]
    if accelerator.stack.asynchronous:
        found.append(timing.by_events(accelerator, work))
    for one in found:
        labels = {"source": one.source}
        yield Row({**labels, "device_s": one.device_s, "host_s": one.host_s, "calls": one.calls, "made": one.made or None,
                   "refused": one.refusal})  # fmt: skip
        yield Measurement("supported", int(one.device_s is not None), labels, about=one.refusal)
        if one.device_s is None:
            continue
        yield Measurement("time_ratio", one.device_s / one.host_s, labels, samples=work.calls)
        if one.calls is not None:
            yield Measurement("missing_calls", max(one.made - one.calls, 0), labels, samples=one.made)
