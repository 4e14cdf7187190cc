"""The same work again and again for as long as it takes a device to grow warm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Cost, Note, Yield, check


@check(
    "stability.load",
    title="The same work gives the same result, and at the same speed, under sustained load",
    measures={
        "supported": "1", "calls": "1", "mismatches": "1", "unrepeatable": "1", "first_error": "1", "errors": "1",
        "speed_kept": "1", "memory_growth_bytes": "bytes per 1000 calls",
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
    """Does a device that is right at first stay right, and as fast, when it works without a pause?

    A fault that strikes once in a thousand calls, or only when the device has grown warm, passes every test of one call
    and ruins a run of weeks. For `seconds`, the operations of language models run round robin: each dtype, dense and
    transposed inputs, forward and backward, large products in between; half as long again on a host too busy
    for `rounds` of them (chips of one simulator, which keep each other busy, get four fifths of `seconds` and no more).
    Every result is compared bit for bit with the first one.

    Labels: `dtype`, `phase` (forward, backward); `memory` (host, device). `mismatches` counts the calls that gave other
    bits, out of `calls`. `unrepeatable` is how many operations differed at once, though deterministic algorithms were
    asked for: they are not counted as mismatches. `first_error` is the worst deviation of a first result from float64,
    over its root mean square. `errors` counts calls that raised; 20 end the load. A host that runs out of memory ends
    it too, and then neither is told where it is 0. `speed_kept` is the least, over eight spans of time, of the best
    pace in one over the best pace before. `memory_growth_bytes` is the median slope over the second half. `supported`
    is the share of operations that the device has.
    """
    from readiness.probes.stability.load import Load
    from readiness.probes.stability.measurements import of_load

    work = Load(accelerator, seconds, rounds)
    yield Note("first results")
    work.prepare(dtypes)
    for text in work.run():
        yield Note(text)
    yield from of_load(work)
