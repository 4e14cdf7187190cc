"""Exchange of tensors with other libraries."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "driver.dlpack",
    title="Tensors are exchanged by DLPack without a copy and unchanged",
    measures={
        "coverage": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the dtypes and layouts that the stack did not refuse to exchange.",
            title="Tensors can be exchanged by DLPack",
            why="Libraries of kernels, of data frames and of graphs take torch's tensors by DLPack.",
            remedy="Copy through the host; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "wrong": Measure(
            "1", better=Better.LOWER,
            meaning="Exchanges after which device, dtype, shape or values differ, or the memory is not shared.",
            title="Tensors arrive unchanged by DLPack",
            why="A library that reads another layout than it was given computes something else without an error.",
            remedy="Make tensors contiguous before they are exchanged, or copy through the host; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    typical_s=0.1,
    catches=("ignore-offset",),
)
def dlpack(
    accelerator: Accelerator,
    *,
    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"),
) -> Iterator[Yield]:
    """Exports tensors by DLPack and takes them in again: contiguous, transposed, with an offset, with a stride.

    Device, dtype, shape and every value must be the same, and both must share their memory: kernels of other libraries get
    tensors this way.
    """
    import torch

    from readiness.probes.driver.dlpack import exchanges

    found = list(exchanges(accelerator, [getattr(torch, name) for name in dtypes]))
    for one in found:
        if one.problems or one.refusal:
            problem = "; ".join(one.problems) or None
            yield Row({"dtype": one.dtype, "layout": one.layout, "problem": problem, "refused": one.refusal})
    done = [one for one in found if one.refusal is None]
    refused = next((one for one in found if one.refusal is not None), None)
    about = None if refused is None else f"{refused.dtype}, {refused.layout}: {refused.refusal}"
    yield Measurement("coverage", len(done) / len(found), samples=len(found), about=about)
    if done:
        wrong = [f"{one.dtype}, {one.layout}" for one in done if one.problems]
        yield Measurement("wrong", len(wrong), samples=len(done), about="; ".join(wrong)[:200] or None)
