"""Modes that divide the layers: stages that hand micro-batches on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from readiness.parallel.model import Decoder, loss, part
from readiness.parallel.trainer import Held, Trainer, average, share
from readiness.ranks.values import RankContext

Tensor = torch.Tensor


class Staged(Trainer):
    """`torch.distributed.pipelining` with the schedule of this name; `replicas` pipelines may share the batch.

    `stages` are the ranks of this one's pipeline, `replicas` those that hold the same stage; each with its group, None
    for the world's.
    """

    def __init__(
        self, context: RankContext, whole: Decoder, schedule: str, *, stages: Sequence[int], pipe: Any = None,
        replicas: Sequence[int], copies: Any = None,
    ) -> None:  # fmt: skip
        from torch.distributed import pipelining

        self.context, self.replicas, self.copies = context, replicas, copies
        self.number, count = stages.index(context.rank), len(stages)
        self.last = self.number == count - 1
        layers = range(self.number * whole.shape.layers // count, (self.number + 1) * whole.shape.layers // count)
        self.model = part(whole, layers, first=self.number == 0, last=self.last).to(context.device)
        stage = pipelining.PipelineStage(self.model, self.number, count, context.device, group=pipe)
        kinds = {"gpipe": pipelining.ScheduleGPipe, "1f1b": pipelining.Schedule1F1B}
        self.schedule = kinds[schedule](stage, n_microbatches=2 * count, loss_fn=loss)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Of this stage."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Micro-batches through the stages; the last one knows the loss."""
        mine = share(tokens, self.replicas.index(self.context.rank), len(self.replicas))
        losses: list[Tensor] = []
        given = (mine[:, :-1].contiguous(),) if self.number == 0 else ()
        with self.step("forward and backward of all micro-batches"):
            if self.last:
                self.schedule.step(*given, target=mine[:, 1:].contiguous(), losses=losses)
            else:
                self.schedule.step(*given)
            self.wait()
        if len(self.replicas) > 1:
            with self.step("sum of gradients"):
                average(self.parameters, len(self.replicas), self.copies)
                self.wait()
        return torch.stack(losses).mean().detach() if self.last else None

    def held(self) -> Iterator[Held]:
        """One stage, as often as there are pipelines."""
        for name, parameter in self.model.named_parameters():
            yield Held(name, parameter, len(self.replicas), f"stage {self.number}")
