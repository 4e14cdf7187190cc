"""One decoder layer of each architecture against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check


@check(
    "parity.layer",
    title="A decoder layer of Qwen3, its experts and DeepSeek-V3 agrees with float64",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the layer can be computed at all.",
            title="A layer of the model can be computed",
            why="A layer that cannot be computed is a model that cannot.",
            remedy="The reason names the operator; update the plug-in, or report it.",
            action=Action.CONTACT_VENDOR,
        ),
        "forward_error": Measure(
            "1", better=Better.LOWER,
            meaning="Root mean square deviation of the result over that of the reference.",
            title="A layer of the model is right in {dtype}",
            why="Operators that are right one by one can be wrong together.",
            remedy="Run parity.matmul, parity.attention and parity.normalisation: the one that fails too is the cause.",
            action=Action.CONTACT_VENDOR,
        ),
        "gradient_error": Measure(
            "1", better=Better.LOWER,
            meaning="The same of the worst gradient, of all weights and the input.",
            title="Gradients of a layer are right in {dtype}",
            why="A gradient that is wrong trains another model, without any error.",
            remedy="The reason names the weight; do not train until its operators agree.",
            action=Action.CONTACT_VENDOR,
        ),
        "misrouted": Measure(
            "1", better=Better.LOWER,
            meaning="Share of tokens with a worse choice of experts than rounding explains.",
            title="Tokens go to the right experts in {dtype}",
            why="A token that goes to the wrong expert gets a wrong result.",
            remedy="Look at topk, sort, gather and scatter in the rows of operators.workload and operators.sweep.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=2.0,
    catches=("wrong-result", "nan"),
)
def layer(
    accelerator: Accelerator,
    *,
    architectures: Sequence[str] = ("qwen3-dense", "qwen3-moe", "deepseek-v3"),
    dtypes: Sequence[str] = ("float32", "bfloat16"),
) -> Iterator[Yield]:
    """Computes one whole decoder layer of a model and all its gradients, and compares them with float64.

    Operators that are right one by one can be wrong together: a view that is read too early, a mask made for another
    layout, an expert that gets its neighbour's tokens. Qwen3's attention and feed-forward, its experts behind a softmax,
    DeepSeek-V3's latent attention and its experts behind sigmoid gates with groups are tried; small, with weights drawn
    anew. Which experts work on a token is decided by small differences: the reference takes the device's choice.

    Labels: `architecture`, `dtype`.
    """
    import torch

    from readiness import numerics, strict_precision, unsupported_as_reason
    from readiness.probes.parity import decoder_layers
    from readiness.probes.parity.reference_cases import dtype_named

    for name in architectures:
        draw = accelerator.generator("layer", name)
        built = decoder_layers.build(name, draw)
        x, cotangent = torch.randn(2, 33, 128, generator=draw), torch.randn(2, 33, 128, generator=draw)
        for dtype in dtypes:
            kind, labels = dtype_named(dtype), {"architecture": name, "dtype": dtype}
            rounded, host = built.to(kind).float(), torch.device("cpu")
            given, seed = x.to(kind).float(), cotangent.to(kind).float()
            with strict_precision(), unsupported_as_reason() as refusal:
                passed = decoder_layers.run(rounded, given, seed, accelerator.device, kind, None)
            yield Measurement("supported", int(refusal.reason is None), labels, about=refusal.reason)
            if refusal.reason is not None:
                continue
            free = decoder_layers.run(rounded, given, seed, host, torch.float64, None)
            reference = decoder_layers.run(rounded, given, seed, host, torch.float64, passed.routing.chosen)
            error = numerics.relative_error(passed.output, reference.output)
            errors = {key: numerics.relative_error(passed.gradients[key], want) for key, want in reference.gradients.items()}
            worst = max(errors, key=errors.__getitem__)
            yield Row({**labels, "forward_error": error, "gradients": errors})
            yield Measurement("forward_error", error, labels, about=f"{name} in {dtype}")
            about = f"{name} in {dtype}: gradient of {worst}"
            yield Measurement("gradient_error", errors[worst], labels, samples=len(errors), about=about)
            slack = 16 * numerics.unit_roundoff(kind)
            yield Measurement("misrouted", decoder_layers.misrouted(passed, free, slack), labels, about=f"{name} in {dtype}")
