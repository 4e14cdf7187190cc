"""Training by one mode for some steps, on one rank: what every step gave, and what is left at the end."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

from readiness.multichip.comparing import digest
from readiness.parallel.data import gradient
from readiness.parallel.trainer import Held, Step, Trainer
from readiness.parity.transformer import text
from readiness.ranks.values import Json, RankContext

Tensor = torch.Tensor

OPTIMIZERS: Mapping[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "adamw": (torch.optim.AdamW, {"lr": 3e-3, "weight_decay": 0.1}),
}


def batches(context: RankContext, vocabulary: int, batch: int, length: int, steps: int) -> list[Tensor]:
    """The same token ids (batch, length + 1) for each step on every rank, on the CPU."""
    draw = context.accelerator.generator("parallelism", "tokens", vocabulary, batch, length)
    return [text(draw, vocabulary, batch, length + 1) for _ in range(steps)]


def train(
    trainer: Trainer, optimizer: str, data: Sequence[Tensor], device: torch.device, step: Step, wait: Callable[[], object]
) -> Json:
    """One step on each batch. `step` goes around whatever may block, `wait` is for the device to be done.

    `losses` are this rank's shares, None where it has none; `squares` what it adds to the square of the gradient's norm,
    in float64; `replicas` by step the digest of what it holds, by what it has in common with others.
    """
    update = trainer.optimizer(*OPTIMIZERS[optimizer])
    losses: list[float | None] = []
    squares: list[float] = []
    replicas: list[dict[str, str]] = []
    for number, tokens in enumerate(data):
        trainer.step, trainer.wait = partial(_numbered, step, number), wait
        update.zero_grad()
        found = trainer.compute(tokens.to(device))
        with step(f"update of step {number}"):
            squares.append(math.fsum(_squares(trainer)))
            update.step()
            wait()
            losses.append(None if found is None else float(found.cpu()))
            replicas.append(_replicas(trainer.held()))
    return {"losses": losses, "squares": squares, "replicas": replicas}


def _numbered(step: Step, number: int, what: str) -> AbstractContextManager[None]:
    return step(f"{what} of step {number}")


def _squares(trainer: Trainer) -> Iterator[float]:
    """In float64 on the CPU: in float32 the small gradients would vanish in the sum. Copies count once."""
    for held in trainer.held():
        found = gradient(held)
        if found is not None:
            yield float(found.detach().cpu().double().square().sum()) / held.copies


def _replicas(parts: Iterator[Held]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for held in parts:
        found.setdefault(held.key, []).append(digest(held.local))
    return {key: _joined(digests) for key, digests in found.items()}


def left_over(trainer: Trainer, reference: Mapping[str, Tensor]) -> Json:
    """The worst parameter at the end: |found - reference| over its root mean square, and its name; digests as by step.

    NaN and shapes first; then every element. What PyTorch has divided is put together by all ranks, and then they all
    must have the same.
    """
    worst, about = 0.0, ""
    digests: dict[str, list[str]] = {}
    for held in trainer.held():
        found = held.whole()
        wanted = reference[held.name].detach().cpu()
        wanted = wanted if held.rows is None else wanted[held.rows]
        together = "put together" if held.rows is None else f"put together, rows {held.rows.start} to {held.rows.stop}"
        digests.setdefault(together if held.full else held.key, []).append(digest(found))
        error = _error(found.double(), wanted.double())
        if error > worst or not about:
            worst, about = error, held.name
    return {"parameter_difference": worst, "parameter": about, "left": {key: _joined(told) for key, told in digests.items()}}


def _joined(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _error(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape or not bool(found.isfinite().all()):
        return math.inf
    size = float(wanted.square().mean().sqrt())
    return float((found - wanted).abs().max()) / size if size else float((found != wanted).any())
