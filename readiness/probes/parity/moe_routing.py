"""Routing of a mixture of experts: scores of the gates, the experts chosen for each token, and their weights.

DeepSeek-V3 (arXiv 2412.19437) has sigmoid gates, a bias that only chooses, and chooses from the best groups of experts;
Qwen3 (arXiv 2505.09388) has a softmax.
"""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def gate_scores(logits: Tensor, *, sigmoid: bool) -> Tensor:
    """Scores of the experts from the gates' logits, (tokens, experts) each, in at least float32."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.sigmoid() if sigmoid else logits.softmax(-1)


def choose_experts(scores: Tensor, count: int, *, groups: int = 1, best_groups: int = 1) -> Tensor:
    """The `count` best experts of each token, (tokens, count); with `groups`, of those in the best groups alone."""
    return (scores if groups == 1 else of_best_groups(scores, groups, best_groups)).topk(count, -1).indices


def of_best_groups(scores: Tensor, groups: int, best_groups: int) -> Tensor:
    """Scores of the experts in the best groups; those of all others are minus infinity."""
    best = group_scores(scores, groups).topk(best_groups, -1).indices
    return of_groups(scores, torch.zeros_like(scores[..., :groups]).scatter(-1, best, 1.0))


def group_scores(scores: Tensor, groups: int) -> Tensor:
    """A group is as good as its two best experts together: (tokens, experts) to (tokens, groups)."""
    return scores.view(len(scores), groups, -1).topk(2, -1).values.sum(-1)


def of_groups(scores: Tensor, kept: Tensor) -> Tensor:
    """Scores (tokens, experts) where `kept` (tokens, groups) is not zero, elsewhere minus infinity."""
    experts = kept.unsqueeze(-1).expand(*kept.shape, scores.shape[-1] // kept.shape[-1]).flatten(-2)
    return scores.masked_fill(experts == 0, float("-inf"))


def gate_weights(scores: Tensor, chosen: Tensor, scale: float = 1.0) -> Tensor:
    """Weights of the chosen experts, (tokens, count): their scores, normalised to a sum of `scale`."""
    weights = scores.gather(-1, chosen)
    return weights / weights.sum(-1, keepdim=True) * scale
