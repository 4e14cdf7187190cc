"""Training run of one strategy on one rank: a trace of every step, and the parameters at the end."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from readiness.distributed.types import RankContext
from readiness.probes.parallelism.data_parallel import gradient
from readiness.probes.parallelism.model_shape import ModelShape
from readiness.probes.parallelism.strategy import LocalParameter, Step, Strategy
from readiness.probes.parity.transformer import text
from readiness.probes.ranks_common.tensor_diff import digest

Tensor = torch.Tensor

OPTIMIZERS: Mapping[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "adamw": (torch.optim.AdamW, {"lr": 3e-3, "weight_decay": 0.1}),
}


@dataclass(frozen=True, slots=True)
class TrainingTrace:
    """Trace of the steps of a training run on one rank.

    `losses` are this rank's shares, None where it has none; `squares` what it adds to the square of the gradient's norm,
    in float64; `replicas` the digests of what it holds, by what it has in common with other ranks.
    """

    losses: tuple[float | None, ...]
    squares: tuple[float, ...]
    replicas: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class FinalParameters:
    """Worst parameter at the end: difference from the reference, and name; and digests as in `TrainingTrace`."""

    difference: float
    parameter: str
    digests: dict[str, str]


def batches(context: RankContext, shape: ModelShape, steps: int) -> list[Tensor]:
    """Return the same token ids (batch, length + 1) of each step on every rank, on the CPU."""
    sizes = shape.vocabulary, shape.batch, shape.length
    generator = context.accelerator.generator("parallelism", "tokens", *sizes)
    return [text(generator, shape.vocabulary, shape.batch, shape.length + 1) for _ in range(steps)]


def train(
    strategy: Strategy,
    optimizer: str,
    data: Iterable[Tensor],
    device: torch.device,
    step: Step,
    wait: Callable[[], object],
) -> TrainingTrace:
    """Train one step on each batch. `step` goes around whatever may block, `wait` waits for the device."""
    update = strategy.optimizer(*OPTIMIZERS[optimizer])
    losses: list[float | None] = []
    squares: list[float] = []
    replicas: list[dict[str, str]] = []
    for number, tokens in enumerate(data):
        strategy.step, strategy.wait = partial(_numbered, step, number), wait
        update.zero_grad()
        found = strategy.compute(tokens.to(device))
        with step(f"update of step {number}"):
            squares.append(math.fsum(_squares(strategy)))
            update.step()
            wait()
            losses.append(None if found is None else float(found.cpu()))
            replicas.append(_replicas(strategy.local_parameters()))
    return TrainingTrace(tuple(losses), tuple(squares), tuple(replicas))


def _numbered(step: Step, number: int, operation: str) -> AbstractContextManager[None]:
    return step(f"{operation} of step {number}")


def _squares(strategy: Strategy) -> Iterator[float]:
    """Return the sum of squares in float64 on the CPU: in float32 small gradients would vanish. Copies count once."""
    for local in strategy.local_parameters():
        found = gradient(local)
        if found is not None:
            yield float(found.detach().cpu().double().square().sum()) / local.copies


def _replicas(parameters: Iterator[LocalParameter]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for local in parameters:
        found.setdefault(local.key, []).append(digest(local.local))
    return {key: _joined(digests) for key, digests in found.items()}


def final_parameters(strategy: Strategy, reference: Mapping[str, Tensor]) -> FinalParameters:
    """Return the worst parameter at the end by |found - reference| over the reference's rms; NaN and shapes first.

    What PyTorch has sharded is gathered by all ranks, and then they must all have the same.
    """
    worst, name = 0.0, ""
    digests: dict[str, list[str]] = {}
    for local in strategy.local_parameters():
        found = local.whole()
        wanted = reference[local.name].detach().cpu()
        wanted = wanted if local.rows is None else wanted[local.rows]
        gathered = "put together" if local.rows is None else f"put together, rows {local.rows.start} to {local.rows.stop}"
        digests.setdefault(gathered if local.full else local.key, []).append(digest(found))
        error = _error(found.double(), wanted.double())
        if error > worst or not name:
            worst, name = error, local.name
    return FinalParameters(worst, name, {key: _joined(of_key) for key, of_key in digests.items()})


def _joined(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _error(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape or not bool(found.isfinite().all()):
        return math.inf
    size = float(wanted.square().mean().sqrt())
    return float((found - wanted).abs().max()) / size if size else float((found != wanted).any())
