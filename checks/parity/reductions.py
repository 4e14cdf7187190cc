"""Sums and their like against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Yield, check


@check(
    "parity.reductions",
    title="Sums, means, variances and maxima agree with float64",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the cases that the device computes at all.",
            title="Sums and other reductions are supported in {dtype}",
            why="Losses, norms and optimizers are reductions.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "bound_ratio": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst element's error beyond the rounding of the result, in units of what a float32 accumulator may lose "
                "(amax may lose nothing: any error is infinite)."
            ),
            title="Sums and other reductions are right in {dtype}",
            why="A sum that loses its small terms, or a maximum that drops NaN, hides that a run goes wrong.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "relative_error": Measure(
            "1", better=Better.LOWER,
            meaning="Worst case's root mean square deviation over that of the reference, without the cancelling case.",
            why="Losses, norms and optimizers are reductions: one that is off by a factor trains another model.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=0.6,
    catches=("low-precision", "wrong-result", "nan", "dtype-unsupported"),
)
def reductions(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[Yield]:
    """Compares long sums, means, variances and maxima with float64.

    Losses, norms and optimizers are reductions over thousands of elements: a sum kept in bfloat16 stops growing after
    256 ones, a variance as a difference of squares loses all its digits on an offset, and a maximum that drops NaN hides
    a run that has gone wrong. Inputs are long, offset, cancelling, strided and reduced over several dimensions.

    Labels: `dtype`, `op` (sum, mean, var, logsumexp, cumsum, amax), `kind` (running for cumsum, else total).
    """
    from readiness.probes.parity.matmul_cases import reduction_cases
    from readiness.probes.parity.reference_cases import dtype_named, run_cases

    for name in dtypes:
        cases = list(reduction_cases(dtype_named(name), accelerator.generator("reductions", name)))
        running = [case for case in cases if case.op == "cumsum"]
        yield from run_cases(accelerator, [case for case in cases if case not in running], dtype=name, kind="total")
        yield from run_cases(accelerator, running, dtype=name, kind="running")
