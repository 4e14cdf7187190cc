"""Attention against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Yield, check


@check(
    "parity.attention",
    title="Scaled dot product attention agrees with float64, forward and backward",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the results that the device computes at all.",
            title="Attention is supported in {dtype}",
            why="Attention is half of what a transformer is.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "bound_ratio": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst element's error beyond the rounding of the result, in units of what float32 accumulators and "
                "probabilities rounded to the dtype may cost it."
            ),
            why="A fused kernel that ignores the mask, the scale or the grouping looks like excellent training.",
            remedy="Use the stack's unfused attention for the shapes in the rows, and report them.",
            action=Action.CONTACT_VENDOR,
        ),
        "relative_error": Measure(
            "1", better=Better.LOWER,
            meaning="Worst case's root mean square deviation over that of the reference.",
            title="Gradients of attention keep their scale in {dtype}",
            why="A gradient that is off by a few per cent everywhere shows only relative to its own size.",
            remedy="Use the stack's unfused attention for the shapes in the rows, and report them.",
            action=Action.CONTACT_VENDOR,
        ),
        "masked_row_violations": Measure(
            "elements", better=Better.LOWER,
            meaning=(
                "Elements for queries that may see no key that are not 0, and gradients that are NaN because of "
                "them."
            ),
            title="Fully masked rows of attention are right in {dtype}",
            why="Queries that may see nothing are padding; a NaN from them spreads through the whole batch.",
            remedy="Give padding rows a key to see, and report it.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=1.0,
    catches=("wrong-result", "wrong-gradient", "nan", "dtype-unsupported"),
)
def attention(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[Yield]:
    """Compares scaled dot product attention and its gradients with float64.

    Fused attention is the most intricate kernel of a stack, with one code path for each mask, width of heads and
    grouping; a path that ignores the mask lets a model see the future and looks like excellent training. Causal, boolean
    and additive masks, grouped heads, odd lengths, one query over many keys, and values narrower than keys are tried.

    Labels: `dtype`, `op` (attention), `phase` (forward, backward).
    """
    from readiness import strict_precision
    from readiness.probes.parity.attention_cases import attention_cases, masked_row_violations
    from readiness.probes.parity.reference_cases import dtype_named, run_cases

    with strict_precision():
        for name in dtypes:
            dtype, generator = dtype_named(name), accelerator.generator("attention", name)
            yield from run_cases(accelerator, attention_cases(dtype, generator), phases=True, dtype=name)
            yield from masked_row_violations(accelerator, dtype, generator)
