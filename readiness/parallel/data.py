"""Modes that divide the batch: replicas, divided parameters, and both."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from readiness.multichip.replicas import replicated
from readiness.parallel.model import Decoder
from readiness.parallel.trainer import Held, Trainer, local, share
from readiness.ranks.values import RankContext

Tensor = torch.Tensor


class Replicas(Trainer):
    """DistributedDataParallel."""

    def __init__(self, context: RankContext, model: Decoder) -> None:
        self.context, self.model = context, model
        self.wrapped = replicated(model, context.device)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """All of the replica."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """On this rank's sequences; the gradients are averaged while they come."""
        mine = share(tokens, self.context.rank, self.context.world_size)
        return self.passed(self.wrapped, mine[:, :-1], mine[:, 1:])

    def held(self) -> Iterator[Held]:
        """Every rank has all of it."""
        for name, parameter in self.model.named_parameters():
            yield Held(name, parameter, self.context.world_size, "all")


class Sparing(Replicas):
    """Replicas each of which keeps the optimizer's state of a part of the parameters, and updates those for all (ZeRO-1)."""

    def optimizer(self, kind: type[torch.optim.Optimizer], settings: dict[str, Any]) -> torch.optim.Optimizer:
        """PyTorch's ZeroRedundancyOptimizer around the usual one."""
        return zero_redundancy()(self.parameters, optimizer_class=kind, **settings)  # type: ignore[no-any-return]


def zero_redundancy() -> Any:
    """PyTorch's ZeroRedundancyOptimizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which its package uses
        from torch.distributed.optim import ZeroRedundancyOptimizer
    return ZeroRedundancyOptimizer


def shard(model: Decoder, mesh: Any) -> None:
    """`fully_shard` of each block and of the whole, over a mesh of one dimension, or of two whose first one replicates."""
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks.values():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


class Divided(Trainer):
    """What PyTorch has divided over a mesh; each rank sees its share of the batch, or with one part all of it."""

    def __init__(self, context: RankContext, model: Decoder, *, part: int = 0, parts: int = 1) -> None:
        self.context, self.model, self.part, self.parts = context, model, part, parts

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Divided and copied ones."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """On this rank's sequences."""
        mine = share(tokens, self.part, self.parts)
        return self.passed(self.model, mine[:, :-1], mine[:, 1:])

    def held(self) -> Iterator[Held]:
        """Each rank its part: on each dimension of its mesh a parameter is in parts or copied."""
        for name, parameter in self.model.named_parameters():
            yield _divided(name, parameter, self.context)


def _divided(name: str, parameter: Any, context: RankContext) -> Held:
    from torch.distributed.tensor import Replicate

    if not hasattr(parameter, "placements"):
        return Held(name, parameter, context.world_size, "all")
    mesh = parameter.device_mesh
    kept = [isinstance(placement, Replicate) for placement in parameter.placements]
    # Ranks outside the parameter's mesh (another group of the world) hold the same as those at their place in it.
    copies = context.world_size // mesh.size()
    for dimension, copied in enumerate(kept):
        copies *= mesh.size(dimension) if copied else 1
    place = [coordinate for coordinate, copied in zip(mesh.get_coordinate(), kept, strict=True) if not copied]
    return Held(name, parameter, copies, f"part {place}" if place else "all", full=True)


def gradient(held: Held) -> Tensor | None:
    """The gradient of what is here; one that PyTorch keeps as a sum not yet made is made first (all ranks come)."""
    found: Any = held.parameter.grad
    if found is None:
        return None
    if hasattr(found, "placements") and tuple(found.placements) != tuple(held.parameter.placements):  # type: ignore[attr-defined]
        found = found.redistribute(held.parameter.device_mesh, held.parameter.placements)  # type: ignore[attr-defined]
    return local(found)
