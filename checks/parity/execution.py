"""Ways of running a model other than call by call."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check


@check(
    "parity.execution",
    title="A layer traced, captured or with weights in few bits computes what it should",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the stack has this way of running.",
            why="Models run slower, or need more memory, without it.",
            remedy="Run the model call by call, in bfloat16; update the stack.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "wrong": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Results farther from float64 than `tolerance` or `tolerance_16_bits`, or not exact where they must be, and "
                "decoded tokens that float64 would clearly not have chosen. 0 where the way is refused: nobody is deceived."
            ),
            why="What is compiled, captured or packed runs other kernels than the same model call by call: they must agree.",
            remedy="Run the model call by call, in bfloat16; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "layer_error": Measure(
            "1", better=Better.LOWER,
            meaning="Largest deviation from float64 of a result or a gradient, as a Frobenius norm over the reference's.",
            why="What is compiled, captured or packed runs other kernels than the same model call by call: they must agree.",
            remedy="Run the model call by call, in bfloat16; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=3.0,
    limit_s=300.0,
    catches=("wrong-result", "stale-replay"),
    least={"tolerance": 1e-9, "tolerance_16_bits": 1e-9},
)
def execution(
    accelerator: Accelerator,
    *,
    modes: tuple[str, ...] = ("traced", "graph", "int8-weights", "int4-weights", "int8-products"),
    tolerance: float = 1e-4,
    tolerance_16_bits: float = 0.02,
) -> Iterator[Yield]:
    """Runs a decoder layer in each of the `modes`, compares it with float64, and decodes some tokens.

    `traced`: torch.compile as far as its tracing, forward and backward; `compiled`: with its own compiler, and decoding,
    which takes minutes on slow hosts. `graph`: captured once and replayed with other inputs. `int8-weights` and
    `int4-weights`: products of bfloat16 with weights in 8 bits, and in 4 by groups, of one row and of many;
    `int8-products`: whole numbers summed in 32 bits, which are exact.

    Labels: `mode`.
    """
    from readiness.probes.parity.execution import MODES, run_modes

    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ValueError(f"modes: {unknown[0]!r} is none of {', '.join(MODES)}")
    for mode, found in run_modes(modes, accelerator):
        accelerator.synchronize()
        labels = {"mode": mode}
        yield Measurement("supported", int(found.refusal is None), labels, about=found.refusal)
        if found.refusal is not None:
            yield Row({"mode": mode, "refused": found.refusal})
            yield Measurement("wrong", 0, labels)
            continue
        limit = 0.0 if mode == "int8-products" else tolerance_16_bits if mode.endswith("-weights") else tolerance
        wrong = {name: error for name, error in found.errors.items() if not error <= limit}
        for name, error in wrong.items():
            yield Row({"mode": mode, "result": name, "error": error})
        worst = max(found.errors, key=lambda name: found.errors[name])
        about = f"{', '.join(wrong)}"[:250] if wrong else None
        if found.wrong_tokens:
            about = f"{about}; {found.wrong_tokens} of {found.tokens} tokens" if about else f"{found.wrong_tokens} tokens"
        yield Measurement("wrong", len(wrong) + found.wrong_tokens, labels, samples=len(found.errors), about=about)
        yield Measurement("layer_error", found.errors[worst], labels, samples=len(found.errors), about=worst)
