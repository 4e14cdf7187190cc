"""The mode that divides the experts: tokens go to them and come back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from readiness.parallel.model import Decoder
from readiness.parallel.trainer import Held, Trainer, average, share
from readiness.ranks.values import RankContext

Tensor = torch.Tensor
_STACKED = ("experts.gates", "experts.ups", "experts.downs")


class Dealt(Trainer):
    """Each rank has its sequences and its experts; all else is copied."""

    def __init__(self, context: RankContext, model: Decoder) -> None:
        self.context, self.model = context, model
        for block in model.blocks.values():
            block.experts.spread(context.rank, context.world_size)  # type: ignore[operator, union-attr]

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Copied ones, and the experts that are here."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """The experts' gradients are sums over all ranks' tokens already, and of as many means."""
        ranks = self.context.world_size
        mine = share(tokens, self.context.rank, ranks)
        found = self.passed(self.model, mine[:, :-1], mine[:, 1:])
        copied = [parameter for name, parameter in self.model.named_parameters() if not name.endswith(_STACKED)]
        with self.step("sum of gradients"):
            average(copied, ranks)
            self.wait()
        for name, parameter in self.model.named_parameters():
            if name.endswith(_STACKED) and parameter.grad is not None:
                parameter.grad.div_(ranks)
        return found

    def held(self) -> Iterator[Held]:
        """The experts by their place among all."""
        for name, parameter in self.model.named_parameters():
            if name.endswith(_STACKED):
                first = self.context.rank * parameter.shape[0]
                rows = slice(first, first + parameter.shape[0])
                yield Held(name, parameter, 1, f"experts from {first} on", rows)
            else:
                yield Held(name, parameter, self.context.world_size, "all")
