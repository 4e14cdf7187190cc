"""Operations that work, and take far too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check


@check(
    "stability.pace",
    title="No core operation is much slower on the device than on the host",
    measures={
        "slowdown": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst operation's time on the device over that on one core of the host, of which half a millisecond is "
                "counted at least; time in which this process stood in line for a processor does not count."
            ),
            title="No operation is unduly slow in {dtype}",
            why=(
                "An operation without its own kernel works, passes every comparison, and slows down the whole "
                "step."
            ),
            remedy="Update the stack; until then avoid the operation that is named, or its layout.",
            action=Action.CONTACT_VENDOR,
        ),
        "fallbacks": Measure(
            "1", better=Better.LOWER,
            meaning="Operations that the stack itself says it runs on the host.",
            title="No timed operation runs on the host in {dtype}",
            why="An operation that runs on the host drags its data across the bus twice with every call.",
            remedy="Update the stack; until then avoid the operation that is named.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the operations that the device has.",
            why="An operation that the device lacks has no time to compare.",
            remedy="Update the stack; look the operation up in operators.sweep.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=7.0,
    limit_s=300.0,
    catches=("slow", "cpu-fallback"),
    least={"repeats": 1},
)
def pace(
    accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16"), repeats: int = 30
) -> Iterator[Yield]:
    """Times each core operation on the device and on one core of the host, and looks for one that is absurdly slow.

    An operation without a good kernel works, passes every comparison, and makes a training step ten times as long. Each
    runs at a size of some milliseconds on a CPU core, dense and transposed, forward and backward, in turn on the device
    and on the host; the least time of three counts, of up to `repeats` while the device looks slow. On the CPU itself
    the two are the same, and the ratio is about 1.

    Labels: `dtype`.
    """
    from readiness.probes.parity.reference_cases import dtype_named
    from readiness.probes.stability.cpu_relative_latency import latencies

    for name in dtypes:
        found = list(latencies(accelerator, dtype_named(name), repeats=repeats))
        timed = [item for item in found if item.refusal is None]
        refused = [f"{item.case}: {item.refusal}" for item in found if item.refusal is not None]
        yield Measurement("supported", len(timed) / len(found), {"dtype": name}, about=next(iter(refused), None))
        fallen = [f"{item.case}: {item.fallback}"[:300] for item in timed if item.fallback is not None]
        yield Row({"dtype": name, "refused": refused, "on the host": fallen})
        for item in sorted(timed, key=lambda item: -item.slowdown)[:10]:
            yield Row({"operation": item.case, "device_s": item.device_s, "host_s": item.host_s})
        if timed:
            slowest = max(timed, key=lambda item: item.slowdown)
            yield Measurement("fallbacks", len(fallen), {"dtype": name}, about=next(iter(fallen), None))
            yield Measurement("slowdown", slowest.slowdown, {"dtype": name}, samples=len(timed), about=slowest.describe())
