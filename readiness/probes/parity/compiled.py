"""Training steps through torch.compile beside the same steps call by call. Only workers import this."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics.unsupported import describe, is_of_compiler, is_unsupported
from readiness.probes.parity import transformer

Tensor = torch.Tensor
#: Below the first step's, where AdamW's own eps decides: a gradient that is nearly zero has no sign to agree on.
_RATE, _EPS = 1e-3, 1e-3


@dataclass(frozen=True, slots=True)
class Steps:
    """Losses and seconds of each step, and the weights after the last, on the host."""

    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    weights: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class CompiledComparison:
    """Both ways of training; or why the stack does not compile. `recompiles` are graphs made after the first step."""

    eager: Steps | None = None
    compiled: Steps | None = None
    graphs: int = 0
    recompiles: int = 0
    breaks: int = 0
    refusal: str | None = None

    @property
    def loss_errors(self) -> list[float]:
        """The relative deviation of each step's loss from that of the same step call by call."""
        assert self.eager is not None
        assert self.compiled is not None
        pairs = zip(self.compiled.losses, self.eager.losses, strict=True)
        return [abs(found - wanted) / abs(wanted) if math.isfinite(found) else math.inf for found, wanted in pairs]

    @property
    def weight_error(self) -> float:
        """The largest deviation of a parameter after the last step, over how far it moved, as Frobenius norms."""
        assert self.eager is not None
        assert self.compiled is not None
        worst = 0.0
        for name, wanted in self.eager.weights.items():
            found = self.compiled.weights[name]
            if not bool(found.isfinite().all()):
                return math.inf
            worst = max(worst, float((found - wanted).norm() / wanted.norm().clamp(min=1e-12)))
        return worst


def compare(accelerator: Accelerator, backend: str, steps: int) -> CompiledComparison:
    """Train both ways from the same weights with the same data. Raises what is no refusal of the compiler."""
    size = transformer.Size(layers=1)
    draw = accelerator.generator("compiled", backend)
    weights = transformer.build(draw, size).state_dict()
    batches = [transformer.text(draw, size.vocabulary, 2, 17) for _ in range(steps)]
    eager = _train(accelerator, weights, size, batches, None)
    with _counted() as counters:
        try:
            first: list[int] = []
            compiled = _train(accelerator, weights, size, batches, backend, lambda: first.append(_graphs(counters)))
        except Exception as problem:  # compilers raise their own kinds
            if is_unsupported(problem) or is_of_compiler(problem):
                return CompiledComparison(refusal=describe(problem))
            raise
        return CompiledComparison(
            eager, compiled, _graphs(counters), first[-1] - first[0], sum(counters["graph_break"].values())
        )


@contextlib.contextmanager
def _counted() -> Iterator[Any]:
    import torch._dynamo.utils as dynamo

    torch._dynamo.reset()
    dynamo.counters.clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield dynamo.counters
    finally:
        torch._dynamo.reset()


def _graphs(counters: Any) -> int:
    return int(counters["stats"]["unique_graphs"])


def _train(
    accelerator: Accelerator, weights: dict[str, Tensor], size: transformer.Size, batches: list[Tensor],
    backend: str | None, after: Any = lambda: None,
) -> Steps:  # fmt: skip
    model = transformer.copy(weights, torch.float32, size).to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, eps=_EPS)
    loss_of: Any = model.loss
    update: Any = optimizer.step
    if backend is not None:
        loss_of = torch.compile(loss_of, backend=backend)
        update = torch.compile(optimizer.step, backend=backend)
    losses, seconds = [], []
    for tokens in batches:
        given = tokens.to(accelerator.device)
        accelerator.synchronize()
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of(given)
        loss.backward()
        update()
        losses.append(float(loss.detach().cpu()))
        accelerator.synchronize()
        seconds.append(time.perf_counter() - started)
        after()
    kept = {name: parameter.detach().cpu().double() for name, parameter in model.named_parameters()}
    return Steps(tuple(losses), tuple(seconds), kept)
