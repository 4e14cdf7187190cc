"""Decoder layers of three architectures, small, in plain torch: do right operators also compose?

Built from what their authors publish: Qwen3 (arXiv 2505.09388; grouped-query attention with norms of queries and keys),
its mixture of experts (softmax over 128 experts, the chosen ones' weights normalised), DeepSeek-V3 (arXiv 2412.19437:
latent attention, sigmoid gates with a bias that only chooses, experts in groups, one shared expert). Sizes are ours.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from readiness.probes.parity.moe_routing import choose_experts, gate_scores, gate_weights, group_scores, of_groups
from readiness.probes.parity.transformer import GatedFeedForward, Norm, Pair, angles, rotate

Tensor = torch.Tensor
_WIDTH, _HEADS, _KEY_HEADS, _HEAD, _HIDDEN = 128, 8, 2, 32, 208
#: Experts, those that work on a token, and how wide one is.
_EXPERTS, _CHOSEN, _EXPERT_HIDDEN = 16, 4, 80
#: Latent attention: of queries, of keys and values, the part of a head without and with a position, of a value.
_QUERY_RANK, _KEY_RANK, _PLAIN, _TURNED, _VALUE = 64, 48, 32, 16, 24
#: Groups of experts, those that may be chosen from, and what the gates are multiplied by.
_GROUPS, _CHOSEN_GROUPS, _SCALE = 4, 2, 2.5


@dataclass(slots=True)
class Routing:
    """Routing: the experts of each token (tokens, chosen), chosen here or given.

    They are the best by `scores` (tokens, experts); where there are `groups`, the best of a few groups of experts.
    """

    given: Tensor | None = None
    chosen: Tensor | None = None
    scores: Tensor | None = None
    groups: int = 1

    def decide(self, scores: Tensor, count: int, groups: int = 1) -> Tensor:
        """Return the `count` experts with the best scores, unless they are given."""
        self.scores, self.groups = scores.detach(), groups
        if self.given is None:
            self.chosen = choose_experts(scores, count, groups=groups, best_groups=_CHOSEN_GROUPS)
        else:
            self.chosen = self.given.to(scores.device)
        return self.chosen


class GroupedAttention(nn.Module):
    """Attention of Qwen3: query heads share key heads, and both are normalised per head before the rotation."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(_WIDTH, _HEADS * _HEAD, bias=False)
        self.key = nn.Linear(_WIDTH, _KEY_HEADS * _HEAD, bias=False)
        self.value = nn.Linear(_WIDTH, _KEY_HEADS * _HEAD, bias=False)
        self.output = nn.Linear(_HEADS * _HEAD, _WIDTH, bias=False)
        self.query_norm, self.key_norm = Norm(_HEAD), Norm(_HEAD)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to the same shape."""
        turn = angles(0, x.shape[1], _HEAD, x)
        query = rotate(self.query_norm(self.query(x).unflatten(-1, (_HEADS, -1))).transpose(1, 2), turn)
        key = rotate(self.key_norm(self.key(x).unflatten(-1, (_KEY_HEADS, -1))).transpose(1, 2), turn)
        value = self.value(x).unflatten(-1, (_KEY_HEADS, -1)).transpose(1, 2)
        out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return self.output(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class LatentAttention(nn.Module):
    """Attention of DeepSeek-V3: queries, keys and values pass a narrow layer; one rotated key serves all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.query_down, self.query_norm = nn.Linear(_WIDTH, _QUERY_RANK, bias=False), Norm(_QUERY_RANK)
        self.query_up = nn.Linear(_QUERY_RANK, _HEADS * (_PLAIN + _TURNED), bias=False)
        self.key_down, self.key_norm = nn.Linear(_WIDTH, _KEY_RANK + _TURNED, bias=False), Norm(_KEY_RANK)
        self.key_up = nn.Linear(_KEY_RANK, _HEADS * (_PLAIN + _VALUE), bias=False)
        self.output = nn.Linear(_HEADS * _VALUE, _WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to the same shape."""
        turn = angles(0, x.shape[1], _TURNED, x)
        query = self.query_up(self.query_norm(self.query_down(x))).unflatten(-1, (_HEADS, -1)).transpose(1, 2)
        plain, turned = query.split([_PLAIN, _TURNED], -1)
        latent, shared = self.key_down(x).split([_KEY_RANK, _TURNED], -1)
        both = self.key_up(self.key_norm(latent)).unflatten(-1, (_HEADS, -1)).transpose(1, 2)
        key, value = both.split([_PLAIN, _VALUE], -1)
        shared = _interleaved(shared.unsqueeze(1), turn).expand(-1, _HEADS, -1, -1)
        out = functional.scaled_dot_product_attention(
            torch.cat([plain, _interleaved(turned, turn)], -1), torch.cat([key, shared], -1), value, is_causal=True
        )
        return self.output(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _interleaved(x: Tensor, turn: Pair) -> Tensor:
    """Apply rotary positions that rotate neighbours, not halves."""
    return rotate(x.view(*x.shape[:-1], -1, 2).transpose(-1, -2).flatten(-2), turn)


class Experts(nn.Module):
    """Experts of which a few work on each token. DeepSeek-V3 has `sigmoid` gates, Qwen3 softmax."""

    def __init__(self, *, sigmoid: bool) -> None:
        super().__init__()
        self.router = nn.Linear(_WIDTH, _EXPERTS, bias=False)
        self.bias = nn.Parameter(torch.zeros(_EXPERTS)) if sigmoid else None
        self.experts = nn.ModuleList(GatedFeedForward(_WIDTH, _EXPERT_HIDDEN) for _ in range(_EXPERTS))
        self.shared = GatedFeedForward(_WIDTH, _EXPERT_HIDDEN) if sigmoid else None

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """Map (B, T, width) to the same shape; record the experts in `routing`."""
        tokens = x.flatten(0, 1)
        scores = gate_scores(self.router(tokens), sigmoid=self.bias is not None)
        if self.bias is None:
            chosen = routing.decide(scores, _CHOSEN)
        else:
            chosen = routing.decide(scores.detach() + self.bias.to(scores.dtype), _CHOSEN, _GROUPS)
        weights = gate_weights(scores, chosen, 1.0 if self.bias is None else _SCALE)
        out = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            token, place = torch.where(chosen == index)
            worked = expert(tokens.index_select(0, token)) * weights[token, place].unsqueeze(-1).to(tokens.dtype)
            out = out.index_add(0, token, worked)
        if self.shared is not None:
            out = out + self.shared(tokens)
        return out.view_as(x)


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, attention: nn.Module, feed: nn.Module) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = Norm(_WIDTH), Norm(_WIDTH)
        self.attention, self.feed = attention, feed

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """Map (B, T, width) to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        normal = self.feed_norm(x)
        fed = self.feed(normal, routing) if isinstance(self.feed, Experts) else self.feed(normal)
        return x + fed  # type: ignore[no-any-return]


ARCHITECTURES: Mapping[str, Callable[[], Layer]] = {
    "qwen3-dense": lambda: Layer(GroupedAttention(), GatedFeedForward(_WIDTH, _HIDDEN)),
    "qwen3-moe": lambda: Layer(GroupedAttention(), Experts(sigmoid=False)),
    "deepseek-v3": lambda: Layer(LatentAttention(), Experts(sigmoid=True)),
}


def build(name: str, generator: torch.Generator) -> Layer:
    """Return a layer in float32 on the CPU with weights drawn from `generator`."""
    with torch.device("meta"):
        layer = ARCHITECTURES[name]()
    layer.to_empty(device="cpu")
    with torch.no_grad():
        for key, weight in layer.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            spread = 0.1 if "norm" in key else 0.05 if key.endswith("bias") else weight.shape[-1] ** -0.5
            weight.copy_(("norm" in key) + spread * drawn)
    return layer


@dataclass(frozen=True, slots=True)
class LayerPass:
    """Result of one pass on the host: output, gradients by name, and the routing of tokens."""

    output: Tensor
    gradients: Mapping[str, Tensor]
    routing: Routing


def run(
    layer: Layer, x: Tensor, cotangent: Tensor, device: torch.device, dtype: torch.dtype, given: Tensor | None
) -> LayerPass:
    """Run forward and backward in this dtype on this device. `given` are experts that were chosen elsewhere."""
    moved = copy.deepcopy(layer).to(dtype).to(device)
    inputs = x.to(dtype).to(device).detach().clone().requires_grad_()
    routing = Routing(given)
    out = moved(inputs, routing)
    out.backward(cotangent.to(dtype).to(device))
    found = {name: weight.grad for name, weight in moved.named_parameters()} | {"input": inputs.grad}
    gradients = {name: gradient.detach().cpu() for name, gradient in found.items() if gradient is not None}
    return LayerPass(out.detach().cpu(), gradients, routing)


def misrouted(passed: LayerPass, reference: LayerPass, slack: float) -> float:
    """Return the share of tokens routed to an expert whose float64 score is worse by more than `slack` than it need be.

    Groups are chosen by sums of two scores, so twice as much there: any groups will do that are as good up to that.
    """
    chosen, scores, groups = passed.routing.chosen, reference.routing.scores, reference.routing.groups
    if chosen is None or scores is None:
        return 0.0
    chosen, scores = chosen.cpu(), scores.cpu()
    if groups == 1:
        return float((~_well_chosen(chosen, scores, slack)).double().mean())
    found = group_scores(scores, groups)
    due = found.topk(_CHOSEN_GROUPS, -1).values[..., -1]
    well = torch.zeros(len(scores), dtype=torch.bool)
    for several in itertools.combinations(range(groups), _CHOSEN_GROUPS):
        kept = torch.zeros_like(found).index_fill(-1, torch.tensor(several), 1.0)
        as_good = found[..., several].amin(-1) >= due - 2 * slack
        well |= as_good & _well_chosen(chosen, of_groups(scores, kept), slack)
    return float((~well).double().mean())


def _well_chosen(chosen: Tensor, scores: Tensor, slack: float) -> Tensor:
    """Return for each token if none of its experts is worse by more than `slack` than the best choice."""
    chosen_scores = scores.gather(-1, chosen).sort(-1, descending=True).values
    due = scores.topk(chosen.shape[-1], -1).values
    return (chosen_scores >= due - slack).all(-1)
