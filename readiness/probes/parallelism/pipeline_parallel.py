"""Pipeline parallel training: layers are divided into stages that pass micro-batches on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from readiness.distributed.types import RankContext
from readiness.probes.parallelism.model import Decoder, loss, stage
from readiness.probes.parallelism.strategy import LocalParameter, Strategy, average_gradients, local_sequences

Tensor = torch.Tensor


def stage_of(whole: Decoder, number: int, count: int) -> Decoder:
    """Return stage `number` of `count` of a model, with its own copies of the parameters."""
    layers = range(number * whole.shape.layers // count, (number + 1) * whole.shape.layers // count)
    return stage(whole, layers, first=number == 0, last=number == count - 1)


class Pipeline(Strategy):
    """Pipeline of `torch.distributed.pipelining` with a named schedule; several pipelines may share the batch.

    `stages` are the ranks of this one's pipeline, `replicas` those that hold the same stage; each with its process group,
    None for the default one.
    """

    def __init__(
        self, context: RankContext, whole: Decoder, schedule: str, *, stages: Sequence[int], pipe: Any = None,
        replicas: Sequence[int], copies: Any = None,
    ) -> None:  # fmt: skip
        from torch.distributed import pipelining

        self.context, self.replicas, self.copies = context, replicas, copies
        self.number, count = stages.index(context.rank), len(stages)
        self.last = self.number == count - 1
        self.model = stage_of(whole, self.number, count).to(context.device)
        own_stage = pipelining.PipelineStage(self.model, self.number, count, context.device, group=pipe)
        kinds = {"gpipe": pipelining.ScheduleGPipe, "1f1b": pipelining.Schedule1F1B}
        self.schedule = kinds[schedule](own_stage, n_microbatches=2 * count, loss_fn=loss)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return the parameters of this stage."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Pass micro-batches through the stages; the last one has the loss."""
        own_batch = local_sequences(tokens, self.replicas.index(self.context.rank), len(self.replicas))
        losses: list[Tensor] = []
        given = (own_batch[:, :-1].contiguous(),) if self.number == 0 else ()
        with self.step("forward and backward of all micro-batches"):
            if self.last:
                self.schedule.step(*given, target=own_batch[:, 1:].contiguous(), losses=losses)
            else:
                self.schedule.step(*given)
            self.wait()
        if len(self.replicas) > 1:
            with self.step("sum of gradients"):
                self.reduce_gradients()
                self.wait()
        return torch.stack(losses).mean().detach() if self.last else None

    def reduce_gradients(self) -> None:
        """Average the gradients over all pipelines."""
        average_gradients(self.parameters, len(self.replicas), self.copies)

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return the parameters of one stage, once per pipeline."""
        for name, parameter in self.model.named_parameters():
            yield LocalParameter(name, parameter, len(self.replicas), f"stage {self.number}")


class InterleavedPipeline(Strategy):
    """Pipeline with two stages on each rank, spaced as the schedule needs them, which idles less.

    `interleaved` goes round the ranks twice; `dualpipe-v` goes there and back, so that the first rank has the last stage
    too, and works on both directions at once. Raises AttributeError where this torch has no such schedule.
    """

    def __init__(self, context: RankContext, whole: Decoder, schedule: str) -> None:
        from torch.distributed import pipelining

        rank, count = context.rank, 2 * context.world_size
        other, kind = {
            "interleaved": (rank + context.world_size, "ScheduleInterleaved1F1B"),
            "dualpipe-v": (count - 1 - rank, "ScheduleDualPipeV"),
        }[schedule]
        self.models = {number: stage_of(whole, number, count).to(context.device) for number in (rank, other)}
        kind_of_stage = _stage_class()
        stages = [kind_of_stage(model, number, count, context.device) for number, model in self.models.items()]
        self.first, self.last = 0 in self.models, count - 1 in self.models
        self.schedule = getattr(pipelining.schedules, kind)(stages, n_microbatches=count, loss_fn=loss)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return the parameters of both stages."""
        return [parameter for model in self.models.values() for parameter in model.parameters()]

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Pass micro-batches through all stages; the rank with the last one has the loss."""
        losses: list[Tensor] = []
        given = (tokens[:, :-1].contiguous(),) if self.first else ()
        last = {"target": tokens[:, 1:].contiguous(), "losses": losses} if self.last else {}
        with self.step("forward and backward of all micro-batches"):
            self.schedule.step(*given, **last)
            self.wait()
        return torch.stack(losses).mean().detach() if self.last else None

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return the parameters of every stage once."""
        for number, model in self.models.items():
            for name, parameter in model.named_parameters():
                yield LocalParameter(name, parameter, 1, f"stage {number}")


def _stage_class() -> Any:
    """Return PyTorch's stage class without its first exchange with neighbours on the same rank, which gloo refuses."""
    from torch.distributed.pipelining import PipelineStage

    class Stage(PipelineStage):
        def _get_init_p2p_neighbors_ops(self) -> list[Any]:
            return [op for op in super()._get_init_p2p_neighbors_ops() if op.group_peer != self.group_rank]

    return Stage
