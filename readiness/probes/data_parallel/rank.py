"""Ranks of `multichip.data_parallel`: a small decoder trained on a fixed batch, in one process or data parallel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch._dynamo  # here once, and not in each rank that is forked

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.strict_precision import strict_precision
from readiness.probes.parallelism.data_parallel import DataParallel
from readiness.probes.parallelism.model import Decoder, build
from readiness.probes.parallelism.model_shape import ModelShape
from readiness.probes.parallelism.strategy import SingleDevice, Strategy
from readiness.probes.parallelism.training_run import TrainingTrace, train
from readiness.probes.parity.transformer import text

#: The same model whatever the number of ranks, since only its batch is divided.
SHAPE = ModelShape(1)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: steps, and the number of parts of the batch; the reference trains on all of them."""

    steps: int
    parts: int


@dataclass(frozen=True, slots=True)
class TrainingReport(Report):
    """Report of every training step on one rank."""

    trace: TrainingTrace


def small_model(context: RankContext) -> Decoder:
    """Return the same model on every rank's device, drawn on the CPU from the run's seed."""
    return build(context.accelerator.generator("data_parallel", "weights"), SHAPE).to(context.device)


def fixed_batch(context: RankContext, parts: int) -> torch.Tensor:
    """Return the batch of all ranks, token ids (sequences, length + 1) on the host, divisible into so many parts."""
    generator = context.accelerator.generator("data_parallel", "tokens")
    return text(generator, SHAPE.vocabulary, -(-SHAPE.batch // parts) * parts, SHAPE.length + 1)


def rank_main(context: RankContext[Settings]) -> Iterator[TrainingReport]:
    """Train on this rank's part of the batch; yield one report at the end."""
    with strict_precision():  # what the environment allows instead is more than what ranks may differ by
        yield _train(context)


def _train(context: RankContext[Settings]) -> TrainingReport:
    with context.step("making the model"):
        model = small_model(context)
        strategy: Strategy = DataParallel(context, model) if context.world_size > 1 else SingleDevice(model)
        data = [fixed_batch(context, context.settings.parts)] * context.settings.steps
    synchronize = context.accelerator.synchronize
    return TrainingReport(train(strategy, "sgd", data, context.device, context.step, synchronize))
