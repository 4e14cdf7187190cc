"""Sustained load: the same work again and again for as long as it takes a device to grow warm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Note, Row, Yield, check


@check(
    "stability.load",
    title="The same work gives the same result, and at the same speed, under sustained load",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the operations that the device has.",
            why="An operation that the device lacks was not put under load.",
            remedy="Update the stack; look the operation up in operators.sweep.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "calls": Measure(
            "1",
            meaning="Calls that were made and compared.",
            why="The more calls were compared, the rarer a fault that would have shown.",
        ),
        "mismatches": Measure(
            "1", better=Better.LOWER,
            meaning="Calls that gave other bits than the first.",
            why="One wrong result in thousands of calls means many in every training step and every hour of serving.",
            remedy=(
                "Repeat on another chip of the same kind: if that one passes, replace this one; if not, report the "
                "operation to the vendor."
            ),
            action=Action.REPLACE,
        ),
        "unrepeatable": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Operations that differed immediately, although deterministic algorithms were requested; they do not count "
                "as mismatches."
            ),
            why="Where equal inputs give different bits immediately, failing silicon cannot be distinguished from noise.",
            remedy="Set the stack's switch for deterministic algorithms; if bits still change, run the vendor's diagnosis.",
            action=Action.CHECK_CONFIG,
        ),
        "first_error": Measure(
            "1", better=Better.LOWER,
            meaning="Worst deviation of a first result from float64, over its root mean square.",
            why="If the first result is wrong, equal later results prove nothing.",
            remedy="Update the stack; do not use the operation that is named in this dtype and layout.",
            action=Action.CONTACT_VENDOR,
        ),
        "errors": Measure(
            "1", better=Better.LOWER,
            meaning="Calls that raised; 20 end the load.",
            why="An operation that raises now and then ends a run of weeks, and an answer, at a random moment.",
            remedy="Look at the kernel's log; update the driver and the runtime, and report the operation that is named.",
            action=Action.CONTACT_VENDOR,
        ),
        "speed_kept": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Over eight intervals, the least of the best speed in one over the best speed before. An interval in which "
                "the process waited for a processor for more than a tenth of the time, or nobody knows, does not count."
            ),
            title="The device keeps its speed under load",
            why="A device that slows down when it grows warm slows every other device of the job with it.",
            remedy="Look at temperatures, power limits and clocks with the vendor's tool; repair the cooling.",
            action=Action.CHECK_CONFIG,
        ),
        "product_ms": Measure(
            "ms", better=Better.LOWER,
            meaning="Time of one matrix product over the whole load: median and 99th percentile.",
            why="It is the pace that the other figures of staying power are about.",
            remedy="Compare with another device of the same kind, and with an earlier run.",
            action=Action.GATHER_EVIDENCE,
        ),
        "jitter": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "99th percentile of the time of one product over the median, where the host left the process alone; nothing "
                "on a busy host."
            ),
            title="The pace is steady under load",
            why="A step waits for the slowest of its products: one in a hundred that is late makes every step late.",
            remedy="Look for power capping, for other work on the device, and for interrupts of its host's cores.",
            action=Action.CHECK_CONFIG,
        ),
        "end_speed_kept": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Median speed in the last tenth of the load over that in the first, less what the host's own products lost; "
                "nothing on a busy host."
            ),
            title="The load ends at the speed at which it began",
            why="A device that is fast for thirty seconds trains nothing.",
            remedy="Look at temperatures, power limits and clocks with the vendor's tool; repair the cooling.",
            action=Action.CHECK_CONFIG,
        ),
        "speed_slope": Measure(
            "1/min", better=Better.HIGHER,
            meaning="Change of the speed in a minute of load as a share of it: the median of the slopes between tenths.",
            why="A speed that still falls at the end of the load is lower after an hour.",
            remedy="Load it for longer (a soak), and look at temperatures meanwhile.",
            action=Action.GATHER_EVIDENCE,
        ),
        "throttled_share": Measure(
            "1", better=Better.LOWER,
            meaning="Share of the readings under load at which heat, power supply or a brake slowed the device down.",
            title="Nothing slows the device down under load",
            why="A device that is throttled within a minute of work is throttled in every training run.",
            remedy="Look at cooling, power supply and power limits.",
            action=Action.CHECK_CONFIG,
        ),
        "hottest_c": Measure(
            "°C", better=Better.LOWER,
            meaning="Highest temperature read during the load.",
            why="Heat is what throttles and ages a device.",
            remedy="Compare with its neighbours; repair the cooling.",
            action=Action.CHECK_CONFIG,
        ),
        "energy_per_round_j": Measure(
            "J", better=Better.LOWER,
            meaning="Mean power during the load times its duration over its rounds, each of which is the same work.",
            why="Energy for the same work is what a machine costs after it was bought.",
            remedy="Compare with another device of the same kind: clocks, power limit, temperature.",
            action=Action.GATHER_EVIDENCE,
        ),
        "memory_growth_bytes": Measure(
            "bytes per 1000 calls", better=Better.LOWER,
            meaning="Median growth of memory over the second half.",
            title="Load leaks no {memory} memory",
            why="A stack that loses memory with every call ends a service in days and a training run in weeks.",
            remedy="Update the driver and the runtime; until then restart the process before its memory is used up.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    cost=Cost.MINUTES,
    typical_s=45.0,
    limit_s=240.0,
    catches=(
        "wrong-result", "wrong-gradient", "nan", "nondeterministic", "bit-flip", "throttle", "leak", "raise", "late-error",
    ),
    least={"seconds": 0.1},
)  # fmt: skip
def load(
    accelerator: Accelerator, *, seconds: float = 40.0, rounds: int = 1500, dtypes: Sequence[str] = ("float32", "bfloat16")
) -> Iterator[Yield]:
    """Runs the operations of language models without a pause, and compares every result bit for bit with the first.

    A fault that strikes once in a thousand calls, or only when the device has grown warm, passes every test of one call
    and ruins a run of weeks. For `seconds`, operations run round robin: each dtype, dense and transposed inputs, forward
    and backward, large products in between; half as long again on a host too busy for `rounds` of them (chips of one
    simulator, which keep each other busy, get four fifths of `seconds` and no more). A host that runs out of memory ends
    the load: neither `mismatches` nor `errors` is then reported where it is 0. Sensors and reasons of throttling are read
    meanwhile; how steady the pace was is told only of what a busy host did not disturb.

    Labels: `dtype`, `phase` (forward, backward); `memory` (host, device); `quantile` of `product_ms` (p50, p99).
    """
    from readiness.probes.stability.load import Load
    from readiness.probes.stability.measurements import of_load
    from readiness.probes.throughput.timing import settle

    if (settled := settle(accelerator)).seconds:
        yield Row({"before": "the load", **settled.cells()})
    work = Load(accelerator, seconds, rounds)
    yield Note("first results")
    work.prepare(dtypes)
    for text in work.run():
        yield Note(text)
    yield from of_load(work)
