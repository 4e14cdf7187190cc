"""Expert parallel training: experts are distributed over ranks; alone, with sharding, and in pipeline stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from readiness.distributed.types import RankContext
from readiness.probes.parallelism.data_parallel import Sharded, shard
from readiness.probes.parallelism.model import Decoder
from readiness.probes.parallelism.pipeline_parallel import Pipeline
from readiness.probes.parallelism.strategy import LocalParameter, Strategy, average_gradients, local_sequences

Tensor = torch.Tensor
_STACKED = ("stacked.gates", "stacked.ups", "stacked.downs")


class ExpertParallel(Strategy):
    """Expert parallelism: each rank has its sequences and its experts; all else is copied."""

    def __init__(self, context: RankContext, model: Decoder) -> None:
        self.context, self.model = context, model
        _distribute(model, context.rank, context.world_size)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return the copied parameters, and those of the local experts."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Run forward and backward on this rank's sequences."""
        own_batch = local_sequences(tokens, self.context.rank, self.context.world_size)
        found = self.forward_backward(self.model, own_batch[:, :-1], own_batch[:, 1:])
        with self.step("sum of gradients"):
            _reduce_gradients(self.model, self.context.world_size)
            self.wait()
        return found

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return the parameters, experts by their position among all."""
        return _local_parameters(self.model, self.context.rank, self.context.world_size, "all")


class PipelineExpert(Pipeline):
    """Pipelines whose ranks of the same stage share its experts, as DeepSeek-V3 was trained."""

    def __init__(
        self, context: RankContext, whole: Decoder, schedule: str, *, stages: Sequence[int], pipe: Any,
        replicas: Sequence[int], copies: Any,
    ) -> None:  # fmt: skip
        super().__init__(context, whole, schedule, stages=stages, pipe=pipe, replicas=replicas, copies=copies)
        _distribute(self.model, replicas.index(context.rank), len(replicas), copies)

    def reduce_gradients(self) -> None:
        """Average the gradients of copied parameters over the pipelines."""
        _reduce_gradients(self.model, len(self.replicas), self.copies)

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return the parameters of one stage: experts by position, all else once per pipeline."""
        place = self.replicas.index(self.context.rank)
        return _local_parameters(self.model, place, len(self.replicas), f"stage {self.number}")


class FsdpExpert(Sharded):
    """Expert parallelism in pairs of ranks, with each rank's experts sharded over the pairs and all else over all ranks."""

    def __init__(self, context: RankContext, model: Decoder, *, all_ranks: Any, pairs: Any, pair: Any) -> None:
        """Shard the model. `pairs` and `pair` are the dimensions of a mesh of two, `all_ranks` is the mesh of one."""
        super().__init__(context, model, part=context.rank, parts=context.world_size)
        from torch.distributed.fsdp import fully_shard

        self.place, self.pair = pair.get_local_rank(), pair.size()
        _distribute(model, self.place, self.pair, pair.get_group())
        for block in model.blocks.values():
            fully_shard(block.experts.stacked, mesh=pairs)  # type: ignore[arg-type, union-attr]
        shard(model, all_ranks)

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Run forward and backward; experts' gradients are means over pairs and sums over each pair's tokens."""
        found = super().compute(tokens)
        for name, parameter in self.model.named_parameters():
            if name.endswith(_STACKED) and parameter.grad is not None:
                parameter.grad.div_(self.pair)
        return found

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return the parameters, experts by position and each rank's shard of them."""
        for local in super().local_parameters():
            if local.name.endswith(_STACKED):
                first = self.place * local.parameter.shape[0]
                rows = slice(first, first + local.parameter.shape[0])
                yield replace(local, copies=1, key=f"{local.key}, experts from {first} on", rows=rows)
            else:
                yield local


def _distribute(model: Decoder, rank: int, ranks: int, group: Any = None) -> None:
    for block in model.blocks.values():
        block.experts.distribute(rank, ranks, group)  # type: ignore[operator, union-attr]


def _reduce_gradients(model: Decoder, ranks: int, group: Any = None) -> None:
    """Average the gradients. Those of experts are already sums over all ranks' tokens."""
    stacked = [parameter for name, parameter in model.named_parameters() if name.endswith(_STACKED)]
    copied = [parameter for name, parameter in model.named_parameters() if not name.endswith(_STACKED)]
    average_gradients(copied, ranks, group)
    for parameter in stacked:
        if parameter.grad is not None:
            parameter.grad.div_(ranks)


def _local_parameters(model: Decoder, rank: int, ranks: int, common: str) -> Iterator[LocalParameter]:
    for name, parameter in model.named_parameters():
        if name.endswith(_STACKED):
            first = rank * parameter.shape[0]
            rows = slice(first, first + parameter.shape[0])
            yield LocalParameter(name, parameter, 1, f"{common}, experts from {first} on", rows)
        else:
            yield LocalParameter(name, parameter, ranks, common)
