"""Mixture of experts: a few experts work on each token, on one chip or distributed over ranks.

Routing is DeepSeek-V3's, with one shared expert, or Qwen3's (`readiness.probes.parity.moe_routing`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from readiness.probes.parallelism.model_shape import CHOSEN, CHOSEN_GROUPS, GATE_SCALE, GROUPS, ModelShape
from readiness.probes.parity.moe_routing import choose_experts, gate_scores, gate_weights
from readiness.probes.parity.transformer import GatedFeedForward

Tensor = torch.Tensor
DEEPSEEK, QWEN = "deepseek", "qwen"


class Router(nn.Module):
    """Router: chooses the experts of a token and their weights."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.deepseek = shape.routing == DEEPSEEK
        self.gate = nn.Linear(shape.width, shape.experts, bias=False)
        self.bias = nn.Parameter(torch.zeros(shape.experts), requires_grad=False) if self.deepseek else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, width) to the experts' numbers and weights, (N, chosen) each."""
        scores = gate_scores(self.gate(tokens), sigmoid=self.deepseek)
        if self.bias is None:
            chosen = choose_experts(scores.detach(), CHOSEN)
        else:
            biased = scores.detach() + self.bias.to(scores.dtype)
            chosen = choose_experts(biased, CHOSEN, groups=GROUPS, best_groups=CHOSEN_GROUPS)
        weights = gate_weights(scores, chosen, GATE_SCALE if self.deepseek else 1.0)
        return chosen, weights.to(tokens.dtype)


class Experts(nn.Module):
    """Router and its experts. `distribute` keeps a part of them; without it, all are local."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.router = Router(shape)
        self.stacked = StackedExperts(shape)
        self.shared = GatedFeedForward(shape.width, shape.hidden) if shape.routing == DEEPSEEK else None
        self.group, self.ranks = None, 1

    def distribute(self, rank: int, ranks: int, group: Any = None) -> None:
        """Keep this rank's share of the experts."""
        self.ranks, self.group = ranks, group
        for name, whole in list(self.stacked.named_parameters()):
            setattr(self.stacked, name, nn.Parameter(whole.detach().chunk(ranks)[rank].clone()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to the same shape."""
        tokens = x.flatten(0, 1)
        chosen, weights = self.router(tokens)
        order = chosen.flatten().argsort(stable=True)  # by expert; of one expert in the order of the tokens
        source = order // CHOSEN
        counts = torch.bincount(chosen.flatten().cpu(), minlength=self.router.gate.out_features)
        worked = self._through_experts(tokens.index_select(0, source), counts)
        weighted = worked * weights.flatten().index_select(0, order).unsqueeze(-1)
        out = torch.zeros_like(tokens).index_add(0, source, weighted)
        return (out if self.shared is None else out + self.shared(tokens)).view_as(x)

    def _through_experts(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Run tokens (M, width), ordered by expert, through the experts; `counts` are each expert's, on the CPU."""
        if self.ranks == 1:
            return self.stacked(tokens, counts.unsqueeze(0))  # type: ignore[no-any-return]
        from readiness.probes.parallelism.autograd_collectives import all_to_all_counts, all_to_all_rows

        arriving = all_to_all_counts(counts.view(self.ranks, -1), tokens.device, self.group)
        sent, received = counts.view(self.ranks, -1).sum(1).tolist(), arriving.sum(1).tolist()
        here = all_to_all_rows(tokens, sent, received, self.group)
        return all_to_all_rows(self.stacked(here, arriving), received, sent, self.group)


class StackedExperts(nn.Module):
    """Gated feed-forwards of the local experts, stacked: (local experts, hidden, width) and the like."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.empty(shape.experts, shape.hidden, shape.width))
        self.ups = nn.Parameter(torch.empty(shape.experts, shape.hidden, shape.width))
        self.downs = nn.Parameter(torch.empty(shape.experts, shape.width, shape.hidden))

    def forward(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Run tokens (M, width) through their experts; `counts` (ranks, local experts) gives their origin."""
        sizes = counts.flatten().tolist()
        parts = torch.split_with_sizes(tokens, sizes)
        worked = []
        for number, portion in enumerate(parts):
            expert = number % counts.shape[1]
            fed = functional.silu(portion @ self.gates[expert].mT) * (portion @ self.ups[expert].mT)
            worked.append(fed @ self.downs[expert].mT)
        return torch.cat(worked)
