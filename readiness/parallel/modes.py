"""The modes by name: what each needs, and how it is set up on a rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from readiness.parallel import tensor
from readiness.parallel.context import Stretched
from readiness.parallel.data import Divided, Replicas, Sparing, shard
from readiness.parallel.expert import Dealt, DealtShards, DealtStages
from readiness.parallel.experts import DEEPSEEK, QWEN
from readiness.parallel.model import Decoder
from readiness.parallel.pipeline import Looped, Staged
from readiness.parallel.shape import Shape
from readiness.parallel.trainer import Trainer
from readiness.ranks.values import RankContext

SetUp = Callable[[RankContext, Decoder], Trainer]


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to divide the work. `set_up` is handed the whole model on the device, which it may change.

    `pairs` ones arrange the ranks in two rows, so there must be four and an even number of them.
    """

    name: str
    title: str
    set_up: SetUp
    shape: Callable[[int], Shape] = Shape
    pairs: bool = False

    def obstacle(self, ranks: int) -> str | None:
        """Why so many ranks cannot be arranged so, or None."""
        if self.pairs and (ranks < 4 or ranks % 2):
            return f"it wants an even number of ranks, four at least, and there are {ranks}"
        return "it wants two ranks at least" if ranks < 2 else None


def _mesh(context: RankContext, *dimensions: tuple[str, int]) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    names, sizes = zip(*dimensions, strict=True)
    return init_device_mesh(context.device.type, sizes, mesh_dim_names=names)


def _fsdp(context: RankContext, model: Decoder) -> Trainer:
    mesh = _mesh(context, ("part", context.world_size))
    shard(model, mesh)
    return Divided(context, model, part=context.rank, parts=context.world_size)


def _hsdp(context: RankContext, model: Decoder) -> Trainer:
    mesh = _mesh(context, ("copy", 2), ("part", context.world_size // 2))
    shard(model, mesh)
    return Divided(context, model, part=context.rank, parts=context.world_size)


def _fsdp_expert(context: RankContext, model: Decoder) -> Trainer:
    mesh = _mesh(context, ("pairs", context.world_size // 2), ("pair", 2))
    return DealtShards(
        context, model, all_ranks=_mesh(context, ("part", context.world_size)), pairs=mesh["pairs"], pair=mesh["pair"]
    )


def _tensor(context: RankContext, model: Decoder, *, sequence: bool) -> Trainer:
    tensor.divide(model, _mesh(context, ("matrix", context.world_size)), sequence=sequence)
    return Divided(context, model)


def _fsdp_tensor(context: RankContext, model: Decoder) -> Trainer:
    mesh = _mesh(context, ("part", context.world_size // 2), ("matrix", 2))
    tensor.divide(model, mesh["matrix"], sequence=False)
    shard(model, mesh["part"])
    return Divided(context, model, part=context.rank // 2, parts=context.world_size // 2)


def _pipeline(context: RankContext, model: Decoder, *, schedule: str) -> Trainer:
    return Staged(context, model, schedule, stages=range(context.world_size), replicas=[context.rank])


def _two_stages(context: RankContext, model: Decoder) -> Trainer:
    """As many pipelines as half the ranks, of two stages, each of which deals its experts out."""
    half = context.world_size // 2
    rows, pipes = _rows_and_columns(half)
    groups = _groups(rows, pipes)
    stages, replicas = pipes[context.rank % half], rows[context.rank // half]
    return DealtStages(
        context, model, "1f1b", stages=stages, pipe=groups[tuple(stages)], replicas=replicas, copies=groups[tuple(replicas)]
    )


def _ddp_pipeline(context: RankContext, model: Decoder) -> Trainer:
    """Two pipelines, of as many stages as half the ranks."""
    half = context.world_size // 2
    pipes, copies = _rows_and_columns(half)
    groups = _groups(pipes, copies)
    stages, replicas = pipes[context.rank // half], copies[context.rank % half]
    return Staged(
        context, model, "1f1b", stages=stages, pipe=groups[tuple(stages)], replicas=replicas, copies=groups[tuple(replicas)]
    )


def _rows_and_columns(half: int) -> tuple[list[list[int]], list[list[int]]]:
    """The ranks in two rows: those of each row, and the two of each column."""
    return [list(range(half)), list(range(half, 2 * half))], [[rank, rank + half] for rank in range(half)]


def _groups(*kinds: list[list[int]]) -> dict[tuple[int, ...], Any]:
    """A group for each of these; all ranks make all of them."""
    return {tuple(ranks): dist.new_group(ranks) for kind in kinds for ranks in kind}


_ALL = (
    Mode("ddp", "replicas (DistributedDataParallel)", Replicas),
    Mode("ddp+zero", "replicas, the optimizer's state divided (ZeroRedundancyOptimizer)", Sparing),
    Mode("fsdp", "parameters divided (fully_shard)", _fsdp),
    Mode("hsdp", "parameters divided, twice (fully_shard over a mesh of two dimensions)", _hsdp, pairs=True),
    Mode("tensor", "matrices divided (tensor parallel)", lambda *told: _tensor(*told, sequence=False)),
    Mode("sequence", "matrices and norms divided (sequence parallel)", lambda *told: _tensor(*told, sequence=True)),
    Mode("fsdp+tensor", "parameters divided over pairs that divide matrices", _fsdp_tensor, pairs=True),
    Mode(
        "pipeline-gpipe", "layers divided, forward before backward (GPipe)",
        lambda *told: _pipeline(*told, schedule="gpipe"), lambda ranks: Shape(ranks, layers=ranks),
    ),
    Mode(
        "pipeline-1f1b", "layers divided, one forward, one backward (1F1B)",
        lambda *told: _pipeline(*told, schedule="1f1b"), lambda ranks: Shape(ranks, layers=ranks),
    ),
    Mode(
        "pipeline-interleaved", "layers divided, two stages on each rank (interleaved 1F1B)",
        lambda context, model: Looped(context, model, "interleaved"), lambda ranks: Shape(ranks, layers=2 * ranks),
    ),
    Mode(
        "pipeline-dualpipe-v", "layers divided, two stages on each rank, there and back (DualPipeV)",
        lambda context, model: Looped(context, model, "dualpipe-v"), lambda ranks: Shape(ranks, layers=2 * ranks),
    ),
    Mode(
        "ddp+pipeline", "two pipelines (1F1B) that share the batch", _ddp_pipeline,
        lambda ranks: Shape(ranks, layers=ranks), pairs=True,
    ),
    Mode("expert-deepseek", "experts dealt out, sigmoid gates", Dealt, lambda ranks: Shape(ranks, routing=DEEPSEEK)),
    Mode("expert-qwen", "experts dealt out, softmax gates", Dealt, lambda ranks: Shape(ranks, routing=QWEN)),
    Mode(
        "fsdp+expert", "parameters divided, experts dealt out over pairs, softmax gates", _fsdp_expert,
        lambda ranks: Shape(ranks, routing=QWEN), pairs=True,
    ),
    Mode(
        "pipeline+expert", "layers divided (1F1B), and in each stage experts dealt out, sigmoid gates", _two_stages,
        lambda ranks: Shape(ranks, routing=DEEPSEEK), pairs=True,
    ),
    Mode("context-ring", "sequences divided, keys and values go round", lambda *told: Stretched(*told, ring=True)),
    Mode("context-gather", "sequences divided, keys and values gathered", lambda *told: Stretched(*told, ring=False)),
)  # fmt: skip

MODES: Mapping[str, Mode] = {mode.name: mode for mode in _ALL}
