"""Modes that divide matrices, and with them the norms in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from readiness.parallel.data import divided
from readiness.parallel.model import Decoder
from readiness.parallel.trainer import Held, Trainer, share
from readiness.ranks.values import RankContext

Tensor = torch.Tensor


def divide(model: Decoder, mesh: Any, *, sequence: bool) -> None:
    """Columns of what opens a block, rows of what closes it; with `sequence` norms work on a part of each sequence."""
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        PrepareModuleInput,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    stream = Shard(1) if sequence else Replicate()
    model.gathered = mesh.size() if sequence else 1
    for block in model.blocks.values():
        plan: dict[str, Any] = {
            "attention.query": ColwiseParallel(),
            "attention.key": ColwiseParallel(),
            "attention.value": ColwiseParallel(),
            "attention.output": RowwiseParallel(output_layouts=stream),
            "gate": ColwiseParallel(),
            "up": ColwiseParallel(),
            "down": RowwiseParallel(output_layouts=stream),
        }
        if sequence:
            whole = ColwiseParallel(input_layouts=Shard(1))
            plan |= {
                "attention_norm": SequenceParallel(),
                "feed_norm": SequenceParallel(),
                "attention": PrepareModuleInput(
                    input_layouts=(Shard(1), None, None), desired_input_layouts=(Replicate(), None, None)
                ),
                "gate": whole,
                "up": whole,
            }
        parallelize_module(block, mesh, plan)
        block.attention.heads //= mesh.size()  # type: ignore[union-attr]
        block.attention.key_heads //= mesh.size()  # type: ignore[union-attr]
    ends: dict[str, Any] = {
        "embedding": RowwiseParallel(input_layouts=Replicate(), output_layouts=stream),
        "head": ColwiseParallel(input_layouts=stream, output_layouts=Replicate()),
    }
    parallelize_module(model, mesh, ends | ({"norm": SequenceParallel()} if sequence else {}))


class Divided(Trainer):
    """Matrices divided over the ranks; every rank sees the whole batch, or its share where `parts` of them divide it."""

    def __init__(self, context: RankContext, model: Decoder, *, part: int = 0, parts: int = 1) -> None:
        self.context, self.model, self.part, self.parts = context, model, part, parts

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Divided and copied ones."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Through all of them together."""
        mine = share(tokens, self.part, self.parts)
        return self.passed(self.model, mine[:, :-1], mine[:, 1:])

    def held(self) -> Iterator[Held]:
        """Each rank its columns and rows, and all the rest."""
        yield from divided(self.model, self.context)
