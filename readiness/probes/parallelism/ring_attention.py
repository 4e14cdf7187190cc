"""Ring attention: causal attention over parts of sequences; keys and values pass around a ring, or are gathered."""

from __future__ import annotations

import torch
from torch.nn import functional

from readiness.probes.parallelism.autograd_collectives import all_gather, ring_step
from readiness.probes.parity.transformer import Attention, Pair, Size

Tensor = torch.Tensor


class ContextParallelAttention(Attention):
    """Attention of the small transformer over the tokens of all ranks; `rank` has the part with its number."""

    def __init__(self, size: Size, rank: int, ranks: int, *, ring: bool) -> None:
        super().__init__(size)
        self.rank, self.ranks, self.ring = rank, ranks, ring

    def forward(self, x: Tensor, turn: Pair, past: Pair | None) -> tuple[Tensor, Pair]:  # noqa: ARG002
        """Map (B, T / ranks, width) to the same shape, and return this rank's keys and values."""
        query, key, value = self.project(x, turn)
        out = (self._ring if self.ring else self._gathered)(query, key, value)
        return self.output(out.transpose(1, 2).flatten(2)), (key, value)

    def _gathered(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        whole_key, whole_value = (all_gather(part, 2, self.rank, self.ranks) for part in (key, value))
        return functional.scaled_dot_product_attention(
            query, whole_key, whole_value, attn_mask=self._visible(query.shape[2], 0, self.ranks, query.device)
        )

    def _ring(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Process one part of keys and values after the other, this rank's first, so that no row lacks a key.

        Softmax over parts: sums of weights and of weighted values, scaled to the largest score seen so far.
        """
        length, scale = query.shape[2], query.shape[3] ** -0.5
        wide = query.dtype if query.dtype == torch.float64 else torch.float32
        largest: Tensor | None = None
        out = total = torch.zeros((), dtype=wide, device=query.device)
        for turn in range(self.ranks):
            part = (self.rank - turn) % self.ranks
            scores = (query @ key.mT).to(wide) * scale
            scores = scores.masked_fill(~self._visible(length, part, 1, query.device), float("-inf"))
            best = scores.detach().amax(-1, keepdim=True)
            now = best if largest is None else torch.maximum(largest, best)
            weights = (scores - now).exp()
            fade = torch.ones_like(now) if largest is None else (largest - now).exp()
            out = out * fade + weights @ value.to(wide)
            total = total * fade + weights.sum(-1, keepdim=True)
            largest = now
            if turn < self.ranks - 1:
                key, value = (ring_step(tensor, self.rank, self.ranks) for tensor in (key, value))
        return (out / total).to(query.dtype)

    def _visible(self, length: int, part: int, parts: int, device: torch.device) -> Tensor:
        """Return which keys of the parts from `part` on each query of this rank may see."""
        queries = torch.arange(self.rank * length, (self.rank + 1) * length).unsqueeze(1)
        keys = torch.arange(part * length, (part + parts) * length)
        return (keys <= queries).to(device)


def over_ranks(attention: Attention, size: Size, rank: int, ranks: int, *, ring: bool) -> ContextParallelAttention:
    """Return the same attention with the same parameters, over ranks."""
    with torch.device("meta"):
        parallel = ContextParallelAttention(size, rank, ranks, ring=ring)
    for name in ("query", "key", "value", "output"):
        setattr(parallel, name, getattr(attention, name))
    return parallel
