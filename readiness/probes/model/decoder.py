"""Decoder of a workload's configuration in plain torch: its attention, its feed-forward, its experts, its widths.

Of published builds: grouped-query attention with or without norms of heads (Llama 3, Qwen3), latent attention (DeepSeek-V3),
gated feed-forward, and experts with softmax or sigmoid gates. Weights are random: what is measured is time and arithmetic.
Only workers import this: it imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from readiness.memory_fit import architecture as architectures
from readiness.memory_fit.architecture import Architecture, Attention, Dense, Experts, LatentAttention
from readiness.probes.parity.moe_routing import choose_experts, gate_scores, gate_weights
from readiness.probes.parity.transformer import Norm, Pair, angles, rotate
from readiness.tracing import shrink_config

Tensor = torch.Tensor
#: Of each layer what is kept of the tokens so far: keys and values, or the latents that they are made of.
Cache = list[Pair]
#: A layer: from its input, the angles of positions and what it kept, to its output and what it keeps now.
LayerCall = Callable[[Tensor, Pair, Pair | None], tuple[Tensor, Pair]]


@dataclass(frozen=True, slots=True)
class Routing:
    """How experts are chosen: sigmoid gates (with a bias that only chooses) or softmax, groups, and the weights' sum."""

    sigmoid: bool = False
    groups: int = 1
    best_groups: int = 1
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A model to run: its architecture, how experts are chosen, and in words how it differs from the workload's."""

    architecture: Architecture
    routing: Routing
    described: str


def plan(config: Mapping[str, Any], *, reduced: bool, usable_bytes: float | None) -> Plan | None:
    """Return the model of a configuration: narrow if `reduced`, else with the true layers that fit; None if unreadable.

    Experts of which not even one layer's fit become fewer, halved as often as it takes.
    """
    chosen = shrink_config.reduced(shrink_config.thinned(config)) if reduced else dict(config)
    try:
        found = architectures.decoder(chosen)
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    routing = _routing(chosen)
    true = len(architectures.decoder(config).feeds)
    if reduced:
        return Plan(found, routing, f"a narrow model of {found.layers} of {true} layers, width {found.hidden}")
    fitting, halved = found, 0
    while usable_bytes is not None and halved < 12:
        layers = _fitting_layers(fitting, usable_bytes)
        if layers >= _least_layers(fitting) or not fitting.experts:
            fitting = _first_layers(fitting, max(layers, 1))
            break
        halved += 1
        fitting = _with_fewer_experts(fitting)
    experts = f", {fitting.experts} of {found.experts} experts" if halved else ""
    groups = max(1, routing.groups >> halved)
    routing = replace(routing, groups=groups, best_groups=min(routing.best_groups, groups))
    return Plan(fitting, routing, f"{fitting.layers} of {true} true layers{experts}")


def _routing(config: Mapping[str, Any]) -> Routing:
    groups = int(config.get("n_group") or 1)
    return Routing(
        sigmoid="n_group" in config or config.get("scoring_func") == "sigmoid",
        groups=groups,
        best_groups=min(groups, int(config.get("topk_group") or 1)),
        scale=float(config.get("routed_scaling_factor") or 1.0),
    )


#: Bytes of a parameter in training: itself, its gradient and two moments in float32.
_STATE_BYTES = 16


def _fitting_layers(architecture: Architecture, usable_bytes: float) -> int:
    left = usable_bytes / _STATE_BYTES - architecture.embedding - architecture.head
    count = 0
    for feed in architecture.feeds:
        left -= architecture.layer(feed).total + feed.experts
        if left < 0:
            break
        count += 1
    return count


def _least_layers(architecture: Architecture) -> int:
    """Every kind of layer once."""
    kinds = list(dict.fromkeys(architecture.feeds))
    return max(architecture.feeds.index(kind) for kind in kinds) + 1


def _first_layers(architecture: Architecture, count: int) -> Architecture:
    return replace(architecture, feeds=architecture.feeds[:count])


def _with_fewer_experts(architecture: Architecture) -> Architecture:
    feeds = [
        replace(feed, count=max(feed.count // 2, feed.chosen)) if isinstance(feed, Experts) else feed
        for feed in architecture.feeds
    ]
    return replace(architecture, feeds=tuple(feeds))


class _GroupedAttention(nn.Module):
    def __init__(self, shape: Attention) -> None:
        super().__init__()
        self.shape = shape
        width = shape.head
        self.query = nn.Linear(shape.hidden, shape.heads * width, bias=shape.bias)
        self.key = nn.Linear(shape.hidden, shape.key_heads * width, bias=shape.bias)
        self.value = nn.Linear(shape.hidden, shape.key_heads * width, bias=shape.bias)
        self.output = nn.Linear(shape.heads * width, shape.hidden, bias=shape.bias)
        if shape.normalised:
            self.query_norm, self.key_norm = Norm(width), Norm(width)

    def forward(self, x: Tensor, turn: Pair, past: Pair | None) -> tuple[Tensor, Pair]:
        query = self.query(x).unflatten(-1, (self.shape.heads, -1))
        key = self.key(x).unflatten(-1, (self.shape.key_heads, -1))
        if self.shape.normalised:
            query, key = self.query_norm(query), self.key_norm(key)
        query, key = rotate(query.transpose(1, 2), turn), rotate(key.transpose(1, 2), turn)
        value = self.value(x).unflatten(-1, (self.shape.key_heads, -1)).transpose(1, 2)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=past is None, enable_gqa=True
        )
        return self.output(out.transpose(1, 2).flatten(2)), (key, value)


class _LatentAttention(nn.Module):
    def __init__(self, shape: LatentAttention) -> None:
        super().__init__()
        self.shape = shape
        query = shape.heads * (shape.plain + shape.turned)
        if shape.query_rank:
            self.query_down, self.query_norm = nn.Linear(shape.hidden, shape.query_rank, bias=False), Norm(shape.query_rank)
        self.query_up = nn.Linear(shape.query_rank or shape.hidden, query, bias=False)
        self.key_down = nn.Linear(shape.hidden, shape.key_rank + shape.turned, bias=False)
        self.key_norm = Norm(shape.key_rank)
        self.key_up = nn.Linear(shape.key_rank, shape.heads * (shape.plain + shape.value), bias=False)
        self.output = nn.Linear(shape.heads * shape.value, shape.hidden, bias=False)

    def forward(self, x: Tensor, turn: Pair, past: Pair | None) -> tuple[Tensor, Pair]:
        shape = self.shape
        narrow = self.query_norm(self.query_down(x)) if shape.query_rank else x
        query = self.query_up(narrow).unflatten(-1, (shape.heads, -1)).transpose(1, 2)
        plain, turned = query.split([shape.plain, shape.turned], -1)
        latent, shared = self.key_down(x).split([shape.key_rank, shape.turned], -1)
        latent, shared = self.key_norm(latent), rotate(shared.unsqueeze(1), turn)
        if past is not None:
            latent, shared = torch.cat([past[0], latent], 1), torch.cat([past[1], shared], 2)
        both = self.key_up(latent).unflatten(-1, (shape.heads, -1)).transpose(1, 2)
        key, value = both.split([shape.plain, shape.value], -1)
        query = torch.cat([plain, rotate(turned, turn)], -1)
        key = torch.cat([key, shared.expand(-1, shape.heads, -1, -1)], -1)
        out = functional.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        return self.output(out.transpose(1, 2).flatten(2)), (latent, shared)


class _Gated(nn.Module):
    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(hidden, width, bias=False), nn.Linear(hidden, width, bias=False)
        self.down = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


class _Experts(nn.Module):
    """Each expert works on the tokens that chose it, one expert after the other."""

    def __init__(self, shape: Experts, routing: Routing) -> None:
        super().__init__()
        self.shape, self.routing = shape, routing
        self.router = nn.Linear(shape.hidden, shape.count, bias=False)
        self.experts = nn.ModuleList(_Gated(shape.hidden, shape.width) for _ in range(shape.count))
        self.shared = _Gated(shape.hidden, shape.shared_width) if shape.shared_width else None

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)
        scores = gate_scores(self.router(tokens), sigmoid=self.routing.sigmoid)
        chosen = choose_experts(
            scores.detach(), self.shape.chosen, groups=self.routing.groups, best_groups=self.routing.best_groups
        )
        weights = gate_weights(scores, chosen, self.routing.scale).to(tokens.dtype)
        out = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            token, place = torch.where(chosen == index)
            worked = expert(tokens.index_select(0, token)) * weights[token, place].unsqueeze(-1)
            out = out.index_add(0, token, worked.to(out.dtype))
        if self.shared is not None:
            out = out + self.shared(tokens)
        return out.view_as(x)


class _Layer(nn.Module):
    def __init__(self, architecture: Architecture, feed: Dense | Experts, routing: Routing) -> None:
        super().__init__()
        hidden, attention = architecture.hidden, architecture.attention
        self.attention_norm, self.feed_norm = Norm(hidden), Norm(hidden)
        self.attention: nn.Module
        if isinstance(attention, LatentAttention):
            self.attention = _LatentAttention(attention)
        else:
            self.attention = _GroupedAttention(attention)
        self.feed: nn.Module = _Experts(feed, routing) if isinstance(feed, Experts) else _Gated(hidden, feed.width)

    def forward(self, x: Tensor, turn: Pair, past: Pair | None) -> tuple[Tensor, Pair]:
        attended, cache = self.attention(self.attention_norm(x), turn, past)
        x = x + attended
        return x + self.feed(self.feed_norm(x)), cache


class Decoder(nn.Module):
    """Decoder from token ids (B, T) to logits (B, T, vocabulary), with a cache of what attention keeps."""

    def __init__(self, chosen: Plan) -> None:
        super().__init__()
        architecture = chosen.architecture
        attention = architecture.attention
        self.turned = attention.turned if isinstance(attention, LatentAttention) else attention.head
        self.embedding = nn.Embedding(architecture.vocabulary, architecture.hidden)
        self.layers = nn.ModuleList(_Layer(architecture, feed, chosen.routing) for feed in architecture.feeds)
        self.norm = Norm(architecture.hidden)
        self.head = nn.Linear(architecture.hidden, architecture.vocabulary, bias=False)
        if architecture.tied:
            self.head.weight = self.embedding.weight

    def forward(
        self, tokens: Tensor, cache: Cache | None = None, layers: Iterable[LayerCall] | None = None
    ) -> tuple[Tensor, Cache]:
        """Return logits and the cache for the next tokens. Several tokens at once only if `cache` is None.

        `layers` are called in place of the model's own, which they do the work of, as compiled ones do.
        """
        start = cache[0][1].shape[2] if cache else 0
        x = self.embedding(tokens)
        turn = angles(start, tokens.shape[1], self.turned, x)
        kept: Cache = []
        calls: Iterable[LayerCall] = self.layers if layers is None else layers
        for index, layer in enumerate(calls):
            x, pair = layer(x, turn, cache[index] if cache else None)
            kept.append(pair)
        return self.head(self.norm(x)), kept

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the mean cross entropy of each next token, in float32."""
        logits, _ = self(tokens[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def build(chosen: Plan, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Return a model on the device in this dtype with weights drawn from `generator`.

    Large matrices repeat a few drawn rows: it takes long to draw billions of numbers on the host, and what is multiplied
    does not change its time.
    """
    with torch.device("meta"):
        model = Decoder(chosen)
    model = model.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            norm = name.endswith("norm.weight")
            rows = min(weight.shape[0], max(1, 2**22 // max(1, weight.numel() // weight.shape[0])))
            drawn = torch.randn((rows, *weight.shape[1:]), generator=generator) * (0.1 if norm else weight.shape[-1] ** -0.5)
            repeated = drawn.repeat(-(-weight.shape[0] // rows), *[1] * (weight.dim() - 1))[: weight.shape[0]]
            weight.copy_((repeated + float(norm)).to(dtype))
    return model
