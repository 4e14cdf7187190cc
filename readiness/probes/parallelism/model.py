"""Small decoder for every mode: blocks of the small transformer, whole or one stage, with or without experts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from readiness.probes.parallelism.model_shape import ModelShape
from readiness.probes.parallelism.moe import Experts
from readiness.probes.parity.transformer import Attention, Block, Norm, Pair, Size, angles

Tensor = torch.Tensor


def transformer_size(shape: ModelShape) -> Size:
    """Return the size of the small transformer for this shape."""
    return Size(shape.vocabulary, shape.width, shape.layers, shape.heads, shape.heads, shape.hidden)


class DenseBlock(Block):
    """Block of the small transformer, without the cache for decoding."""

    def forward(self, x: Tensor, turn: Pair) -> Tensor:  # type: ignore[override]
        """Map (B, T, width) to the same shape."""
        return super().forward(x, turn, None)[0]


class ExpertBlock(nn.Module):
    """Block whose feed-forward is a mixture of experts."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = Norm(shape.width), Norm(shape.width)
        self.attention = Attention(transformer_size(shape))
        self.experts = Experts(shape)

    def forward(self, x: Tensor, turn: Pair) -> Tensor:
        """Map (B, T, width) to the same shape."""
        x = x + self.attention(self.attention_norm(x), turn, None)[0]
        return x + self.experts(self.feed_norm(x))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Decoder from token ids (B, T) to logits (B, T, vocabulary); stages exchange (B, T, width).

    Blocks are named by their number in the whole model, so that a stage's parameters carry the names that they have there.
    `start` is the position of the first token, for a rank that holds a part of each sequence; `gathered` is how many
    such parts are put together for attention, which then sees them all.
    """

    def __init__(
        self, shape: ModelShape, layers: Iterable[int] | None = None, *, first: bool = True, last: bool = True
    ) -> None:
        super().__init__()
        self.shape, self.start, self.gathered = shape, 0, 1
        self.embedding = nn.Embedding(shape.vocabulary, shape.width) if first else None
        chosen = range(shape.layers) if layers is None else layers
        dense = shape.routing is None
        self.blocks = nn.ModuleDict(
            {str(layer): DenseBlock(transformer_size(shape)) if dense else ExpertBlock(shape) for layer in chosen}
        )
        self.norm = Norm(shape.width) if last else None
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False) if last else None

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers of this stage."""
        if self.embedding is not None:
            x = self.embedding(x)
        turn = angles(self.start, self.gathered * x.shape[1], self.shape.width // self.shape.heads, x)
        for block in self.blocks.values():
            x = block(x, turn)
        return x if self.norm is None or self.head is None else self.head(self.norm(x))


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy of (B, T, vocabulary) against (B, T), in at least float32."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def build(generator: torch.Generator, shape: ModelShape) -> Decoder:
    """Return a whole model in float32 on the CPU with weights drawn from `generator`."""
    with torch.device("meta"):
        model = Decoder(shape)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            spread = 0.1 if "norm" in name or name.endswith("bias") else weight.shape[-1] ** -0.5
            weight.copy_(("norm" in name) + (1.0 if name == "embedding.weight" else spread) * drawn)
    return model


def stage(whole: Decoder, layers: Iterable[int], *, first: bool, last: bool) -> Decoder:
    """Return one stage of a model, with its own copies of the parameters."""
    with torch.device("meta"):
        made = Decoder(whole.shape, layers, first=first, last=last)
    weights = dict(whole.named_parameters())
    made.load_state_dict({name: weights[name].detach().clone() for name, _ in made.named_parameters()}, assign=True)
    for name, weight in made.named_parameters():
        weight.requires_grad_(weights[name].requires_grad)
    return made
