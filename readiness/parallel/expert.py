"""Modes that divide the experts: tokens go to them and come back; alone, and within each stage of pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from readiness.parallel.data import Divided, shard
from readiness.parallel.model import Decoder
from readiness.parallel.pipeline import Staged
from readiness.parallel.trainer import Held, Trainer, average, share
from readiness.ranks.values import RankContext

Tensor = torch.Tensor
_STACKED = ("stacked.gates", "stacked.ups", "stacked.downs")


class Dealt(Trainer):
    """Each rank has its sequences and its experts; all else is copied."""

    def __init__(self, context: RankContext, model: Decoder) -> None:
        self.context, self.model = context, model
        _deal(model, context.rank, context.world_size)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Copied ones, and the experts that are here."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """On this rank's sequences."""
        mine = share(tokens, self.context.rank, self.context.world_size)
        found = self.passed(self.model, mine[:, :-1], mine[:, 1:])
        with self.step("sum of gradients"):
            _settle(self.model, self.context.world_size)
            self.wait()
        return found

    def held(self) -> Iterator[Held]:
        """The experts by their place among all."""
        return _held(self.model, self.context.rank, self.context.world_size, "all")


class DealtStages(Staged):
    """Pipelines side by side whose ranks of the same stage deal its experts out among them: as DeepSeek-V3 was trained."""

    def __init__(
        self, context: RankContext, whole: Decoder, schedule: str, *, stages: Sequence[int], pipe: Any,
        replicas: Sequence[int], copies: Any,
    ) -> None:  # fmt: skip
        super().__init__(context, whole, schedule, stages=stages, pipe=pipe, replicas=replicas, copies=copies)
        _deal(self.model, replicas.index(context.rank), len(replicas), copies)

    def settle(self) -> None:
        """What is copied is averaged over the pipelines."""
        _settle(self.model, len(self.replicas), self.copies)

    def held(self) -> Iterator[Held]:
        """One stage: its experts by their place, all else as often as there are pipelines."""
        place = self.replicas.index(self.context.rank)
        return _held(self.model, place, len(self.replicas), f"stage {self.number}")


class DealtShards(Divided):
    """Pairs of ranks deal the experts out; what each holds of them is divided over the pairs, all else over all ranks."""

    def __init__(self, context: RankContext, model: Decoder, *, all_ranks: Any, pairs: Any, pair: Any) -> None:
        """`pairs` and `pair` are the dimensions of a mesh of two, `all_ranks` is the mesh of one."""
        super().__init__(context, model, part=context.rank, parts=context.world_size)
        from torch.distributed.fsdp import fully_shard

        self.place, self.pair = pair.get_local_rank(), pair.size()
        _deal(model, self.place, self.pair, pair.get_group())
        for block in model.blocks.values():
            fully_shard(block.experts.stacked, mesh=pairs)  # type: ignore[arg-type, union-attr]
        shard(model, all_ranks)

    def compute(self, tokens: Tensor) -> Tensor | None:
        """The experts' gradients are means over the pairs, and sums over the tokens of each."""
        found = super().compute(tokens)
        for name, parameter in self.model.named_parameters():
            if name.endswith(_STACKED) and parameter.grad is not None:
                parameter.grad.div_(self.pair)
        return found

    def held(self) -> Iterator[Held]:
        """The experts by their place among all, and of those each rank its part."""
        for held in super().held():
            if held.name.endswith(_STACKED):
                first = self.place * held.parameter.shape[0]
                rows = slice(first, first + held.parameter.shape[0])
                yield replace(held, copies=1, key=f"{held.key}, experts from {first} on", rows=rows)
            else:
                yield held


def _deal(model: Decoder, rank: int, ranks: int, group: Any = None) -> None:
    for block in model.blocks.values():
        block.experts.spread(rank, ranks, group)  # type: ignore[operator, union-attr]


def _settle(model: Decoder, ranks: int, group: Any = None) -> None:
    """Means of the gradients. The experts' are sums over all ranks' tokens already, and of as many means."""
    stacked = [parameter for name, parameter in model.named_parameters() if name.endswith(_STACKED)]
    copied = [parameter for name, parameter in model.named_parameters() if not name.endswith(_STACKED)]
    average(copied, ranks, group)
    for parameter in stacked:
        if parameter.grad is not None:
            parameter.grad.div_(ranks)


def _held(model: Decoder, rank: int, ranks: int, common: str) -> Iterator[Held]:
    for name, parameter in model.named_parameters():
        if name.endswith(_STACKED):
            first = rank * parameter.shape[0]
            rows = slice(first, first + parameter.shape[0])
            yield Held(name, parameter, 1, f"{common}, experts from {first} on", rows)
        else:
            yield Held(name, parameter, ranks, common)
