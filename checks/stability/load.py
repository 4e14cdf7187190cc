"""Sustained load: the same work again and again for as long as it takes a device to grow warm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Note, Yield, check


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
    the load: neither `mismatches` nor `errors` is then reported where it is 0.

    Labels: `dtype`, `phase` (forward, backward); `memory` (host, device).
    """
    from readiness.probes.stability.load import Load
    from readiness.probes.stability.measurements import of_load

    work = Load(accelerator, seconds, rounds)
    yield Note("first results")
    work.prepare(dtypes)
    for text in work.run():
        yield Note(text)
    yield from of_load(work)
