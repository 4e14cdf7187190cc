"""Routing of a mixture of experts: gate scores, chosen experts, and their weights.

DeepSeek-V3 (arXiv 2412.19437) has sigmoid gates, a bias that only chooses, and chooses from the best groups of experts;
Qwen3 (arXiv 2505.09388) has a softmax.
"""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def gate_scores(logits: Tensor, *, sigmoid: bool) -> Tensor:
    """Return expert scores from gate logits, (tokens, experts) each, in at least float32."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.sigmoid() if sigmoid else logits.softmax(-1)


def choose_experts(scores: Tensor, count: int, *, groups: int = 1, best_groups: int = 1) -> Tensor:
    """Return the `count` best experts of each token, (tokens, count); with `groups`, only of those in the best groups."""
    return (scores if groups == 1 else of_best_groups(scores, groups, best_groups)).topk(count, -1).indices


def of_best_groups(scores: Tensor, groups: int, best_groups: int) -> Tensor:
    """Return the scores of experts in the best groups, minus infinity for all others."""
    best = group_scores(scores, groups).topk(best_groups, -1).indices
    return of_groups(scores, torch.zeros_like(scores[..., :groups]).scatter(-1, best, 1.0))


def group_scores(scores: Tensor, groups: int) -> Tensor:
    """Return group scores (tokens, groups): the sum of each group's two best experts."""
    return scores.view(len(scores), groups, -1).topk(2, -1).values.sum(-1)


def of_groups(scores: Tensor, kept: Tensor) -> Tensor:
    """Return scores (tokens, experts) where `kept` (tokens, groups) is not zero, elsewhere minus infinity."""
    experts = kept.unsqueeze(-1).expand(*kept.shape, scores.shape[-1] // kept.shape[-1]).flatten(-2)
    return scores.masked_fill(experts == 0, float("-inf"))


def gate_weights(scores: Tensor, chosen: Tensor, scale: float = 1.0) -> Tensor:
    """Return the weights of the chosen experts, (tokens, count): their scores, normalised to a sum of `scale`."""
    weights = scores.gather(-1, chosen)
    return weights / weights.sum(-1, keepdim=True) * scale
