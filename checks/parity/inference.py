"""A small transformer's logits and greedy decoding against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check


@check(
    "parity.inference",
    title="A small transformer decodes as it does in float64, with and without a cache",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the transformer decodes at all.",
            title="Decoding works in {dtype}",
            why="Decoding runs other kernels than training.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "logit_error": Measure(
            "1", better=Better.LOWER,
            meaning="Largest deviation of any logit, in one pass without cache, over the root mean square of all logits.",
            title="Logits of decoding are right in {dtype}",
            why="Logits that drift change what is sampled.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "cache_difference": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Largest deviation between decoding with the cache and one pass without, over the root mean square of all "
                "logits."
            ),
            title="The key-value cache changes no logits in {dtype}",
            why="A stale or misplaced cache entry yields fluent but wrong text.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "token_disagreements": Measure(
            "tokens", better=Better.LOWER,
            meaning=(
                "Decoded tokens that float64, given the same text so far, would clearly not have chosen: by more than 64 "
                "roundoffs."
            ),
            title="Decoding chooses the right tokens in {dtype}",
            why="Tokens that float64 would clearly not have chosen are wrong answers.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=0.6,
    catches=("wrong-result", "nan"),
    least={"tokens": 1},
)
def inference(
    accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16"), tokens: int = 24
) -> Iterator[Yield]:
    """Decodes with a small transformer, with and without a cache, and compares its logits and tokens with float64.

    Decoding runs other kernels than training: one query at a time over a growing cache of keys and values. A stale or
    misplaced cache entry yields fluent but wrong text. Weights are rounded to the dtype first; the reference uses those very
    values in float64.

    Labels: `dtype`.
    """
    import torch

    from readiness import numerics, strict_precision, unsupported_as_reason
    from readiness.probes.parity import train_and_decode, transformer
    from readiness.probes.parity.reference_cases import dtype_named

    draw = accelerator.generator("inference")
    model = transformer.build(draw)
    prompt = transformer.text(draw, model.size.vocabulary, 4, 21)
    for name in dtypes:
        dtype = dtype_named(name)
        labels = {"dtype": name}
        rounded = transformer.copy(model.state_dict(), dtype)
        reference = transformer.copy(rounded.state_dict(), torch.float64)
        with strict_precision(), unsupported_as_reason() as refusal:
            rounded.to(accelerator.device)
            decoded = train_and_decode.decode(rounded, prompt.to(accelerator.device), tokens)
            uncached = train_and_decode.forward(rounded, prompt.to(accelerator.device), decoded.tokens)
        yield Measurement("supported", int(refusal.reason is None), labels)
        if refusal.reason is not None:
            yield Row({**labels, "refused": refusal.reason})
            continue
        exact = train_and_decode.forward(reference, prompt, decoded.tokens)
        wrong, clear = train_and_decode.disagreements(decoded.tokens, exact, dtype)
        yield Row({**labels, "tokens": decoded.tokens.tolist(), "disagreements": wrong, "clear_choices": clear})
        yield Measurement("logit_error", numerics.worst_error(uncached, exact, dtype=dtype), labels)
        yield Measurement("cache_difference", numerics.worst_error(decoded.logits, uncached, dtype=dtype), labels)
        yield Measurement("token_disagreements", wrong, labels, samples=decoded.tokens.numel())
