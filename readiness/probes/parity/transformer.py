"""Small decoder-only language model with the architecture of current large ones.

RMS norm before each block, rotary positions, grouped-query attention through `scaled_dot_product_attention`, a gated
feed-forward (SwiGLU), output tied to nothing. Random weights: what is compared is arithmetic, not skill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]
#: Keys and values of each layer, (batch, key heads, positions so far, width of a head).
Cache = list[Pair]


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the model. `width` is divided among `heads`; `key_heads` is the number of key and value heads."""

    vocabulary: int = 192
    width: int = 64
    layers: int = 2
    heads: int = 4
    key_heads: int = 2
    hidden: int = 160


class Norm(nn.Module):
    """Root mean square normalisation of the last dimension, computed in at least float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        wide = x if x.dtype == torch.float64 else x.float()
        size = wide.square().mean(-1, keepdim=True)
        return (wide * torch.rsqrt(size + 1e-6)).to(x.dtype) * self.weight


class Attention(nn.Module):
    """Causal attention with grouped query heads and rotary positions."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        head = size.width // size.heads
        self.heads, self.key_heads = size.heads, size.key_heads
        self.query = nn.Linear(size.width, size.heads * head, bias=False)
        self.key = nn.Linear(size.width, size.key_heads * head, bias=False)
        self.value = nn.Linear(size.width, size.key_heads * head, bias=False)
        self.output = nn.Linear(size.heads * head, size.width, bias=False)

    def project(self, x: Tensor, turn: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values by head, (B, heads, T, head), the first two turned by their positions."""
        query = rotate(self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2), turn)
        key = rotate(self.key(x).unflatten(-1, (self.key_heads, -1)).transpose(1, 2), turn)
        value = self.value(x).unflatten(-1, (self.key_heads, -1)).transpose(1, 2)
        return query, key, value

    def forward(self, x: Tensor, turn: Pair, past: Pair | None) -> tuple[Tensor, Pair]:
        """Map (B, T, width) to the same shape, and return keys and values of all positions so far."""
        query, key, value = self.project(x, turn)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=past is None, enable_gqa=True
        )
        return self.output(out.transpose(1, 2).flatten(2)), (key, value)


class GatedFeedForward(nn.Module):
    """Gated feed-forward (SwiGLU) that works on every token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        return self.down(functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and gated feed-forward, each behind a norm and beside a residual."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = Norm(size.width), Norm(size.width)
        self.attention = Attention(size)
        self.gate = nn.Linear(size.width, size.hidden, bias=False)
        self.up = nn.Linear(size.width, size.hidden, bias=False)
        self.down = nn.Linear(size.hidden, size.width, bias=False)

    def forward(self, x: Tensor, turn: Pair, past: Pair | None) -> tuple[Tensor, Pair]:
        """Map (B, T, width) to the same shape, and return the layer's keys and values."""
        attended, cache = self.attention(self.attention_norm(x), turn, past)
        x = x + attended
        normal = self.feed_norm(x)
        return x + self.down(functional.silu(self.gate(normal)) * self.up(normal)), cache


class Transformer(nn.Module):
    """Decoder from token ids (B, T) to logits (B, T, vocabulary)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = Norm(size.width)
        self.head = nn.Linear(size.width, size.vocabulary, bias=False)

    def of(self, tokens: Tensor, turn: Pair) -> Tensor:
        """Logits of a whole text whose positions have these angles: nothing is made on the host meanwhile."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x, _ = block(x, turn, None)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Return logits and the cache for the next tokens. Several tokens at once only if `cache` is None."""
        start = cache[0][0].shape[2] if cache else 0
        x = self.embedding(tokens)
        turn = angles(start, tokens.shape[1], self.size.width // self.size.heads, x)
        kept: Cache = []
        for index, block in enumerate(self.blocks):
            x, pair = block(x, turn, cache[index] if cache else None)
            kept.append(pair)
        return self.head(self.norm(x)), kept

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the mean cross entropy of each next token, in at least float32."""
        logits, _ = self(tokens[:, :-1])
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def angles(start: int, count: int, width: int, like: Tensor) -> Pair:
    """Return cosines and sines (count, width / 2) of positions from `start` on, computed on the host, like `like`."""
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    turns = torch.arange(start, start + count, dtype=torch.float64).unsqueeze(1) * rates
    return turns.cos().to(like.dtype).to(like.device), turns.sin().to(like.dtype).to(like.device)


def rotate(x: Tensor, turn: Pair) -> Tensor:
    """Apply rotary positions: rotate the halves of each head (B, H, T, width) against each other."""
    first, second = x.chunk(2, -1)
    cosine, sine = (table.to(x.dtype) for table in turn)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def build(generator: torch.Generator, size: Size | None = None) -> Transformer:
    """Return a model in float32 on the CPU with weights drawn from `generator`."""
    size = size or Size()
    with torch.device("meta"):
        model = Transformer(size)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
            else:
                deviation = 1.0 if name == "embedding.weight" else parameter.shape[-1] ** -0.5
                parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))
    return model


def text(generator: torch.Generator, vocabulary: int, batch: int, length: int) -> Tensor:
    """Return learnable token ids (batch, length): each follows from the last by a fixed step, with a few errors."""
    start = torch.randint(vocabulary, (batch, 1), generator=generator)
    steps = 7 + torch.randint(2, (batch, 1), generator=generator)
    tokens = (start + steps * torch.arange(length)) % vocabulary
    slips = torch.rand(tokens.shape, generator=generator) < 0.05
    return torch.where(slips, torch.randint(vocabulary, tokens.shape, generator=generator), tokens)


def copy(weights: Mapping[str, Tensor], dtype: torch.dtype, size: Size | None = None) -> Transformer:
    """Return a copy of the model on the CPU in this dtype."""
    with torch.device("meta"):
        model = Transformer(size or Size())
    values = {name: weight.detach().cpu().to(dtype, copy=True) for name, weight in weights.items()}
    model.load_state_dict(values, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_()
    return model
