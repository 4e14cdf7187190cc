"""Modes that divide each sequence: attention sees the other ranks' keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from readiness.parallel.model import Decoder, size_of
from readiness.parallel.sequence import divide
from readiness.parallel.trainer import Held, Trainer, average
from readiness.ranks.values import RankContext

Tensor = torch.Tensor


class Stretched(Trainer):
    """Each rank has one part of every sequence and all parameters."""

    def __init__(self, context: RankContext, model: Decoder, *, ring: bool) -> None:
        self.context, self.model = context, model
        rank, ranks = context.rank, context.world_size
        for block in model.blocks.values():
            block.attention = divide(block.attention, size_of(model.shape), rank, ranks, ring=ring)  # type: ignore[arg-type]
        model.start = rank * model.shape.length // ranks

    @property
    def parameters(self) -> Sequence[Tensor]:
        """All of the model."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """On this rank's tokens of all sequences."""
        length = self.model.shape.length // self.context.world_size
        mine = slice(self.model.start, self.model.start + length)
        found = self.passed(self.model, tokens[:, :-1][:, mine], tokens[:, 1:][:, mine])
        with self.step("sum of gradients"):
            average(self.parameters, self.context.world_size)
            self.wait()
        return found

    def held(self) -> Iterator[Held]:
        """Every rank has all of it."""
        for name, parameter in self.model.named_parameters():
            yield Held(name, parameter, self.context.world_size, "all")
