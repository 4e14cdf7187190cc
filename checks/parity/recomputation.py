"""Activation checkpointing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Measurement, Row, Yield, check


@check(
    "parity.recomputation",
    title="Activations that are computed again give the same gradients",
    measures={"supported": "1", "broken_promises": "1", "gradient_error": "1"},
    typical_s=0.5,
    catches=("other-random",),
)
def recomputation(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[Yield]:
    """Does a small transformer have the gradients that it would have had without activation checkpointing?

    Large models are trained so: a block's activations are thrown away, and the block runs again in the backward pass. That
    is right only if it does the same thing again: dropout must leave the same elements, so that the state of the device's
    random numbers has to be read and restored, and autocast must be what it was. A device that fails there trains on wrong
    gradients, and the loss still falls.

    Labels: `dtype` (float32 as it is, a lower one through autocast), `mode` (reentrant, non-reentrant: torch's two ways).
    `broken_promises` counts blocks that ran again otherwise (dropout, autocast) or not at all, and random numbers that do
    not go on as they would have. `gradient_error` is the worst parameter's root mean square deviation over that of the
    gradient without, on the same device: 0 where its results repeat to the bit; not told where torch itself stops because
    tensors are not what they were. `supported` is 1 where it can be done.
    """
    import torch

    from readiness.numerics.strict_precision import strict_precision
    from readiness.numerics.unsupported import unsupported_as_reason
    from readiness.probes.parity import activation_checkpointing, transformer
    from readiness.probes.parity.reference_cases import dtype_named

    draw = accelerator.generator("recomputation")
    model = transformer.build(draw)
    tokens = transformer.text(draw, model.size.vocabulary, 4, 33)
    seed = int(torch.randint(1, 2**31, (), generator=draw))
    for name in dtypes:
        with strict_precision(), unsupported_as_reason() as refusal:
            kept, found = activation_checkpointing.steps(
                accelerator.device, model.state_dict(), tokens, seed, dtype_named(name)
            )
        for mode in activation_checkpointing.MODES:
            labels = {"dtype": name, "mode": mode}
            yield Measurement("supported", int(refusal.reason is None), labels)
            if refusal.reason is not None:
                yield Row({**labels, "refused": refusal.reason})
                continue
            promises = dict(activation_checkpointing.promises(kept, found[mode]))
            for promise, holds in promises.items():
                yield Row({**labels, "promise": promise, "kept": holds})
            broken = [promise for promise, holds in promises.items() if not holds]
            about = broken[0] if broken else None
            yield Measurement("broken_promises", len(broken), labels, samples=len(promises), about=about)
            if found[mode].complaint is not None:
                continue
            error, worst = activation_checkpointing.gradient_error(kept, found[mode])
            yield Measurement("gradient_error", error, labels, samples=len(kept.gradients), about=f"gradient of {worst}")
