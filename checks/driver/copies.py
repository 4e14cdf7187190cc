"""Copies between host and device."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check

_DTYPES = (
    "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"
)  # fmt: skip


@check(
    "driver.copies",
    title="Copies between host and device arrive whole",
    measures={
        "wrong_bytes": Measure(
            "bytes", better=Better.LOWER,
            meaning="Bytes that differ over all copies; infinite where shape or dtype are wrong.",
            why="Every batch, weight and token crosses between host and device.",
            remedy="Look for bus errors in the kernel's log; have the device and its slot tested.",
            action=Action.REPLACE,
        ),
        "coverage": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of dtypes, conversions, layouts and directions that the device did not refuse.",
            title="Every dtype can be copied to the device",
            why="A dtype that cannot be moved to the device cannot be used there; float64 is the usual one.",
            remedy="Keep tensors of the dtypes in the rows on the host.",
        ),
    },
    typical_s=0.5,
    catches=("stale-read",),
    least={"rows": 1, "columns": 1, "large": 1},
)
def copies(
    accelerator: Accelerator, *, dtypes: tuple[str, ...] = _DTYPES, rows: int = 67, columns: int = 129, large: int = 1025
) -> Iterator[Yield]:
    """Copies tensors to the device, back and within it, and compares every byte, whatever the layout of either side.

    Drivers copy whole blocks well and views badly: strides and offsets that are ignored, neighbours overwritten, data
    read before a non-blocking copy has ended or after its source was overwritten, equal strides with gaps taken for one
    block, views on both sides, another dtype on the other side, and what was copied is spoilt. Each dtype is copied as
    `rows` x `columns`, float32 also as `large` x `large`; pairs of dtypes are converted on their way, there and back.

    Labels: `memory` (pageable or pinned host memory).
    """
    from readiness.probes.driver.memcpy import copies as copy_all
    from readiness.probes.driver.memcpy import pinning

    refusal = pinning(accelerator)
    if refusal is not None:
        yield Row({"memory": "pinned", "refused": refusal})
    for memory, pinned in (("pageable", False), ("pinned", True)):
        if pinned and refusal is not None:
            continue
        found = list(copy_all(accelerator, dtypes, (rows, columns), pinned=pinned))
        found += copy_all(accelerator, ("float32",), (large, large), pinned=pinned)
        done = [copied for copied in found if copied.refusal is None]
        for copied in found:
            if copied.refusal is not None or copied.wrong:
                what = {"dtype": copied.dtype, "layout": copied.layout, "direction": copied.direction}
                yield Row({"memory": memory, **what, "wrong_bytes": copied.wrong, "refused": copied.refusal})
        refused = next((copied for copied in found if copied.refusal is not None), None)
        about = None
        if refused is not None:
            about = f"{refused.dtype}, {refused.layout}, {refused.direction}: {refused.refusal}"
        yield Measurement("coverage", len(done) / len(found), {"memory": memory}, samples=len(found), about=about)
        if done:
            worst_copy = max(done, key=lambda copied: copied.wrong)
            about = f"{worst_copy.dtype}, {worst_copy.layout}, {worst_copy.direction}" if worst_copy.wrong else None
            wrong = sum(copied.wrong for copied in done)
            yield Measurement("wrong_bytes", wrong, {"memory": memory}, samples=len(done), about=about)
