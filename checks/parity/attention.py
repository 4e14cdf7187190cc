"""Attention against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Cost, Yield, check


@check(
    "parity.attention",
    title="Scaled dot product attention agrees with float64, forward and backward",
    measures={"supported": "1", "bound_ratio": "1", "relative_error": "1", "masked_row_violations": "elements"},
    cost=Cost.SECONDS,
    typical_s=1.0,
    catches=("wrong-result", "wrong-gradient", "nan", "dtype-unsupported"),
)
def attention(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[Yield]:
    """How far is attention from float64, and how far are its gradients?

    Fused attention is the most intricate kernel of a stack, with one code path for each mask, width of heads and
    grouping; a path that ignores the mask lets a model see the future and looks like excellent training. Causal, boolean
    and additive masks, grouped heads, odd lengths, one query over many keys, values narrower than keys.

    Labels: `dtype`, `op` (attention), `phase` (forward, backward). `supported` is the share of results that the device
    computes at all. `bound_ratio` is the worst element's error beyond the rounding of the result, in units of what
    float32 accumulators and probabilities rounded to the dtype may cost that element. `relative_error` is the worst
    case's root mean square deviation over that of the reference. `masked_row_violations` (label `dtype`): elements of the
    result for queries that may see no key that are not 0, and gradients that are no number because of them.
    """
    from readiness.numerics.strict_precision import strict_precision
    from readiness.probes.parity.attention_cases import attention_cases, masked_row_violations
    from readiness.probes.parity.reference_cases import dtype_named, survey

    with strict_precision():
        for name in dtypes:
            dtype, generator = dtype_named(name), accelerator.generator("attention", name)
            yield from survey(accelerator, attention_cases(dtype, generator), phases=True, dtype=name)
            yield from masked_row_violations(accelerator, dtype, generator)
