"""Linear layers in 8-bit floats with a scale for each block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Yield, check


@check(
    "parity.block_scaled",
    title="Block-scaled FP8 products agree with float64",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the cases that the device computes at all.",
            why="Weights are published in FP8 with a scale for each block: without such products memory and time double.",
            remedy="Train and serve in bfloat16 with twice the memory and time.",
            action=Action.ADD_HARDWARE,
        ),
        "bound_ratio": Measure(
            "1", better=Better.LOWER,
            meaning="Worst element's error in units of what rounding 128 terms in float32 may cost.",
            why="A conversion or a product that rounds otherwise reads other weights than were published.",
            remedy="Convert on the host, and report it to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "relative_error": Measure(
            "1", better=Better.LOWER,
            meaning="Worst case's root mean square error over that of the product of the same 8-bit values in float64.",
            why="A unit that keeps too few bits of its sums trains another model: 14 bits over 4096 terms cost up to 2 %.",
            remedy="Add up fewer terms in the unit, or switch fast accumulation off.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=1.0,
)
def block_scaled(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float8_e4m3fn",)) -> Iterator[Yield]:
    """Compares FP8 products with a scale for each block of 128, as DeepSeek-V3 trains and serves, with float64.

    Forward, the input's gradient and the weight's are products of values in 8 bits with a scale for each 128 of a row or
    each block of 128 x 128, whose sums must be carried in float32: a unit that keeps fewer bits loses a few per cent
    over long sums.

    Labels: `dtype`; `op`: block_scaled_mm (one call), promoted_mm (128 terms in the unit, then added up in float32
    outside), dequantised_mm (8 bits kept, bfloat16 multiplied), cast (every code, and rounding to the nearest), move
    (copies, views, slices, joins: in 8 bits many devices lack them).
    """
    from readiness import strict_precision
    from readiness.probes.parity import block_scaled as scaled
    from readiness.probes.parity.reference_cases import dtype_named, run_cases

    with strict_precision():
        for name in dtypes:
            dtype = dtype_named(name)
            generator = accelerator.generator("block_scaled", name)
            yield from run_cases(accelerator, scaled.conversions(dtype, generator), dtype=name)
            yield from run_cases(accelerator, scaled.cases(dtype, generator), dtype=name)
