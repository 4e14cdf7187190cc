"""What ranks hand to each other inside a forward pass, with the gradient's way back."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

Tensor = torch.Tensor


class _Exchange(torch.autograd.Function):
    """Uneven all_to_all of rows; the gradient goes the other way with the splits changed over."""

    @staticmethod
    def forward(context: Any, rows: Tensor, sent: list[int], received: list[int], group: Any) -> Tensor:
        """Rows for rank 0, then for rank 1, ...; the rows that all ranks have for this one."""
        context.sent, context.received, context.group = sent, received, group
        out = rows.new_empty((sum(received), *rows.shape[1:]))
        dist.all_to_all_single(out, rows.contiguous(), received, sent, group=group)
        return out

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradients of the rows that were sent."""
        out = gradient.new_empty((sum(context.sent), *gradient.shape[1:]))
        dist.all_to_all_single(out, gradient.contiguous(), context.sent, context.received, group=context.group)
        return out, None, None, None


def exchange(rows: Tensor, sent: list[int], received: list[int], group: Any = None) -> Tensor:
    """So many rows to each rank, and so many from each."""
    return _Exchange.apply(rows, sent, received, group)  # type: ignore[no-any-return, no-untyped-call]


def exchange_counts(counts: Tensor, device: torch.device, group: Any = None) -> Tensor:
    """How many rows come from each rank for each of our experts, on the CPU; `counts` (ranks, experts) is what we send."""
    given = counts.to(device)
    out = torch.empty_like(given)
    dist.all_to_all_single(out, given, group=group)
    return out.cpu()


class _Shift(torch.autograd.Function):
    """A tensor to the next rank, and the previous one's in its place; the gradient goes back."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, rank: int, ranks: int) -> Tensor:
        """One step of a ring."""
        context.place = rank, ranks
        return _passed(tensor, (rank + 1) % ranks, (rank - 1) % ranks)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """One step the other way round."""
        rank, ranks = context.place
        return _passed(gradient, (rank - 1) % ranks, (rank + 1) % ranks), None, None


def _passed(tensor: Tensor, target: int, source: int) -> Tensor:
    out = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    both = [dist.P2POp(dist.isend, tensor.contiguous(), target), dist.P2POp(dist.irecv, out, source)]
    for work in dist.batch_isend_irecv(both):
        work.wait()
    return out


def shift(tensor: Tensor, rank: int, ranks: int) -> Tensor:
    """What the previous rank of the ring has."""
    return _Shift.apply(tensor, rank, ranks)  # type: ignore[no-any-return, no-untyped-call]


class _Gather(torch.autograd.Function):
    """All ranks' tensors along a dimension; each gets back the sum of what all have of its part's gradient."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, dimension: int, rank: int, ranks: int) -> Tensor:
        """In the order of the ranks."""
        context.place = dimension, rank, ranks
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(ranks)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts, dimension)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Summed over the ranks."""
        dimension, rank, ranks = context.place
        whole = gradient.contiguous().clone()
        dist.all_reduce(whole)
        return whole.chunk(ranks, dimension)[rank].contiguous(), None, None, None


def gather(tensor: Tensor, dimension: int, rank: int, ranks: int) -> Tensor:
    """The whole of which every rank has one part."""
    return _Gather.apply(tensor, dimension, rank, ranks)  # type: ignore[no-any-return, no-untyped-call]
