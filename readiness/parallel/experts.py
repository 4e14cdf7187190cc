"""Experts of which a few work on each token, whole on one chip or dealt out over ranks that exchange tokens.

How they are chosen is DeepSeek-V3's way (arXiv 2412.19437: sigmoid gates, a bias that only chooses, the best groups of
experts first, one shared expert) or Qwen3's (arXiv 2505.09388: a softmax, and the chosen ones' weights normalised).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from readiness.parallel.shape import CHOSEN, CHOSEN_GROUPS, GATE_SCALE, GROUPS, Shape

Tensor = torch.Tensor
DEEPSEEK, QWEN = "deepseek", "qwen"


class Router(nn.Module):
    """Which experts work on a token, and with what weight."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.deepseek = shape.routing == DEEPSEEK
        self.gate = nn.Linear(shape.width, shape.experts, bias=False)
        self.bias = nn.Parameter(torch.zeros(shape.experts), requires_grad=False) if self.deepseek else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, width) to the experts' numbers and weights, (N, chosen) each."""
        logits = self.gate(tokens)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.bias is None:
            scores = logits.softmax(-1)
            chosen = scores.detach().topk(CHOSEN, -1).indices
        else:
            scores = logits.sigmoid()
            chosen = _limited(scores.detach() + self.bias.to(scores.dtype)).topk(CHOSEN, -1).indices
        weights = scores.gather(-1, chosen)
        weights = weights / weights.sum(-1, keepdim=True) * (GATE_SCALE if self.deepseek else 1.0)
        return chosen, weights.to(tokens.dtype)


def _limited(scores: Tensor) -> Tensor:
    """Scores of the experts in the best groups; a group is as good as its two best experts together."""
    grouped = scores.view(-1, GROUPS, scores.shape[-1] // GROUPS)
    best = grouped.topk(2, -1).values.sum(-1).topk(CHOSEN_GROUPS, -1).indices
    kept = torch.zeros_like(grouped[..., 0]).scatter(-1, best, 1.0).unsqueeze(-1).expand_as(grouped)
    return scores.masked_fill(kept.flatten(-2) == 0, float("-inf"))


class Experts(nn.Module):
    """A router and the experts among which it chooses. `spread` deals them out; without it, all are here."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.router = Router(shape)
        self.stacked = Stacked(shape)
        self.shared = Gated(shape) if shape.routing == DEEPSEEK else None
        self.group, self.ranks = None, 1

    def spread(self, rank: int, ranks: int, group: Any = None) -> None:
        """Keep this rank's share of the experts."""
        self.ranks, self.group = ranks, group
        for name, whole in list(self.stacked.named_parameters()):
            setattr(self.stacked, name, nn.Parameter(whole.detach().chunk(ranks)[rank].clone()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to the same."""
        tokens = x.flatten(0, 1)
        chosen, weights = self.router(tokens)
        order = chosen.flatten().argsort(stable=True)  # by expert; of one expert in the order of the tokens
        source = order // CHOSEN
        counts = torch.bincount(chosen.flatten().cpu(), minlength=self.router.gate.out_features)
        worked = self._worked(tokens.index_select(0, source), counts)
        weighted = worked * weights.flatten().index_select(0, order).unsqueeze(-1)
        out = torch.zeros_like(tokens).index_add(0, source, weighted)
        return (out if self.shared is None else out + self.shared(tokens)).view_as(x)

    def _worked(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Tokens (M, width) in the order of their experts, through those; `counts` are each expert's, on the CPU."""
        if self.ranks == 1:
            return self.stacked(tokens, counts.unsqueeze(0))  # type: ignore[no-any-return]
        from readiness.parallel.exchange import exchange, exchange_counts

        arriving = exchange_counts(counts.view(self.ranks, -1), tokens.device, self.group)
        sent, received = counts.view(self.ranks, -1).sum(1).tolist(), arriving.sum(1).tolist()
        here = exchange(tokens, sent, received, self.group)
        return exchange(self.stacked(here, arriving), received, sent, self.group)


class Stacked(nn.Module):
    """The gated feed-forwards of the experts that are here, stacked: (experts here, hidden, width) and its like."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.empty(shape.experts, shape.hidden, shape.width))
        self.ups = nn.Parameter(torch.empty(shape.experts, shape.hidden, shape.width))
        self.downs = nn.Parameter(torch.empty(shape.experts, shape.width, shape.hidden))

    def forward(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Tokens (M, width) through their experts. `counts` (ranks, experts here) says whose tokens stand where."""
        sizes = counts.flatten().tolist()
        parts = torch.split_with_sizes(tokens, sizes)
        worked = []
        for number, portion in enumerate(parts):
            expert = number % counts.shape[1]
            fed = functional.silu(portion @ self.gates[expert].mT) * (portion @ self.ups[expert].mT)
            worked.append(fed @ self.downs[expert].mT)
        return torch.cat(worked)


class Gated(nn.Module):
    """The feed-forward that works on every token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return self.down(functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]
