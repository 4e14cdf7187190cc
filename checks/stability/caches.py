"""Memory that a process keeps for each new length and each new number."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Yield, check


@check(
    "stability.caches",
    title="New lengths and new numbers keep no memory",
    measures={
        "kept_bytes": Measure(
            "bytes", better=Better.LOWER,
            meaning=(
                "Memory that each new value keeps, with all operations that are called with it: the median slope over the "
                "second half of the values."
            ),
            title="New {over} keep no {memory} memory",
            why=(
                "A cache that grows with every length of a text, or with every learning rate, ends a service in days and a "
                "training run in weeks."
            ),
            remedy="Pad lengths to a few values and pass numbers as tensors; look for a bound of the cache.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=2.0,
    catches=("leak",),
    least={"values": 100},
)
def caches(accelerator: Accelerator, *, values: int = 200) -> Iterator[Yield]:
    """Calls what language models call with `values` lengths that were not seen before, then with as many new numbers.

    Stacks compile, choose or plan for each shape, and some for each number that is an argument, and keep what they made.
    Tests repeat one shape and never see it; a server gets texts of every length.

    Labels: `over` (lengths or numbers), `memory` (host or device).
    """
    from readiness.probes.stability import cache_growth

    draw = accelerator.generator("caches")
    for over, chosen, calls in (
        ("lengths", cache_growth.lengths(values, draw), cache_growth.with_length),
        ("numbers", cache_growth.numbers(values, draw), cache_growth.with_number),
    ):
        for one in cache_growth.measure_growth(accelerator, chosen, calls):
            about = f"{one.bytes_per_value:.0f} bytes for each of {one.values} new {over}"
            yield Measurement(
                "kept_bytes", max(one.bytes_per_value, 0.0), {"over": over, "memory": one.memory}, samples=one.values,
                about=about,
            )  # fmt: skip
