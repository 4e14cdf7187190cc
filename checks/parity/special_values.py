"""Arithmetic with one right answer: subnormals, NaN, infinity, rounding, integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check

_DTYPES = ("float32", "bfloat16", "float16", "int32", "int64")


@check(
    "parity.special_values",
    title="Subnormals, NaN, infinity, rounding and integers behave as they must",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the features that the device could compute at all.",
            why="What cannot be computed cannot be relied on in a mask, an index or a loss scale.",
            remedy="The rows name the feature; update the stack.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "violations": Measure(
            "features", better=Better.LOWER,
            meaning=(
                "Features with a wrong answer, which the rows name; 0 is reported only where all were computed. Products of "
                "matrices may flush subnormals by design, in bfloat16 those of processors among them: only a profile that "
                "`readiness trace` makes of a model trained in float16 judges them (kind=subnormal matmul), since small "
                "gradients live there."
            ),
            why=(
                "Each of these questions has one right answer: a wrong one defeats loss scaling, breaks indices or hides "
                "NaN."
            ),
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=0.3,
    catches=("flush-denormals", "saturate"),
)
def special_values(accelerator: Accelerator, *, dtypes: Sequence[str] = _DTYPES) -> Iterator[Yield]:
    """Computes what has exactly one right answer: subnormals, NaN, infinity, rounding and integers.

    A maximum that drops NaN lets a broken run go on; an overflow that saturates instead of becoming infinite defeats
    loss scaling; an int64 kept in 32 bits breaks indices; flushed subnormals and TF32 cost digits. These questions need
    no tolerance and take milliseconds.

    Labels: `dtype`, `kind` (subnormal, subnormal matmul, propagation, overflow, precision, rounding, integer).
    """
    from readiness import numerics, strict_precision, unsupported_as_reason
    from readiness.probes.parity.reference_cases import dtype_named
    from readiness.probes.parity.special_values import features

    with strict_precision():
        for name in dtypes:
            right: defaultdict[str, list[bool | None]] = defaultdict(list)
            for feature in features(dtype_named(name, floating=False)):
                answer = None
                with unsupported_as_reason() as refusal:
                    answer = feature.compute(*(tensor.to(accelerator.device) for tensor in feature.inputs)).cpu()
                correct = None if answer is None else numerics.mismatches(answer, feature.answer) == 0
                right[feature.kind].append(correct)
                cells = {"dtype": name, "kind": feature.kind, "feature": feature.name, "correct": correct}
                yield Row(cells | ({"refused": refusal.reason} if answer is None else {}))
            for kind, answers in right.items():
                labels, given = {"dtype": name, "kind": kind}, [item for item in answers if item is not None]
                yield Measurement("supported", len(given) / len(answers), labels, samples=len(answers))
                if False in given or len(given) == len(answers):
                    yield Measurement("violations", given.count(False), labels, samples=len(given))
