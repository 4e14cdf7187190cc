"""The ranks' side of `multichip.data_parallel`: a small transformer trained on a fixed batch, alone or together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import torch
import torch._dynamo
from torch import nn
from torch.nn import functional

from readiness.multichip.comparing import digest
from readiness.multichip.replicas import replicated
from readiness.precision import strict_precision
from readiness.ranks.values import Json, RankContext

VOCABULARY = 61
WIDTH = 32
HEADS = 4
LENGTH = 24
LAYERS = 2
#: Sequences in the global batch at least; more where there are more ranks, so that each gets as many.
BATCH = 8


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each after a normalisation and around a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries_keys_values, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) to the same."""
        batch, length, _ = x.shape
        heads = self.queries_keys_values(self.attention_norm(x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind()
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        fed: torch.Tensor = x + self.feed(self.feed_norm(x))
        return fed


class Model(nn.Module):
    """Tokens (batch, length) to logits (batch, length, vocabulary)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The logits of the next token at every position."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        logits: torch.Tensor = self.head(self.norm(self.blocks(self.tokens(tokens) + self.positions(positions))))
        return logits


def model(context: RankContext) -> Model:
    """The same model on every rank: drawn on the CPU from the run's seed."""
    made = Model()
    generator = context.accelerator.generator("data_parallel", "weights")
    with torch.no_grad():
        for parameter in made.parameters():
            spread = 1 / math.sqrt(parameter.shape[-1])
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread + (parameter.dim() == 1))
    return made.to(context.device)


def batch(context: RankContext, parts: int) -> torch.Tensor:
    """The global batch, token ids (sequences, length + 1) on the host: it divides into so many parts."""
    generator = context.accelerator.generator("data_parallel", "tokens")
    return torch.randint(VOCABULARY, (-(-BATCH // parts) * parts, LENGTH + 1), generator=generator)


def rank_main(context: RankContext) -> Iterator[Json]:
    """Train `steps` steps on this rank's share of the global batch; then one report with what every step gave.

    `parts` is the number of shares that the batch is made for: the reference, alone, takes the batch of all of them.
    """
    with strict_precision():  # what the environment allows instead is more than what ranks may differ by
        yield from _train(context)


def _train(context: RankContext) -> Iterator[Json]:
    with context.step("making the model"):
        plain = model(context)
        trained: nn.Module = plain
        if context.world_size > 1:
            trained = replicated(plain, context.device)
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
        mine = batch(context, context.settings["parts"])[context.rank :: context.world_size].to(context.device)
    losses, norms, digests = [], [], []
    for number in range(context.settings["steps"]):
        # Synchronised after each part: only so is a hang told where it arose, not where the others met it.
        with context.step(f"forward of step {number}"):
            optimizer.zero_grad()
            logits = trained(mine[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), mine[:, 1:].flatten())
            context.accelerator.synchronize()
        with context.step(f"backward of step {number}"):
            loss.backward()  # type: ignore[no-untyped-call]
            context.accelerator.synchronize()
        with context.step(f"update of step {number}"):
            norms.append(_gradient_norm(plain))
            optimizer.step()
            context.accelerator.synchronize()
            losses.append(float(loss.detach()))
            digests.append(_replica(plain))
    yield {"losses": losses, "gradient_norms": norms, "replicas": digests}


def _gradient_norm(model: nn.Module) -> float:
    """In float64 on the CPU: in float32 the small gradients would vanish in the sum."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return math.sqrt(math.fsum(float(gradient.cpu().double().square().sum()) for gradient in gradients))


def _replica(model: nn.Module) -> str:
    text = "".join(digest(parameter) for parameter in model.parameters())
    return hashlib.sha256(text.encode()).hexdigest()[:16]
