"""Strategy of training: one step on a batch, and the parameters that each rank then holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from readiness.probes.parallelism.model import Decoder, loss

Tensor = torch.Tensor
#: Context manager around an operation, given its name.
Step = Callable[[str], AbstractContextManager[None]]


def unmarked(operation: str) -> AbstractContextManager[None]:  # noqa: ARG001
    """Step context without a mark on a status board."""
    return nullcontext()


def no_wait() -> None:
    """Do nothing: the host needs no synchronisation."""


@dataclass(frozen=True, slots=True)
class LocalParameter:
    """Parameter as one rank holds it: whole, a shard, or some rows.

    `name` is its name in the whole model. `copies` is how many ranks hold the same elements, and `key` names these: two
    ranks with the same key must hold the same bytes. `rows` says which of the whole one's first dimension these are, None
    for all; a parameter that PyTorch has sharded (`full`) is gathered for the comparison.
    """

    name: str
    parameter: Tensor
    copies: int
    key: str
    rows: slice | None = None
    full: bool = False

    @property
    def local(self) -> Tensor:
        """Return the local elements."""
        return local_part(self.parameter)

    def whole(self) -> Tensor:
        """Return all elements on the CPU. For a sharded parameter this is a collective: all ranks must call it."""
        tensor = self.parameter.full_tensor() if self.full else self.parameter  # type: ignore[attr-defined]
        return tensor.detach().cpu()


def local_part(tensor: Tensor) -> Tensor:
    """Return the local part of a sharded tensor; any other tensor unchanged."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


class Strategy(ABC):
    """Base class of strategies to train a model on several ranks.

    `compute` leaves the gradients of the mean loss of the whole batch, and returns this rank's share of the loss, None
    where the rank has none; every rank that has one has an equal share. `step` goes around whatever may block, and `wait`
    waits for the device: only so is a hang located where it arose.
    """

    step: Step = staticmethod(unmarked)
    wait: Callable[[], object] = staticmethod(no_wait)

    @property
    @abstractmethod
    def parameters(self) -> Sequence[Tensor]:
        """Return the parameters that this rank's optimizer updates."""

    @abstractmethod
    def compute(self, tokens: Tensor) -> Tensor | None:
        """Run forward and backward on a batch (B, T + 1) on the device, which all ranks get."""

    def forward_backward(self, model: Callable[[Tensor], Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, and leave its gradients in the parameters."""
        with self.step("forward"):
            found = loss(model(tokens), targets)
            self.wait()
        with self.step("backward"):
            found.backward()  # type: ignore[no-untyped-call]
            self.wait()
        return found.detach()

    def optimizer(self, kind: type[torch.optim.Optimizer], settings: dict[str, Any]) -> torch.optim.Optimizer:
        """Return the optimizer of the local parameters."""
        # One group for each mesh: kernels that update many at once take no mixture of sharded and whole ones.
        groups: dict[Any, list[Tensor]] = {}
        for parameter in self.parameters:
            groups.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
        return kind([{"params": parameters} for parameters in groups.values()], **settings)

    @abstractmethod
    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return all local parameters."""


class SingleDevice(Strategy):
    """Single device with the whole batch: the reference for all other strategies."""

    def __init__(self, model: Decoder) -> None:
        self.model = model

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return all parameters of the model."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """Run forward and backward on the whole batch."""
        return self.forward_backward(self.model, tokens[:, :-1], tokens[:, 1:])

    def local_parameters(self) -> Iterator[LocalParameter]:
        """Return the whole model, once."""
        for name, parameter in self.model.named_parameters():
            yield LocalParameter(name, parameter, 1, "all")


def average_gradients(parameters: Sequence[Tensor], ranks: int, group: Any = None) -> None:
    """Average the gradients over the ranks of a group, in one all-reduce."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat, group=group)
    means = torch.split_with_sizes(flat.div(ranks), [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def local_sequences(tokens: Tensor, rank: int, ranks: int) -> Tensor:
    """Return the sequences of a batch that belong to a rank."""
    return tokens[rank::ranks]
