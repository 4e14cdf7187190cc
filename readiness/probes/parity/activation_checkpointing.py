"""Activation checkpointing: a transformer that recomputes its blocks in backward, compared with one that does not.

Activation checkpointing trades work for memory: what a block computes the second time must be what it computed the first
time, with the same dropout, under the same autocast. Only workers import this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.nn import functional
from torch.utils.checkpoint import CheckpointError, checkpoint

from readiness.numerics import fingerprint, relative_error
from readiness.probes.parity import train_and_decode, transformer

Tensor = torch.Tensor

#: torch's two ways of running a block again, and the way that needs none.
MODES = ("reentrant", "non-reentrant")
_KEPT = "kept"
_DROPPED = 0.1


@dataclass(slots=True)
class Step:
    """Result of one step: gradients by parameter on the host, and what must not depend on how they were computed.

    `left` and `lowered` are, for each block and each time that it ran, which elements dropout left, and what autocast was
    on. `following` are the random numbers that come after the step. `complaint` is torch's own, of tensors that were not
    what they had been; the step then has no end, and no gradients.
    """

    gradients: dict[str, Tensor] = field(default_factory=dict)
    left: dict[int, list[str]] = field(default_factory=dict)
    lowered: dict[int, list[str]] = field(default_factory=dict)
    following: str = ""
    complaint: str | None = None


def steps(
    device: torch.device, weights: dict[str, Tensor], tokens: Tensor, seed: int, dtype: torch.dtype
) -> tuple[Step, dict[str, Step]]:
    """Yield the step of a model that keeps all activations, and the same step in each mode. `tokens` are ids (B, T).

    A dtype of less than 32 bits is autocast's, with parameters in float32. The host's random numbers go on as if none had
    been drawn. Raises NotImplementedError where the device has no such autocast, and what the device raises.
    """
    full = dtype.itemsize >= 4
    before = torch.get_rng_state()
    found = {}
    try:
        for mode in (_KEPT, *MODES):
            model = transformer.copy(weights, dtype if full else torch.float32).to(device)
            torch.manual_seed(seed)
            found[mode] = _step(model, tokens.to(device), None if full else dtype, mode)
    finally:
        torch.set_rng_state(before)
    return found.pop(_KEPT), found


def _step(model: transformer.Transformer, tokens: Tensor, autocast: torch.dtype | None, mode: str) -> Step:
    device, step = tokens.device, Step()

    def block(index: int, x: Tensor, turn: transformer.Pair) -> Tensor:
        # First of all: torch leaves a block that runs again as soon as it has what the gradients need of it.
        x = functional.dropout(x, _DROPPED)
        step.left.setdefault(index, []).append(fingerprint((x.detach() != 0).cpu()))
        on = torch.is_autocast_enabled(device.type)
        step.lowered.setdefault(index, []).append(str(torch.get_autocast_dtype(device.type)) if on else "off")
        hidden: Tensor = model.blocks[index](x, turn, None)[0]
        return hidden

    with train_and_decode.lowered(device, autocast):
        x = model.embedding(tokens[:, :-1])
        turn = transformer.angles(0, x.shape[1], model.size.width // model.size.heads, x)
        for index in range(len(model.blocks)):
            x = block(index, x, turn) if mode == _KEPT else checkpoint(block, index, x, turn, use_reentrant=mode == MODES[0])
        logits = model.head(model.norm(x)).float()
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except CheckpointError as problem:
        step.complaint = str(problem).strip().partition("\n")[0].split(": ", 1)[-1][:200]
        return step
    step.gradients = {name: train_and_decode.gradient(parameter) for name, parameter in model.named_parameters()}
    step.following = fingerprint(torch.rand(64, device=device).cpu())
    return step


def promises(kept: Step, step: Step) -> Iterator[tuple[str, bool]]:
    """Yield what recomputation must not change, and whether it did not, compared with the step that kept all."""
    if step.complaint is not None:
        yield f"torch finds no mismatch: {step.complaint}", False
    else:
        yield "every block ran twice", all(len(step.left.get(index, ())) == 2 for index in kept.left)
        yield "random numbers continue as without it", step.following == kept.following
    for index, (first,) in kept.left.items():
        yield f"dropout of block {index} leaves the same elements", set(step.left.get(index, ())) == {first}
    for index, (first,) in kept.lowered.items():
        yield f"autocast of block {index} is the same", set(step.lowered.get(index, ())) == {first}


def gradient_error(kept: Step, step: Step) -> tuple[float, str]:
    """Return the worst parameter's rms deviation relative to its gradient without recomputation, and its name."""
    errors = {name: relative_error(step.gradients[name], want.double()) for name, want in kept.gradients.items()}
    worst = max(errors, key=errors.__getitem__)
    return errors[worst], worst
