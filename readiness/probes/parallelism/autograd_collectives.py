"""Collectives with gradients: all_to_all of rows, a step of a ring, all_gather, inside a forward pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

Tensor = torch.Tensor


class _AllToAllRows(torch.autograd.Function):
    """Uneven all_to_all of rows; the gradient goes back with the splits exchanged."""

    @staticmethod
    def forward(context: Any, rows: Tensor, sent: list[int], received: list[int], group: Any) -> Tensor:
        """Send rows for rank 0, rank 1, ...; return the rows from all ranks for this one."""
        context.sent, context.received, context.group = sent, received, group
        out = rows.new_empty((sum(received), *rows.shape[1:]))
        dist.all_to_all_single(out, rows.contiguous(), received, sent, group=group)
        return out

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradients of the sent rows."""
        out = gradient.new_empty((sum(context.sent), *gradient.shape[1:]))
        dist.all_to_all_single(out, gradient.contiguous(), context.sent, context.received, group=context.group)
        return out, None, None, None


def all_to_all_rows(rows: Tensor, sent: list[int], received: list[int], group: Any = None) -> Tensor:
    """Send so many rows to each rank, and receive so many from each."""
    return _AllToAllRows.apply(rows, sent, received, group)  # type: ignore[no-any-return, no-untyped-call]


def all_to_all_counts(counts: Tensor, device: torch.device, group: Any = None) -> Tensor:
    """Exchange the counts of rows for each expert, on the CPU; `counts` (ranks, experts) are those that are sent."""
    given = counts.to(device)
    out = torch.empty_like(given)
    dist.all_to_all_single(out, given, group=group)
    return out.cpu()


class _RingStep(torch.autograd.Function):
    """Send a tensor to the next rank and receive the previous one's; the gradient goes back."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, rank: int, ranks: int) -> Tensor:
        """Make one step around the ring."""
        context.place = rank, ranks
        return _send_on(tensor, (rank + 1) % ranks, (rank - 1) % ranks)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Make one step in the other direction."""
        rank, ranks = context.place
        return _send_on(gradient, (rank - 1) % ranks, (rank + 1) % ranks), None, None


def _send_on(tensor: Tensor, target: int, source: int) -> Tensor:
    out = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    both = [dist.P2POp(dist.isend, tensor.contiguous(), target), dist.P2POp(dist.irecv, out, source)]
    for work in dist.batch_isend_irecv(both):
        work.wait()
    return out


def ring_step(tensor: Tensor, rank: int, ranks: int) -> Tensor:
    """Send a tensor to the next rank of the ring; return the previous rank's."""
    return _RingStep.apply(tensor, rank, ranks)  # type: ignore[no-any-return, no-untyped-call]


class _AllGather(torch.autograd.Function):
    """All-gather along a dimension; each rank gets the sum of all gradients of its part."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, dimension: int, rank: int, ranks: int) -> Tensor:
        """Gather in the order of the ranks."""
        context.place = dimension, rank, ranks
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(ranks)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts, dimension)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Sum the gradients over the ranks."""
        dimension, rank, ranks = context.place
        whole = gradient.contiguous().clone()
        dist.all_reduce(whole)
        return whole.chunk(ranks, dimension)[rank].contiguous(), None, None, None


def all_gather(tensor: Tensor, dimension: int, rank: int, ranks: int) -> Tensor:
    """Gather a tensor of which every rank has one part."""
    return _AllGather.apply(tensor, dimension, rank, ranks)  # type: ignore[no-any-return, no-untyped-call]
