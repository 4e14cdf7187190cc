"""Activation checkpointing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "parity.recomputation",
    title="Recomputed activations give the same gradients",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where activation checkpointing can be done.",
            title="Activation checkpointing is supported",
            why="Large models fit only if activations are discarded and recomputed (activation checkpointing).",
            remedy=(
                "Update the plug-in: torch.utils.checkpoint needs the state of the device's random numbers, and its "
                "autocast."
            ),
            action=Action.UPDATE_SOFTWARE,
        ),
        "broken_promises": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Blocks that were recomputed differently or not at all, and random numbers that do not continue "
                "as they would have."
            ),
            title="Activation checkpointing repeats the forward pass",
            why=(
                "A block that runs again otherwise, with another dropout or in another precision, gives gradients of "
                "another model."
            ),
            remedy="Train without activation checkpointing, or without dropout; the rows say what was not kept.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "gradient_error": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst parameter's root mean square deviation from the gradient without activation checkpointing, on the "
                "same device: 0 where its results repeat to the bit; not reported where torch itself stops because "
                "tensors are not what they were."
            ),
            title="Activation checkpointing leaves gradients unchanged",
            why="Saving memory must not change the gradients.",
            remedy=(
                "Train without activation checkpointing; look for operators that parity.determinism finds "
                "nondeterministic."
            ),
            action=Action.CONTACT_VENDOR,
        ),
    },
    typical_s=0.5,
    catches=("other-random",),
)
def recomputation(accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[Yield]:
    """Compares the gradients of a small transformer with and without activation checkpointing.

    Large models are trained so: a block's activations are thrown away, and the block runs again in the backward pass.
    That is right only if it does the same thing again: dropout must leave the same elements, so that the state of the
    device's random numbers has to be read and restored, and autocast must be what it was. A device that fails there
    trains on wrong gradients, and the loss still falls.

    Labels: `dtype` (float32 as it is, a lower one through autocast), `mode` (reentrant, non-reentrant: torch's two
    ways).
    """
    import torch

    from readiness import strict_precision, unsupported_as_reason
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
