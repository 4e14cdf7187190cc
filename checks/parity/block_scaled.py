"""Linear layers in 8-bit floats with a scale for each block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Better, Cost, Measure, Yield, check


@check(
    "parity.block_scaled",
    title="Block-scaled FP8 products agree with float64",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the cases that the device computes at all.",
        ),
        "bound_ratio": Measure(
            "1", better=Better.LOWER,
            meaning="Worst element's error in units of what rounding 128 terms in float32 may cost.",
        ),
        "relative_error": Measure(
            "1", better=Better.LOWER,
            meaning="Worst case's root mean square error over that of the product of the very same 8-bit values in float64.",
        ),
    },
    cost=Cost.SECONDS,
    typical_s=1.0,
)
def block_scaled(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float8_e4m3fn",)) -> Iterator[Yield]:
    """Can the device train and serve a linear layer in FP8 as DeepSeek-V3 does, with a scale for each block of 128?

    Forward, the input's gradient and the weight's are products of values in 8 bits with a scale for each 128 of a row or
    each block of 128 x 128, whose sums must be carried in float32: a unit that keeps fewer bits loses a few per cent over
    long sums. Labels: `dtype`; `op`: block_scaled_mm (one call), promoted_mm (128 terms in the unit, then added up in
    float32 outside), dequantised_mm (8 bits kept, bfloat16 multiplied), cast (every code, and rounding to the nearest),
    move (copies, views, slices, joins: in 8 bits many devices lack them).

    `supported` is the share of the cases that the device computes at all; `bound_ratio` the worst element's error in units
    of what rounding 128 terms in float32 may cost; `relative_error` the worst case's root mean square error over that of
    the reference, which is the product of the very same 8-bit values in float64.
    """
    from readiness import strict_precision
    from readiness.probes.parity import block_scaled as scaled
    from readiness.probes.parity.reference_cases import dtype_named, survey

    with strict_precision():
        for name in dtypes:
            dtype = dtype_named(name)
            generator = accelerator.generator("block_scaled", name)
            yield from survey(accelerator, scaled.conversions(dtype, generator), dtype=name)
            yield from survey(accelerator, scaled.cases(dtype, generator), dtype=name)
