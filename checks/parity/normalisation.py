"""Softmax and the norms against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Yield, check


@check(
    "parity.normalisation",
    title="Softmax, layer norm and RMS norm agree with float64, forward and backward",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the results that the device computes at all.",
            title="Softmax and norms are supported in {dtype}",
            why="Softmax and norms stand between all matrix products.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "bound_ratio": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst element's error beyond the rounding of the result, in units of what rounding inside the formula "
                "may cost it."
            ),
            why="Fused norms and softmax cut corners on long rows and large offsets.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "relative_error": Measure(
            "1", better=Better.LOWER,
            meaning="Worst case's root mean square deviation over that of the reference.",
            why="A result that is off by a common factor stays within every bound on single elements.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "masked_row_violations": Measure(
            "elements", better=Better.LOWER,
            meaning=(
                "Elements of rows that are -inf throughout where softmax gives neither NaN nor 0, and elements of the "
                "rows beside them that are NaN."
            ),
            why="Rows that see nothing are padding; a NaN from them spreads through the whole batch.",
            remedy="Give padding rows something to see; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=0.6,
    catches=("wrong-result", "wrong-gradient", "nan", "dtype-unsupported", "ignore-strides"),
)
def normalisation(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[Yield]:
    """Compares softmax, log_softmax, layer_norm and rms_norm and their gradients with float64.

    They stand between all matrix products, and are where fused kernels cut corners: exp without subtracting the row's
    maximum, a variance as a difference of squares, statistics of 16 bits, a backward pass nobody compared. Rows are
    long, far from zero, of very different size, strided, and partly masked with -inf.

    Labels: `dtype`, `op`, `phase`: forward, backward (the gradient of the input), parameters (the gradients of weight
    and bias, sums over all rows: a stack that adds them up in bfloat16 shows here).
    """
    from readiness.probes.parity.reference_cases import dtype_named, run_cases
    from readiness.probes.parity.softmax_norm_cases import masked_row_violations, norm_cases, softmax_cases

    for name in dtypes:
        dtype = dtype_named(name)
        generator = accelerator.generator("normalisation", name)
        yield from run_cases(accelerator, softmax_cases(dtype, generator), phases=True, dtype=name)
        yield from run_cases(accelerator, norm_cases(dtype, generator), phases=True, dtype=name)
        yield from masked_row_violations(accelerator, dtype, generator)
