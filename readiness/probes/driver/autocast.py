"""One trial of autocast on a device. Only workers import this: it imports torch."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import torch


@dataclass(slots=True)
class Trial:
    """Result of a trial: the refusal of the dtype, an error, and results with their float64 references."""

    refusal: str | None = None
    problems: list[str] = field(default_factory=list)
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)


def try_autocast(device: torch.device, dtype: torch.dtype, inputs: torch.Tensor, weight: torch.Tensor) -> Trial:
    """Run a linear layer forward and backward under autocast; `inputs` and square `weight` are on the host."""
    trial = Trial()
    try:
        # Autocast only warns of a dtype that it does not know, and switches itself off.
        with (
            warnings.catch_warnings(action="error", category=UserWarning),
            torch.autocast(device_type=device.type, dtype=dtype),
        ):
            enabled = torch.is_autocast_enabled(device.type)
        if not enabled:
            trial.refusal = "autocast switched itself off"
            return trial
    except (RuntimeError, UserWarning, NotImplementedError) as problem:
        trial.refusal = f"{type(problem).__name__}: {problem}"
        return trial
    x = inputs.clone().to(device).requires_grad_()
    w = weight.clone().to(device).requires_grad_()
    try:
        with torch.autocast(device_type=device.type, dtype=dtype):
            product = torch.nn.functional.linear(x, w)
            _expect(trial, "a linear layer under autocast", product.dtype, dtype)
            _expect(trial, "a matrix product under autocast", (x @ w).dtype, dtype)
            with torch.autocast(device_type=device.type, enabled=False):
                _expect(trial, "a matrix product with autocast off inside", (x @ w).dtype, torch.float32)
        _expect(trial, "a matrix product after autocast", (x @ w).dtype, torch.float32)
        product.float().square().mean().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError) as problem:
        trial.problems.append(f"{type(problem).__name__}: {problem}")
        return trial
    reference_x, reference_w = inputs.double().requires_grad_(), weight.double().requires_grad_()
    reference = torch.nn.functional.linear(reference_x, reference_w)
    reference.square().mean().backward()  # type: ignore[no-untyped-call]
    trial.pairs.append((product.detach(), reference.detach()))
    for name, found, wanted in (("inputs", x.grad, reference_x.grad), ("weights", w.grad, reference_w.grad)):
        if found is None or wanted is None:
            trial.problems.append(f"the {name} have no gradient")
            continue
        _expect(trial, f"the gradient of the {name}", found.dtype, torch.float32)
        trial.pairs.append((found, wanted))
    return trial


def _expect(trial: Trial, what: str, found: torch.dtype, wanted: torch.dtype) -> None:
    if found != wanted:
        trial.problems.append(f"{what} is {found}, not {wanted}")


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the norm of the deviation over that of the reference; infinite for another shape, NaN or infinity."""
    value = found.detach().cpu().double()
    if value.shape != wanted.shape or not bool(value.isfinite().all()):
        return math.inf
    return float((value - wanted).norm() / wanted.norm())
