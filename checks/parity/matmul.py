"""Matrix products against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Cost, Yield, check


@check(
    "parity.matmul",
    title="Matrix products agree with float64",
    measures={"supported": "1", "bound_ratio": "1", "relative_error": "1"},
    cost=Cost.SECONDS,
    typical_s=0.6,
    catches=(
        "low-precision", "wrong-result", "nan", "dtype-unsupported", "ignore-strides", "narrow-sums", "one-element",
        "rounded-result", "wrong-tail",
    ),
)  # fmt: skip
def matmul(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[Yield]:
    """How far is a matrix product from the float64 one on the host?

    Nearly all the work of a model is matrix products, and a matrix unit that rounds wrongly, accumulates in too few
    bits or quietly computes float32 as TF32 trains a wrong model without any error. TF32 and its like are switched off
    where the stack has a switch. Shapes include sums of 4096 and 16387 terms, sizes that are no multiple of 16, and
    transposed, sliced and batched inputs.

    Labels: `dtype`, `op` (matmul, linear; scaled_mm for 8-bit floats). `supported` is the share of the cases that the
    device computes at all. `bound_ratio` is the worst element's error beyond the rounding of the result, in units of
    sqrt(K) u (|A||B|), u the roundoff of a float32 accumulator. `relative_error` is the worst case's root mean square
    deviation over that of the reference: it sees a common factor, which the other forgives.
    """
    from readiness.numerics.strict_precision import strict_precision
    from readiness.probes.parity.matmul_cases import product_cases
    from readiness.probes.parity.reference_cases import dtype_named, survey

    with strict_precision():
        for name in dtypes:
            cases = product_cases(dtype_named(name), accelerator.generator("matmul", name))
            yield from survey(accelerator, cases, dtype=name)
