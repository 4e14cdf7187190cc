"""Random number generators: reproducibility and distribution. Only workers import this."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from readiness.accelerators.base import Accelerator

Draw = Callable[[], torch.Tensor]
Promise = tuple[str, str, bool]

_REFUSALS = (NotImplementedError, RuntimeError, TypeError, AttributeError)


def promises(accelerator: Accelerator, numbers: int) -> tuple[list[Promise], str | None]:
    """Yield generator, property and whether it holds; and why the device has no generator of its own, if so.

    The global state of the host is put back; that of the device is not: this process is about to end.
    """
    device = accelerator.device
    seed = int(torch.randint(1, 2**31, (), generator=accelerator.generator("random", "seed")))
    host_state = torch.get_rng_state()
    kept: list[Promise] = []
    try:
        kept += [("default", *item) for item in _default(accelerator, numbers, seed)]
    finally:
        torch.set_rng_state(host_state)
    try:
        own = torch.Generator(device=device)
        torch.rand(2, device=device, generator=own)
    except _REFUSALS as problem:
        return kept, f"{type(problem).__name__}: {problem}"

    def draw() -> torch.Tensor:
        return torch.randn(numbers, device=device, generator=own)

    kept += [
        ("of its own", *item) for item in _repeats(draw, own.manual_seed, seed, own.get_state, own.set_state)
    ]
    return kept, None


def _default(accelerator: Accelerator, numbers: int, seed: int) -> Iterator[tuple[str, bool]]:
    device = accelerator.device
    module: Any = torch if device.type == "cpu" else accelerator.stack.module()
    read, write = getattr(module, "get_rng_state", None), getattr(module, "set_rng_state", None)
    yield from _repeats(lambda: torch.randn(numbers, device=device), torch.manual_seed, seed, read, write)

    ones = torch.rand(numbers, generator=accelerator.generator("random", "dropout")).to(device) + 1
    torch.manual_seed(seed)
    first = torch.nn.functional.dropout(ones, 0.5)
    torch.manual_seed(seed)
    yield "dropout repeats from a seed", torch.equal(first.cpu(), torch.nn.functional.dropout(ones, 0.5).cpu())


def _repeats(
    draw: Draw,
    plant: Callable[[int], object],
    seed: int,
    read: Callable[[], torch.Tensor] | None,
    write: Callable[[torch.Tensor], object] | None,
) -> Iterator[tuple[str, bool]]:
    plant(seed)
    first, following = draw().cpu(), draw().cpu()
    plant(seed)
    yield "the same seed gives the same numbers", torch.equal(first, draw().cpu())
    yield "numbers do not repeat without the seed", not torch.equal(first, following)
    plant(seed + 1)
    yield "another seed gives other numbers", not torch.equal(first, draw().cpu())
    if read is None or write is None:
        return
    state = read()
    expected = draw().cpu()
    draw()
    write(state)
    yield "a restored state continues where it was", torch.equal(expected, draw().cpu())


def moment_errors(accelerator: Accelerator, numbers: int) -> Iterator[tuple[str, float | None, dict[str, Any]]]:
    """Yield distribution, largest moment error in standard errors, and each one's; None and the reason if refused."""
    device = accelerator.device
    seed = int(torch.randint(1, 2**31, (), generator=accelerator.generator("random", "moments")))
    ones = torch.ones(numbers)
    kinds: dict[str, tuple[Draw, tuple[float, float], Callable[[torch.Tensor], dict[str, float]]]] = {
        "normal": (lambda: torch.randn(numbers, device=device), (-math.inf, math.inf), _normal),
        "uniform": (lambda: torch.rand(numbers, device=device), (0.0, 1.0), _uniform),
        "bernoulli": (
            lambda: torch.empty(numbers, device=device).bernoulli_(0.25), (0.0, 1.0), lambda x: _share(x, 0.25)
        ),
        "dropout": (
            lambda: torch.nn.functional.dropout(ones.to(device), 0.1) * 0.9, (0.0, 1.0), lambda x: _share(x, 0.9)
        ),
    }  # fmt: skip
    host_state = torch.get_rng_state()
    try:
        for position, (name, (draw, (low, high), moments)) in enumerate(kinds.items()):
            torch.manual_seed(seed + position)
            try:
                sample = draw().cpu().double()
            except _REFUSALS as problem:
                yield name, None, {"refused": f"{type(problem).__name__}: {problem}"}
                continue
            if not bool(sample.isfinite().all()) or bool(((sample < low) | (sample > high + 1e-6)).any()):
                yield name, math.inf, {"problem": "not finite, or outside the range"}
                continue
            found = moments(sample) | {"repetition": _repetition(sample)}
            yield name, max(map(abs, found.values())), {key: round(value, 3) for key, value in found.items()}
    finally:
        torch.set_rng_state(host_state)


def _normal(x: torch.Tensor) -> dict[str, float]:
    """Return mean, second to fourth moment and correlation of neighbours; their variances over n are 1, 2, 15, 96, 1."""
    n = x.numel()
    return {
        "mean": float(x.mean()) * math.sqrt(n),
        "variance": (float(x.square().mean()) - 1) * math.sqrt(n / 2),
        "skewness": float(x.pow(3).mean()) * math.sqrt(n / 15),
        "kurtosis": (float(x.pow(4).mean()) - 3) * math.sqrt(n / 96),
        "neighbours": float((x[1:] * x[:-1]).mean()) * math.sqrt(n - 1),
    }


def _uniform(x: torch.Tensor) -> dict[str, float]:
    """Return mean (variance 1/12), second moment (variance 4/45), and correlation of neighbours (1/144)."""
    n = x.numel()
    centred = x - 0.5
    return {
        "mean": float(centred.mean()) * math.sqrt(12 * n),
        "second": (float(x.square().mean()) - 1 / 3) * math.sqrt(45 * n / 4),
        "neighbours": float((centred[1:] * centred[:-1]).mean()) * 12 * math.sqrt(n - 1),
    }


def _repetition(x: torch.Tensor) -> float:
    """Return the largest autocorrelation of the numbers, over lags at which streams are known to repeat.

    Powers of two, where counters and blocks of threads wrap, and halves and quarters of the whole. In standard errors.
    """
    n = x.numel()
    centred = x - x.mean()
    variance = float(centred.square().mean())
    if variance == 0:
        return math.inf
    steps = {2**power for power in range(1, n.bit_length()) if 2**power <= n // 2} | {n // 2, n // 4, 3 * n // 4}
    found = [float((centred[step:] * centred[:-step]).mean()) / variance * math.sqrt(n - step) for step in steps if step]
    return max(found, key=abs, default=0.0)


def _share(x: torch.Tensor, p: float) -> dict[str, float]:
    return {"share": (float(x.mean()) - p) * math.sqrt(x.numel() / (p * (1 - p)))}
