"""What the tests of parity share: planted defects, the limits that the shipped profiles use, and their judgement."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from readiness.datamodel import Evidence, Status

Tensor = torch.Tensor
Change = Callable[..., Any]


class Defect(TorchFunctionMode):
    """While it is on, torch functions of these names go through `change(function, *args, **kwargs)`.

    Calls with a float64 or boolean tensor are left alone: they are the reference and the comparison.
    """

    def __init__(self, names: Iterable[str], change: Change) -> None:
        super().__init__()
        self.names = frozenset(names)
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        reference = any(isinstance(item, Tensor) and item.dtype in (torch.float64, torch.bool) for item in args)
        if name in self.names and not reference:
            return self.change(func, *args, **kwargs)
        return func(*args, **kwargs)


def refuse(*dtypes: torch.dtype) -> Change:
    """A device that lacks the function for these dtypes."""

    def change(function: Any, *args: Any, **kwargs: Any) -> Any:
        if args[0].dtype in dtypes:
            raise NotImplementedError(f"{function.__name__!r} not implemented for {args[0].dtype}")
        return function(*args, **kwargs)

    return change


def spoil(result: Callable[[Tensor], Tensor]) -> Change:
    """A device whose function gives something else than it should."""
    return lambda function, *args, **kwargs: result(function(*args, **kwargs))


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself; its gradient comes out wrong by this factor."""
    scaled: Tensor = _ScaledGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return scaled


def violations(evidence: Evidence, limits: dict[tuple[str, ...], float]) -> list[str]:
    """What exceeds its limit. Keys are a measurement's name and label values that must all be there; NaN exceeds all."""
    assert evidence.status is Status.MEASURED, evidence.reason
    found = []
    for (name, *labels), limit in limits.items():
        requirements = [
            item for item in evidence.measurements if item.name == name and set(labels) <= set(item.labels.values())
        ]
        found += [f"{name} {dict(item.labels)} {item.value}" for item in requirements if not item.value <= limit]
    return found
