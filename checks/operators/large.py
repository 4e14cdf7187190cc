"""Operators on tensors of more elements than 32 bits can number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Note, Row, Yield, check


@check(
    "operators.large",
    title="Operators are right on more than 2^31 elements",
    measures={
        "wrong": Measure(
            "1", better=Better.LOWER,
            meaning="Operators that are wrong on tensors of so many elements.",
            title="Tensors beyond 2^31 elements give right results",
            why=(
                "The logits of four sequences have more elements than 32 bits can number: a kernel that does so spoils "
                "them silently."
            ),
            remedy="Split the batch, or compute the loss in chunks, until the operators that the rows name are fixed.",
            action=Action.CONTACT_VENDOR,
        ),
        "missing": Measure(
            "1", better=Better.LOWER,
            meaning="Operators that do not support tensors of so many elements.",
            title="Tensors beyond 2^31 elements are supported",
            why="Kernels that refuse large tensors make the batch smaller than memory would.",
            remedy="Split the batch, or compute the loss in chunks.",
            action=Action.CONTACT_VENDOR,
        ),
        "wrong_elements": Measure(
            "1", better=Better.LOWER,
            meaning="Wrong elements of one operator's result.",
            why=(
                "The logits of four sequences have more elements than 32 bits can number: a kernel that does so spoils "
                "them silently."
            ),
            remedy="Split the batch, or compute the loss in chunks, until the operators that the rows name are fixed.",
            action=Action.CONTACT_VENDOR,
        ),
        "tried": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the operators that were tried: memory and time may not do for all.",
            why="Of what was not tried nothing is known.",
            remedy="Give it more time (budget_s), or a device whose memory holds four such tensors.",
            action=Action.CHECK_CONFIG,
        ),
    },
    cost=Cost.MINUTES,
    typical_s=60.0,
    limit_s=900.0,
    least={"powers": 1},
    most={"powers": 40},
)
def large(
    accelerator: Accelerator, *, powers: Sequence[int] = (31,), budget_s: float = 60.0, only: Sequence[str] = ()
) -> Iterator[Yield]:
    """Runs operators that models use on tensors of more than 2^31 elements.

    The logits of four sequences of Qwen3 have so many, the experts of one layer of DeepSeek-V3 have 7.5 x 10^9; a kernel
    that numbers elements in 32 bits reads and writes elsewhere, without any error. Each operator gets a block that
    repeats, of more than 2 to the `powers`, while memory and `budget_s` allow, and every element of its result is looked
    at: moved values must be equal, computed ones be right to some roundings; gradients of the loss too. It takes two to
    four tensors of 4 GiB each.

    Labels: `elements` ("2^31": more than that); `op` of `wrong_elements`; `extent` of `wrong` and `missing`: "part"
    where memory or time did not do for all operators, which speaks for no whole unless it is bad already.
    """
    from readiness.probes.operators import large_ops as operators

    for power in powers:
        here = {"elements": f"2^{power}"}
        found = []
        for result in operators.try_operators(accelerator, 2**power, budget_s=budget_s, only=tuple(only)):
            found.append(result)
            yield Row(operators.row(result))
            yield Note(f"{result.name} on more than 2^{power} elements is done")
            if result.wrong is not None:
                about = f"{accelerator.id}: {result.name} in {result.dtype}: {result.wrong}" if result.wrong.count else None
                yield Measurement("wrong_elements", result.wrong.count, {**here, "op": result.name}, about=about)
        tried = [result for result in found if not result.untried]
        yield Measurement("tried", len(tried) / len(found), here, samples=len(found))
        for name, bad in (
            ("wrong", [result for result in tried if result.wrong is not None and result.wrong.count]),
            ("missing", [result for result in tried if result.refused]),
        ):
            about = f"{accelerator.id}: {', '.join(f'{result.name} in {result.dtype}' for result in bad)}"[:280]
            whole = "chosen" if only else "all" if bad or len(tried) == len(found) else "part"
            if tried:
                labels = {**here, "extent": whole}
                yield Measurement(name, len(bad), labels, samples=len(tried), about=about if bad else None)
