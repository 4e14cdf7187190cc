"""Training and decoding of the small transformer, on the device and in float64 on the host."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from readiness.numerics import name_of, on_host, unit_roundoff
from readiness.probes.parity.transformer import Transformer

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """Result of a training: the loss of each step, and the first step's gradients by parameter, on the host."""

    losses: tuple[float, ...]
    gradients: dict[str, Tensor]


def train(
    model: Transformer,
    batches: Sequence[Tensor],
    device: torch.device,
    *,
    autocast: torch.dtype | None = None,
    rate: float = 0.2,
    momentum: float = 0.9,
) -> TrainingRun:
    """Train the model, moved to the device, one step per batch of token ids; autocast lowers the forward pass.

    Plain gradient descent with momentum: an adaptive optimizer divides each gradient by its own size, which would hide a
    gradient that is wrong by a factor and blow up the roundoff of those that are nearly zero.
    """
    model = model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    losses: list[Tensor] = []
    gradients: dict[str, Tensor] = {}
    for step, tokens in enumerate(batches):
        optimizer.zero_grad()
        with lowered(device, autocast):
            loss = model.loss(tokens.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            gradients = {name: gradient(parameter) for name, parameter in model.named_parameters()}
        optimizer.step()
        losses.append(loss.detach())
    return TrainingRun(tuple(float(loss.cpu()) for loss in losses), gradients)


@contextlib.contextmanager
def lowered(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Autocast to the dtype. Raises NotImplementedError if torch would only warn and use full precision."""
    if dtype is None:
        yield
        return
    with warnings.catch_warnings(), torch.autocast(device.type, dtype=dtype):
        warnings.simplefilter("ignore")  # of a dtype that autocast does not know; the line below tells
        if not torch.is_autocast_enabled(device.type) or torch.get_autocast_dtype(device.type) != dtype:
            raise NotImplementedError(f"autocast to {name_of(dtype)} is not available on {device.type}")
        yield


def gradient(parameter: Tensor) -> Tensor:
    """Return the gradient on the host; a missing one counts as NaN."""
    return torch.full(parameter.shape, torch.nan) if parameter.grad is None else parameter.grad.detach().cpu().clone()


#: A model that maps token ids, and the cache of those before, to logits and the cache for the next ones.
Decodes = Callable[..., tuple[Tensor, Any]]


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """Result of greedy decoding on the host: tokens (B, N), and the logits of each choice (B, N, vocabulary)."""

    tokens: Tensor
    logits: Tensor


@torch.no_grad()
def decode(model: Decodes, prompt: Tensor, count: int, text: Tensor | None = None) -> DecodeResult:
    """Decode `count` tokens after the prompt (B, T), each the most likely one, one position at a time with the cache.

    With `text` (B, count) the model goes on with its tokens in place of its own, so that each choice follows the same text
    as another model's.
    """
    cache: Any = None
    given, tokens, seen = prompt, [], []
    for step in range(count):
        logits, cache = model(given, cache)
        seen.append(logits[:, -1])
        chosen = logits[:, -1].argmax(-1, keepdim=True)
        tokens.append(chosen)
        given = chosen if text is None else text[:, step : step + 1].to(prompt.device)
    return DecodeResult(torch.cat(tokens, 1).cpu(), torch.stack(seen, 1).cpu())


@torch.no_grad()
def forward(model: Decodes, prompt: Tensor, chosen: Tensor) -> Tensor:
    """Return the logits (B, N, vocabulary) on the host that the tokens should come from: one pass, no cache."""
    sequence = torch.cat([prompt, chosen[:, :-1].to(prompt.device)], 1)
    logits: Tensor = model(sequence)[0][:, prompt.shape[1] - 1 :]
    return logits.cpu()


#: A choice is in doubt where the best logit leads it by no more than so many roundoffs of the row's root mean square.
DOUBT = 64.0


def disagreements(chosen: Tensor, reference: Tensor, dtype: torch.dtype) -> tuple[int, int]:
    """Return how many chosen tokens (B, N) float64 would clearly not have chosen, and how many it clearly chooses at all.

    `reference` are the float64 logits at those places. Choices in doubt are not counted.
    """
    logits = on_host(reference)
    best = logits.topk(2, -1).values
    clear = best[..., 0] - best[..., 1] > DOUBT * unit_roundoff(dtype) * root_mean_square(logits)
    return int(clearly_wrong(chosen, logits, dtype).sum()), int(clear.sum())


def clearly_wrong(chosen: Tensor, reference: Tensor, dtype: torch.dtype, doubt: float = DOUBT) -> Tensor:
    """Return for each chosen token (B, N) whether the reference's logits on the host would clearly not have chosen it."""
    valid = (chosen >= 0) & (chosen < reference.shape[-1])
    return ~valid | (lead_over(chosen, reference) > doubt * unit_roundoff(dtype) * root_mean_square(reference))


def lead_over(chosen: Tensor, logits: Tensor) -> Tensor:
    """Return by how much the best logit (B, N, vocabulary) leads that of each chosen token (B, N)."""
    index = chosen.clamp(0, logits.shape[-1] - 1).unsqueeze(-1)
    return logits.amax(-1) - logits.gather(-1, index).squeeze(-1)


def root_mean_square(logits: Tensor) -> Tensor:
    """Return the root mean square over the vocabulary."""
    return logits.square().mean(-1).sqrt()


def loss_difference(training_run: TrainingRun, reference: TrainingRun) -> float:
    """Return the worst |loss - reference| / |reference| over the steps; infinite for a loss that is not finite."""
    pairs = zip(training_run.losses, reference.losses, strict=True)
    return max(abs(have - want) / abs(want) if math.isfinite(have) else math.inf for have, want in pairs)


def decrease(training_run: TrainingRun) -> float:
    """Return the mean of the last three losses over the first; infinite if the first is not positive."""
    last = training_run.losses[-3:]
    return sum(last) / len(last) / training_run.losses[0] if training_run.losses[0] > 0 else math.inf
