"""Latency of starting work on the device."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "throughput.launch",
    title="Latency of starting a kernel",
    measures={
        "launch_us": Measure(
            "us", better=Better.LOWER,
            meaning="Time of each kernel in a full queue of kernels that do next to nothing, its median.",
            title="Kernels follow each other fast enough",
            why="A token takes some hundred kernels: their start bounds how fast an answer is written.",
            remedy="Use graphs or a compiler, which start many kernels at once; update the stack; look at the host's clock.",
            action=Action.CONTACT_VENDOR,
        ),
        "return_us": Measure(
            "us", better=Better.LOWER,
            meaning="Time until the start of a kernel returns to the caller, the device may still be at work; its median.",
            why="It is what a training loop in Python spends on each operator.",
            remedy="Use graphs or a compiler; look at the host's clock.",
            action=Action.CONTACT_VENDOR,
        ),
        "round_trip_us": Measure(
            "us", better=Better.LOWER,
            meaning="Time of a kernel that does next to nothing and of the wait for its end: median and 99th percentile.",
            title="A kernel and the wait for it are short ({quantile})",
            why="Each token is waited for before the next can begin.",
            remedy="Look at the host's power saving and interrupts, and at the slot.",
            action=Action.CHECK_CONFIG,
        ),
        "lost_calls": Measure(
            "1", better=Better.LOWER,
            meaning="Calls that the kernels' own count differs by: what was not run is fast.",
            title="Every kernel that was started ran once",
            why="A kernel that is skipped or run twice makes all that follows wrong.",
            remedy="Report it to the vendor: nothing on this device can be believed.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    typical_s=0.5,
    alone=True,
    least={"budget_s": 0.001},
)  # fmt: skip
def launch(accelerator: Accelerator, *, budget_s: float = 0.3) -> Iterator[Yield]:
    """Times an addition of one element: two hundred in a row, and each by itself with a wait for its end.

    Where calls are small, as in decoding, the device waits for the next start. The element counts the calls, so that a
    kernel that did not run is seen.

    Labels: `quantile` (p50, p99) of `round_trip_us`.
    """
    from readiness.probes.throughput import launches
    from readiness.probes.throughput.timing import MOST_WAITED, on_host, settle

    settled = settle(accelerator)
    found = launches.measure(accelerator, budget_s=budget_s)
    yield Row({"queued": len(found.queued.seconds), "single": len(found.round_trip.seconds), **settled.cells(),
               "waited": found.queued.waited})  # fmt: skip
    yield Measurement("lost_calls", found.lost)
    waited = max(found.queued.waited, found.round_trip.waited)
    if on_host(accelerator) and not waited <= MOST_WAITED:
        yield Row({"launch_us": "not known: other work keeps the host busy, or nobody knows", "waited": waited})
        return
    for name, timing in (("launch_us", found.queued), ("return_us", found.returned)):
        yield Measurement(name, 1e6 * timing.median, spread=1e6 * timing.spread_s, samples=len(timing.seconds))
    for quantile, share in (("p50", 0.5), ("p99", 0.99)):
        trip = found.round_trip
        yield Measurement("round_trip_us", 1e6 * trip.quantile(share), {"quantile": quantile}, samples=len(trip.seconds))
