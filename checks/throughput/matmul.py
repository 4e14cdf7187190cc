"""Speed of matrix products."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "throughput.matmul",
    title="Speed of matrix products",
    measures={
        "tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning="Median rate of a product of square matrices; its spread is the distance between the quartiles.",
            title="Matrix products are fast enough for the model",
            why="Most of a transformer's time goes into matrix products.",
            remedy="Use faster chips, or plan with more of them.",
            action=Action.ADD_HARDWARE,
        ),
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where the device refuses the dtype.",
            why="Nearly all the work of a model is matrix products.",
            remedy="Use a device and a stack that multiply in {dtype}.",
            action=Action.REPLACE,
        ),
    },
    typical_s=2.5,
    alone=True,
    least={"budget_s": 0.001, "largest": 1},
)
def matmul(
    accelerator: Accelerator,
    *,
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
    budget_s: float = 0.6,
    largest: int = 8192,
) -> Iterator[Yield]:
    """Times products of square matrices.

    Most of a transformer's time is spent here. The size doubles from 256 until one product takes a twentieth of
    `budget_s`, or `largest` is reached; random matrices, each product the input of the next, so that none can be left
    out.

    Labels: `dtype`.
    """
    import torch

    from readiness.probes.throughput.gemm import product_chain
    from readiness.probes.throughput.timing import once, repeat

    for name in dtypes:
        size, chain = 256, None
        try:
            while True:
                chain = product_chain(accelerator, getattr(torch, name), size)
                chain.step()
                if 2 * size > largest or once(chain.step, accelerator.synchronize) > budget_s / 20:
                    break
                size *= 2
            timing = repeat(chain.step, accelerator.synchronize, budget_s=budget_s)
            checksum = chain.checksum()
        except (RuntimeError, NotImplementedError, TypeError) as problem:
            yield Measurement("supported", 0, {"dtype": name})
            yield Row({"dtype": name, "size": size, "refused": f"{type(problem).__name__}: {problem}"})
            continue
        yield Measurement("supported", 1, {"dtype": name})
        yield Row({"dtype": name, "size": size, "seconds": timing.median, "fastest": min(timing.seconds),
                   "slowest": max(timing.seconds), "checksum": checksum,
                   "precision": torch.get_float32_matmul_precision()})  # fmt: skip
        work = 2.0 * size**3
        yield Measurement(
            "tflops", timing.rate(work) / 1e12, {"dtype": name},
            spread=timing.spread(work) / 1e12, samples=len(timing.seconds),
        )  # fmt: skip
