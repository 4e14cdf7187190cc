"""Data parallel training: replicas, sharded optimizer state, sharded parameters, and both."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from readiness.distributed.types import RankContext
from readiness.probes.parallelism.model import Decoder, loss
from readiness.probes.parallelism.strategy import LocalParameter, Strategy, local_part, local_sequences

Tensor = torch.Tensor


#: The gradients of a small model fit into one bucket; those of a large one never do. Several, so that one can be stale.
BUCKET_MIB = 0.02


def distributed_data_parallel(model: nn.Module, device: torch.device, **options: Any) -> DistributedDataParallel:
    """Wrap a model, which is on the device, as one of the replicas of all ranks."""
    indices = None if device.index is None else [device.index]
    return DistributedDataParallel(model, device_ids=indices, bucket_cap_mb=BUCKET_MIB, **options)


class DataParallel(Strategy):
    """Data parallelism with DistributedDataParallel: each rank has its sequences of the batch."""

    def __init__(self, context: RankContext, model: Decoder) -> None:
        self.context, self.model = context, model
        self.wrapped = distributed_data_parallel(model, context.device)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return all parameters of the replica."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Compute on this rank's sequences; the gradients are averaged meanwhile."""
        own_batch = local_sequences(tokens, self.context.rank, self.context.world_size)
        return self.forward_backward(self.wrapped, own_batch[:, :-1], own_batch[:, 1:])

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return all parameters as whole."""
        for name, parameter in self.model.named_parameters():
            yield LocalParameter(name, parameter, self.context.world_size, "all")


class Accumulating(DataParallel):
    """Replicas that add up the gradients of two parts of their sequences, and exchange them with the second alone."""

    def compute(self, tokens: Tensor) -> Tensor | None:
        """On the parts in turn; the first is not exchanged (`no_sync`)."""
        mine = local_sequences(tokens, self.context.rank, self.context.world_size)
        parts = [part for part in mine.tensor_split(2) if len(part)]
        total = torch.zeros((), device=tokens.device)
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            with nullcontext() if last else self.wrapped.no_sync(), self.step(f"part {number}"):
                share = loss(self.wrapped(part[:, :-1]), part[:, 1:]) * (len(part) / len(mine))
                share.backward()  # type: ignore[no-untyped-call]
                self.wait()
            total += share.detach()
        return total


class StaticGraph(DataParallel):
    """Replicas that are promised the same graph in every step (`static_graph`)."""

    def __init__(self, context: RankContext, model: Decoder) -> None:
        self.context, self.model = context, model
        self.wrapped = distributed_data_parallel(model, context.device, static_graph=True)


class SometimesUnused(nn.Module):
    """A model with a matrix that every other step does not use, and that adds nothing where it is used."""

    def __init__(self, model: Decoder, device: torch.device) -> None:
        super().__init__()
        self.model, self.extra, self.calls = model, nn.Linear(4, 4, bias=False, device=device), 0

    def forward(self, tokens: Tensor) -> Tensor:
        """As the model's."""
        out: Tensor = self.model(tokens)
        self.calls += 1
        return out if self.calls % 2 else out + 0 * self.extra.weight.sum()


class Unused(DataParallel):
    """Replicas with parameters that some steps do not use (`find_unused_parameters`)."""

    def __init__(self, context: RankContext, model: Decoder) -> None:
        self.context, self.model = context, model
        whole = SometimesUnused(model, context.device)
        self.wrapped = distributed_data_parallel(whole, context.device, find_unused_parameters=True)


class ZeroRedundancy(DataParallel):
    """Data parallelism with optimizer state divided among the ranks (ZeRO-1)."""

    def optimizer(self, kind: type[torch.optim.Optimizer], settings: dict[str, Any]) -> torch.optim.Optimizer:
        """Return PyTorch's ZeroRedundancyOptimizer around the usual optimizer."""
        return zero_redundancy()(self.parameters, optimizer_class=kind, **settings)  # type: ignore[no-any-return]


def zero_redundancy() -> Any:
    """Return PyTorch's ZeroRedundancyOptimizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which its package uses
        from torch.distributed.optim import ZeroRedundancyOptimizer
    return ZeroRedundancyOptimizer


def shard(model: Decoder, mesh: Any) -> None:
    """Apply `fully_shard` to each block and the whole, over a mesh of one dimension, or of two with a replicating first."""
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks.values():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


class Sharded(Strategy):
    """Sharded parameters over a mesh; each rank gets its part of the batch, or all of it if there is one part."""

    def __init__(self, context: RankContext, model: Decoder, *, part: int = 0, parts: int = 1) -> None:
        self.context, self.model, self.part, self.parts = context, model, part, parts

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return sharded and copied parameters."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Compute on this rank's sequences."""
        own_batch = local_sequences(tokens, self.part, self.parts)
        return self.forward_backward(self.model, own_batch[:, :-1], own_batch[:, 1:])

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return each rank's shards: on each mesh dimension a parameter is sharded or copied."""
        for name, parameter in self.model.named_parameters():
            yield _sharded(name, parameter, self.context)


def _sharded(name: str, parameter: Any, context: RankContext) -> LocalParameter:
    from torch.distributed.tensor import Replicate

    if not hasattr(parameter, "placements"):
        return LocalParameter(name, parameter, context.world_size, "all")
    mesh = parameter.device_mesh
    kept = [isinstance(placement, Replicate) for placement in parameter.placements]
    # Ranks outside the parameter's mesh (in another one of its kind) hold the same as those at their place in it.
    copies = context.world_size // mesh.size()
    for dimension, copied in enumerate(kept):
        copies *= mesh.size(dimension) if copied else 1
    place = [coordinate for coordinate, copied in zip(mesh.get_coordinate(), kept, strict=True) if not copied]
    return LocalParameter(name, parameter, copies, f"part {place}" if place else "all", full=True)


def gradient(parameter: LocalParameter) -> Tensor | None:
    """Return the local gradient; partial sums are reduced first (all ranks must call it)."""
    tensor: Any = parameter.parameter
    found: Any = tensor.grad
    if found is None:
        return None
    if hasattr(found, "placements") and tuple(found.placements) != tuple(tensor.placements):
        found = found.redistribute(tensor.device_mesh, tensor.placements)
    return local_part(found)
