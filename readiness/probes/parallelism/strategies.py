"""Modes of training by name: requirements of each, and how its strategy is set up on a rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from readiness.distributed.types import RankContext
from readiness.probes.parallelism import tensor_parallel
from readiness.probes.parallelism.context_parallel import ContextParallel
from readiness.probes.parallelism.data_parallel import (
    Accumulating,
    DataParallel,
    Sharded,
    StaticGraph,
    Unused,
    ZeroRedundancy,
    shard,
)
from readiness.probes.parallelism.expert_parallel import ExpertParallel, FsdpExpert, PipelineExpert
from readiness.probes.parallelism.model import Decoder
from readiness.probes.parallelism.model_shape import ModelShape
from readiness.probes.parallelism.moe import DEEPSEEK, QWEN
from readiness.probes.parallelism.pipeline_parallel import InterleavedPipeline, Pipeline
from readiness.probes.parallelism.strategy import Strategy

SetUp = Callable[[RankContext, Decoder], Strategy]


@dataclass(frozen=True, slots=True)
class Mode:
    """Mode of training: a way to divide the work. `set_up` gets the whole model on the device, and may change it.

    Modes of `pairs` arrange the ranks in two rows, so there must be four or more, and an even number.
    """

    name: str
    title: str
    set_up: SetUp
    shape: Callable[[int], ModelShape] = ModelShape
    pairs: bool = False

    def obstacle(self, ranks: int) -> str | None:
        """Return why so many ranks do not suit this mode, or None."""
        if self.pairs and (ranks < 4 or ranks % 2):
            return f"it needs an even number of ranks, at least four; there are {ranks}"
        return "it needs at least two ranks" if ranks < 2 else None


def _mesh(context: RankContext, *dimensions: tuple[str, int]) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    names, sizes = zip(*dimensions, strict=True)
    return init_device_mesh(context.device.type, sizes, mesh_dim_names=names)


def _fsdp(context: RankContext, model: Decoder) -> Strategy:
    mesh = _mesh(context, ("part", context.world_size))
    shard(model, mesh)
    return Sharded(context, model, part=context.rank, parts=context.world_size)


def _hsdp(context: RankContext, model: Decoder) -> Strategy:
    mesh = _mesh(context, ("copy", 2), ("part", context.world_size // 2))
    shard(model, mesh)
    return Sharded(context, model, part=context.rank, parts=context.world_size)


def _fsdp_expert(context: RankContext, model: Decoder) -> Strategy:
    mesh = _mesh(context, ("pairs", context.world_size // 2), ("pair", 2))
    return FsdpExpert(
        context, model, all_ranks=_mesh(context, ("part", context.world_size)), pairs=mesh["pairs"], pair=mesh["pair"]
    )


def _tensor(context: RankContext, model: Decoder, *, sequence: bool) -> Strategy:
    tensor_parallel.parallelize(model, _mesh(context, ("matrix", context.world_size)), sequence=sequence)
    return Sharded(context, model)


def _fsdp_tensor(context: RankContext, model: Decoder) -> Strategy:
    mesh = _mesh(context, ("part", context.world_size // 2), ("matrix", 2))
    tensor_parallel.parallelize(model, mesh["matrix"], sequence=False)
    shard(model, mesh["part"])
    return Sharded(context, model, part=context.rank // 2, parts=context.world_size // 2)


def _pipeline(context: RankContext, model: Decoder, *, schedule: str) -> Strategy:
    return Pipeline(context, model, schedule, stages=range(context.world_size), replicas=[context.rank])


def _two_stages(context: RankContext, model: Decoder) -> Strategy:
    """Set up pipelines of two stages each, whose experts are shared among the ranks of a stage."""
    half = context.world_size // 2
    rows, pipes = _rows_and_columns(half)
    groups = _groups(rows, pipes)
    stages, replicas = pipes[context.rank % half], rows[context.rank // half]
    return PipelineExpert(
        context, model, "1f1b", stages=stages, pipe=groups[tuple(stages)], replicas=replicas, copies=groups[tuple(replicas)]
    )


def _ddp_pipeline(context: RankContext, model: Decoder) -> Strategy:
    """Set up two pipelines of half as many stages as ranks."""
    half = context.world_size // 2
    pipes, copies = _rows_and_columns(half)
    groups = _groups(pipes, copies)
    stages, replicas = pipes[context.rank // half], copies[context.rank % half]
    return Pipeline(
        context, model, "1f1b", stages=stages, pipe=groups[tuple(stages)], replicas=replicas, copies=groups[tuple(replicas)]
    )


def _rows_and_columns(half: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return the ranks in two rows: those of each row, and the two of each column."""
    return [list(range(half)), list(range(half, 2 * half))], [[rank, rank + half] for rank in range(half)]


def _groups(*kinds: list[list[int]]) -> dict[tuple[int, ...], Any]:
    """Make a process group for each of these; all ranks make all of them."""
    return {tuple(ranks): dist.new_group(ranks) for kind in kinds for ranks in kind}


_ALL = (
    Mode("ddp", "replicas (DistributedDataParallel)", DataParallel),
    Mode("ddp-accumulating", "replicas, gradients of two parts added up before they are exchanged (no_sync)", Accumulating),
    Mode("ddp-static", "replicas, the same graph in every step (static_graph)", StaticGraph),
    Mode("ddp-unused", "replicas, parameters that some steps do not use (find_unused_parameters)", Unused),
    Mode("ddp+zero", "replicas, the optimizer's state sharded (ZeroRedundancyOptimizer)", ZeroRedundancy),
    Mode("fsdp", "parameters sharded (fully_shard)", _fsdp),
    Mode("hsdp", "parameters sharded, twice (fully_shard over a mesh of two dimensions)", _hsdp, pairs=True),
    Mode("tensor", "matrices sharded (tensor parallel)", lambda *both: _tensor(*both, sequence=False)),
    Mode("sequence", "matrices and norms sharded (sequence parallel)", lambda *both: _tensor(*both, sequence=True)),
    Mode("fsdp+tensor", "parameters sharded over pairs that shard matrices", _fsdp_tensor, pairs=True),
    Mode(
        "pipeline-gpipe", "layers divided, forward before backward (GPipe)",
        lambda *both: _pipeline(*both, schedule="gpipe"), lambda ranks: ModelShape(ranks, layers=ranks),
    ),
    Mode(
        "pipeline-1f1b", "layers divided, one forward, one backward (1F1B)",
        lambda *both: _pipeline(*both, schedule="1f1b"), lambda ranks: ModelShape(ranks, layers=ranks),
    ),
    Mode(
        "pipeline-interleaved", "layers divided, two stages on each rank (interleaved 1F1B)",
        lambda context, model: InterleavedPipeline(context, model, "interleaved"),
        lambda ranks: ModelShape(ranks, layers=2 * ranks),
    ),
    Mode(
        "pipeline-dualpipe-v", "layers divided, two stages on each rank in a V (DualPipeV)",
        lambda context, model: InterleavedPipeline(context, model, "dualpipe-v"),
        lambda ranks: ModelShape(ranks, layers=2 * ranks),
    ),
    Mode(
        "ddp+pipeline", "two pipelines (1F1B) that share the batch", _ddp_pipeline,
        lambda ranks: ModelShape(ranks, layers=ranks), pairs=True,
    ),
    Mode(
        "expert-deepseek", "experts distributed, sigmoid gates", ExpertParallel,
        lambda ranks: ModelShape(ranks, routing=DEEPSEEK),
    ),
    Mode(
        "expert-qwen", "experts distributed, softmax gates", ExpertParallel,
        lambda ranks: ModelShape(ranks, routing=QWEN),
    ),
    Mode(
        "fsdp+expert", "parameters sharded, experts distributed over pairs, softmax gates", _fsdp_expert,
        lambda ranks: ModelShape(ranks, routing=QWEN), pairs=True,
    ),
    Mode(
        "pipeline+expert", "layers divided (1F1B), and in each stage experts distributed, sigmoid gates", _two_stages,
        lambda ranks: ModelShape(ranks, routing=DEEPSEEK), pairs=True,
    ),
    Mode("context-ring", "sequences divided, keys and values in a ring", lambda *both: ContextParallel(*both, ring=True)),
    Mode("context-gather", "sequences divided, keys and values gathered", lambda *both: ContextParallel(*both, ring=False)),
)  # fmt: skip

MODES: Mapping[str, Mode] = {mode.name: mode for mode in _ALL}
