"""Context parallel training: sequences are divided; attention uses the other ranks' keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from readiness.distributed.types import RankContext
from readiness.probes.parallelism.model import Decoder, transformer_size
from readiness.probes.parallelism.ring_attention import over_ranks
from readiness.probes.parallelism.strategy import LocalParameter, Strategy, average_gradients

Tensor = torch.Tensor


class ContextParallel(Strategy):
    """Context parallelism: each rank has one part of every sequence and all parameters."""

    def __init__(self, context: RankContext, model: Decoder, *, ring: bool) -> None:
        self.context, self.model = context, model
        rank, ranks = context.rank, context.world_size
        for block in model.blocks.values():
            size = transformer_size(model.shape)
            block.attention = over_ranks(block.attention, size, rank, ranks, ring=ring)  # type: ignore[arg-type]
        model.start = rank * model.shape.length // ranks

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return all parameters of the model."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Compute on this rank's tokens of all sequences."""
        length = self.model.shape.length // self.context.world_size
        own_batch = slice(self.model.start, self.model.start + length)
        found = self.forward_backward(self.model, tokens[:, :-1][:, own_batch], tokens[:, 1:][:, own_batch])
        with self.step("sum of gradients"):
            average_gradients(self.parameters, self.context.world_size)
            self.wait()
        return found

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return all parameters as whole."""
        for name, parameter in self.model.named_parameters():
            yield LocalParameter(name, parameter, self.context.world_size, "all")
