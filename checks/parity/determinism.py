"""Determinism: the same inputs again and again must give the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check


@check(
    "parity.determinism",
    title="The same computation gives the same bits every time",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the operation could be computed in this dtype and mode.",
            why="What cannot be computed cannot be shown to repeat.",
            remedy="Look the operation up in the rows of operators.sweep; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "distinct_results": Measure(
            "results", better=Better.LOWER,
            meaning=(
                "Different results among the repeats: 1 where all are equal bit for bit, reported only where each "
                "operation of that dtype and mode could be computed."
            ),
            why=(
                "Bits that change by themselves are how a failing chip shows, and a run that cannot be repeated cannot be "
                "debugged."
            ),
            remedy=(
                "Set the stack's switch (CUBLAS_WORKSPACE_CONFIG, HCCL_DETERMINISTIC); if bits still change, run the "
                "vendor's diagnosis and suspect the chip."
            ),
            action=Action.CHECK_CONFIG,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=1.5,
    catches=("nondeterministic",),
    least={"repeats": 2},
)
def determinism(
    accelerator: Accelerator,
    *,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    modes: Sequence[str] = ("deterministic", "default"),
    repeats: int = 10,
) -> Iterator[Yield]:
    """Repeats a computation with other work in between and compares its bits.

    A run that cannot be repeated cannot be debugged, and bits that change by themselves are how failing silicon shows
    long before it gives a NaN. Compared are a matrix product, attention with its gradients, sums, additions to repeated
    places, and two whole training steps with gradients and updated weights. Where torch has a deterministic algorithm it
    must take it; where it says that it has none, it is asked and only warned.

    Labels: `op` (matmul, attention, sum, scatter, training_step), `dtype`, `mode` (deterministic: torch was asked for
    deterministic algorithms; default: it was not).
    """
    from readiness import fingerprint, unsupported_as_reason
    from readiness.probes.parity import determinism as parity_determinism
    from readiness.probes.parity.reference_cases import dtype_named

    for mode in modes:
        for name in dtypes:
            found: list[tuple[dict[str, str], int]] = []
            for op, repeat in parity_determinism.operations(accelerator, dtype_named(name)):
                labels, seen = {"op": op, "dtype": name, "mode": mode}, []
                strict, complaints = False, []
                with unsupported_as_reason() as refusal:
                    strict = mode == "deterministic" and parity_determinism.obeys(repeat)
                    with parity_determinism.deterministic(mode == "deterministic", strict=strict) as complaints:
                        for turn in range(repeats):
                            seen.append(fingerprint(*repeat()))
                            parity_determinism.disturb(accelerator, turn)
                yield Row({**labels, "refused": refusal.reason, "strict": strict, "warnings": complaints,
                           "results": sorted(set(seen))})  # fmt: skip
                yield Measurement("supported", int(refusal.reason is None), labels)
                results = 0 if refusal.reason is not None else len(set(seen))
                if results > 1:  # whatever becomes of the others
                    yield Measurement("distinct_results", results, labels, samples=repeats)
                found.append((labels, results))
            if all(results for _, results in found):
                for labels, results in found:
                    if results == 1:
                        yield Measurement("distinct_results", 1, labels, samples=repeats)
