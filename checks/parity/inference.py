"""A small transformer's logits and greedy decoding against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Cost, Measurement, Row, Yield, check


@check(
    "parity.inference",
    title="A small transformer decodes as it does in float64, with and without a cache",
    measures={"supported": "1", "logit_error": "1", "cache_difference": "1", "token_disagreements": "tokens"},
    cost=Cost.SECONDS,
    typical_s=0.6,
    catches=("wrong-result", "nan"),
    least={"tokens": 1},
)
def inference(
    accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16"), tokens: int = 24
) -> Iterator[Yield]:
    """Does a small transformer choose the tokens that float64 on the host chooses, and does its cache tell it the same?

    Decoding runs other kernels than training: one query at a time over a growing cache of keys and values. A stale or
    misplaced cache entry yields fluent nonsense. Weights are rounded to the dtype first; the reference uses those very
    values in float64.

    Label: `dtype`. `logit_error` is the largest deviation of any logit, in one pass without cache, over the root mean
    square of all logits. `cache_difference` is the same between decoding with the cache and that pass, both on the
    device. `token_disagreements` counts decoded tokens that float64, given the same text so far, would clearly not have
    chosen: by more than 64 roundoffs. `supported` is 1 where it decodes at all.
    """
    import torch

    from readiness import numerics
    from readiness.numerics.strict_precision import strict_precision
    from readiness.numerics.unsupported import unsupported_as_reason
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
