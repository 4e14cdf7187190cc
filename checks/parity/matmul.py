"""Matrix products against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Yield, check


@check(
    "parity.matmul",
    title="Matrix products agree with float64",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the cases that the device computes at all.",
            title="Matrix products are supported in {dtype}",
            why="Nearly all the work of a model is matrix products.",
            remedy="Use a device and a stack that multiply in {dtype}.",
            action=Action.REPLACE,
        ),
        "bound_ratio": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst element's error beyond the rounding of the result, in units of sqrt(K) u (|A||B|), u the roundoff "
                "of a float32 accumulator."
            ),
            title="Matrix products are right in {dtype}",
            why="A matrix unit that keeps fewer bits than promised trains a wrong model without any error.",
            remedy=(
                "Switch reduced-precision modes off (TF32, HF32, reduced accumulation); if it stays, report the rows to "
                "the vendor."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "relative_error": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst case's root mean square deviation over that of the reference: it sees a common factor, which "
                "bound_ratio forgives."
            ),
            title="Matrix products keep their scale in {dtype}",
            why="A product that is off by a common factor stays within every bound on single elements.",
            remedy=(
                "Switch reduced-precision modes off (TF32, HF32, reduced accumulation); if it stays, report the rows to "
                "the vendor."
            ),
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=0.6,
    catches=(
        "low-precision", "wrong-result", "nan", "dtype-unsupported", "ignore-strides", "narrow-sums", "one-element",
        "rounded-result", "wrong-tail",
    ),
)  # fmt: skip
def matmul(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[Yield]:
    """Compares matrix products on the device with float64 products on the host.

    Nearly all the work of a model is matrix products, and a matrix unit that rounds wrongly, accumulates in too few bits
    or quietly computes float32 as TF32 trains a wrong model without any error. TF32 and its like are switched off where
    the stack has a switch. Shapes include sums of 4096 and 16387 terms, sizes that are no multiple of 16, and
    transposed, sliced and batched inputs.

    Labels: `dtype`, `op` (matmul, linear; scaled_mm for 8-bit floats).
    """
    from readiness import strict_precision
    from readiness.probes.parity.matmul_cases import product_cases
    from readiness.probes.parity.reference_cases import dtype_named, run_cases

    with strict_precision():
        for name in dtypes:
            cases = product_cases(dtype_named(name), accelerator.generator("matmul", name))
            yield from run_cases(accelerator, cases, dtype=name)
