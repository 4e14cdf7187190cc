"""Speed of matrix products in every number format, at the shape that suits the device best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


def vet(settings: Mapping[str, Any]) -> None:
    """Raises UsageError where a profile names a format that is none."""
    from readiness.probes.throughput import format_names

    format_names.refuse_unknown(settings.get("formats", ()))


@check(
    "throughput.formats",
    title="Fastest matrix product in each number format",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the device multiplies matrices in this format.",
            title="Matrix products exist in {dtype}",
            why="A format that the device lacks halves what it was bought for.",
            remedy="Plan with a format that the device has, or update the stack.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning=(
                "Median rate of the fastest product that was found, in 10^12 operations a second, of whole numbers too; its "
                "spread is what another run may differ by."
            ),
            title="Products are fast enough in {dtype}",
            why="It is the most that any model can get.",
            remedy="Use faster chips, or plan with more of them.",
            action=Action.ADD_HARDWARE,
        ),
        "best_tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning="Rate of the shortest sample of the same product.",
            why="What lies between median and best is lost to something that comes and goes.",
            remedy="Look at clocks and power limits, and for what else uses the device.",
            action=Action.CHECK_CONFIG,
        ),
        "share_of_rated": Measure(
            "1", better=Better.HIGHER,
            meaning="Median rate over the one that this model of device is sold with; nothing where none is on record.",
            title="Products at their best meet their rating in {dtype}",
            why="A chip that gives a fraction of what it was bought for, at its best shape, costs as many times more.",
            remedy="Compare clocks, power limit and temperature with a neighbour's; update the stack; ask the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    typical_s=4.0,
    limit_s=180.0,
    alone=True,
    vet=vet,
    least={"budget_s": 0.001, "largest": 16, "host_largest": 16},
)
def fastest(
    accelerator: Accelerator,
    *,
    formats: tuple[str, ...] = (
        "float64", "float32", "tfloat32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_block_scaled",
        "int8",
    ),
    budget_s: float = 0.6,
    largest: int = 20480,
    host_largest: int = 512,
) -> Iterator[Yield]:  # fmt: skip
    """Searches the shape at which products are fastest, in each number format, and times it.

    A rating is reached at some shapes and missed at others: here the device may choose. Squares double until one takes a
    twentieth of `budget_s`; then rows, columns and terms change one by one while that helps. Random matrices, of which as
    many take turns as no cache holds; results are read. 8-bit floats with one scale for each matrix, or
    (`float8_block_scaled`) one for every 128 values of a row and every 128 x 128 of the other matrix, sums in bfloat16;
    8-bit integers with sums of 32 bits. `tfloat32` is float32 in TF32, `float32` with all digits.

    Labels: `dtype`.
    """
    from readiness.numerics.unsupported import describe, is_out_of_memory, is_unsupported
    from readiness.probes.throughput import formats as probe
    from readiness.probes.throughput.format_names import rated_as
    from readiness.probes.throughput.timing import MOST_WAITED, on_host, settle

    rated = accelerator.rated()
    for name in formats:
        here = {"dtype": name}
        if name == "tfloat32" and accelerator.device.type != "cuda":
            yield Row({**here, "not_measured": "TF32 is a format of torch's CUDA devices"})
            continue
        settled = settle(accelerator)
        try:
            best = probe.measure(
                accelerator, name, budget_s=budget_s, largest=host_largest if on_host(accelerator) else largest
            )
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as problem:
            yield Row({**here, "refused" if is_unsupported(problem) else "error": describe(problem)})
            if not is_out_of_memory(problem):  # another moment may do
                yield Measurement("supported", 0, here, about=describe(problem))
            continue
        yield Measurement("supported", 1, here)
        timing, shape = best.timing, " x ".join(map(str, best.shape))
        yield Row({**here, "shape": shape, "tried": best.tried, "seconds": timing.median, "fastest": timing.best,
                   "slowest": max(timing.seconds), "samples": len(timing.seconds), "checksum": best.checksum,
                   "clock": timing.clock, "waited": timing.waited, **settled.cells(), **timing.unsteady()})  # fmt: skip
        if on_host(accelerator) and not timing.waited <= MOST_WAITED:
            yield Row({**here, "tflops": "not known: other work keeps the host busy, or nobody knows"})
            continue
        rate, samples = timing.rate(best.operations) / 1e12, len(timing.seconds)
        yield Measurement("tflops", rate, here, spread=timing.spread(best.operations) / 1e12, samples=samples)
        yield Measurement("best_tflops", best.operations / timing.best / 1e12, here, samples=samples)
        if rated is not None and (peak := rated.rate(rated_as(name))) is not None:
            about = f"{rate:.4g} of {peak:.4g} TFLOP/s at {shape}; rated: {rated.source}"
            spread = timing.spread(best.operations) / 1e12 / peak
            yield Measurement("share_of_rated", rate / peak, here, spread=spread, samples=samples, about=about)
