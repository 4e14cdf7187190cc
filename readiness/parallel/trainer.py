"""What all modes of training have in common: one step on a batch, and what each rank then holds of the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from readiness.parallel.model import Decoder, loss

Tensor = torch.Tensor
#: What goes around an operation, given its name.
Step = Callable[[str], AbstractContextManager[None]]


def silent(what: str) -> AbstractContextManager[None]:  # noqa: ARG001
    """Where nobody watches."""
    return nullcontext()


def nothing() -> None:
    """The host is always done."""


@dataclass(frozen=True, slots=True)
class Held:
    """A parameter as one rank holds it.

    `name` is what the whole model calls it. `copies` is how many ranks hold the same elements, and `key` what they have
    in common: two ranks that tell the same key must hold the same bytes. `rows` says which of the whole one's first
    dimension these are, None for all; a parameter that PyTorch has divided (`full`) is put together for the comparison.
    """

    name: str
    parameter: Tensor
    copies: int
    key: str
    rows: slice | None = None
    full: bool = False

    @property
    def local(self) -> Tensor:
        """The elements that are here."""
        return local(self.parameter)

    def whole(self) -> Tensor:
        """All elements that are to be compared, on the CPU. Of a divided one a collective: all ranks must come."""
        tensor = self.parameter.full_tensor() if self.full else self.parameter  # type: ignore[attr-defined]
        return tensor.detach().cpu()


def local(tensor: Tensor) -> Tensor:
    """The part of a divided tensor that is here; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


class Trainer(ABC):
    """One way to train. `compute` leaves the gradients of the mean loss of the whole batch; it is this rank's share of
    the loss, None where the rank has none, and every rank that has one has an equal share.

    `step` goes around whatever may block, and `wait` is for the device to be done: only so is a hang told where it arose.
    """

    step: Step = staticmethod(silent)
    wait: Callable[[], object] = staticmethod(nothing)

    @property
    @abstractmethod
    def parameters(self) -> Sequence[Tensor]:
        """What the optimizer updates here."""

    @abstractmethod
    def compute(self, tokens: Tensor) -> Tensor | None:
        """Forward and backward on a batch (B, T + 1) that all ranks are given, on the device."""

    def passed(self, model: Callable[[Tensor], Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        """The loss, its gradients left behind."""
        with self.step("forward"):
            found = loss(model(tokens), targets)
            self.wait()
        with self.step("backward"):
            found.backward()  # type: ignore[no-untyped-call]
            self.wait()
        return found.detach()

    def optimizer(self, kind: type[torch.optim.Optimizer], settings: dict[str, Any]) -> torch.optim.Optimizer:
        """What updates the parameters that are here."""
        # One group for each mesh: kernels that update many at once take no mixture of divided and undivided ones.
        groups: dict[Any, list[Tensor]] = {}
        for parameter in self.parameters:
            groups.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
        return kind([{"params": members} for members in groups.values()], **settings)

    @abstractmethod
    def held(self) -> Iterator[Held]:
        """All parameters that are here, with what they are."""


class Alone(Trainer):
    """One device, the whole batch: what all others are held against."""

    def __init__(self, model: Decoder) -> None:
        self.model = model

    @property
    def parameters(self) -> Sequence[Tensor]:
        """All of the model."""
        return list(self.model.parameters())

    def compute(self, tokens: Tensor) -> Tensor | None:
        """The plain way."""
        return self.passed(self.model, tokens[:, :-1], tokens[:, 1:])

    def held(self) -> Iterator[Held]:
        """The whole model, once."""
        for name, parameter in self.model.named_parameters():
            yield Held(name, parameter, 1, "all")


def average(parameters: Sequence[Tensor], ranks: int, group: Any = None) -> None:
    """The mean of the gradients over the ranks, in one sum."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat, group=group)
    means = torch.split_with_sizes(flat.div(ranks), [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def share(tokens: Tensor, rank: int, ranks: int) -> Tensor:
    """A rank's sequences of a batch."""
    return tokens[rank::ranks]


def trained(model: nn.Module) -> list[Tensor]:
    """The parameters that have gradients."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
